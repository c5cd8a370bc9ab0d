/** What can be done with a conversation: ask, edit, regenerate, go on, compare. */

import { answer, howMade, live } from "./ask.js";
import { begin, changed, conversation, draft, hint, MOST_COLUMNS, note, sampling, save, setColumns } from "./state.js";
import { add, children, choose, lastQuestion, path, questionsFor, ROOT, upTo, whoText } from "./tree.js";

/** @typedef {import("./tree.js").Node} Node */
/** @typedef {import("./tree.js").Thread} Thread */

const TITLE_LENGTH = 60;

/** @param {Thread} thread */
export const isWriting = (thread) => path(thread).some((node) => live.value.has(node.id));

/** Whether anything is being written that is shown. */
export const anyWriting = () => conversation.value.threads.some(isWriting);

/**
 * Put a question to every column, behind what is shown there.
 * @param {string} text @param {boolean} [scrolls] to the end of the page
 */
export function ask(text, scrolls = true) {
  if (!text.trim() || anyWriting()) return;
  draft.value = "";
  note.value = "";
  conversation.value.title ||= text.trim().slice(0, TITLE_LENGTH);
  for (const thread of conversation.value.threads) {
    const shown = path(thread);
    const unanswered = shown.at(-1)?.role === "user" ? shown.at(-1) : undefined;
    const parent = unanswered ? unanswered.parent : (shown.at(-1)?.id ?? ROOT);
    const question = add(thread, parent, { role: "user", text: text.trim() });
    void answer(thread, question.id);
  }
  save();
  if (scrolls) requestAnimationFrame(() => scrollTo({ top: document.documentElement.scrollHeight }));
}

/**
 * Ask another question in the place of one; also in the columns that show the same one at the same place.
 * @param {Thread} thread @param {Node} node @param {string} text
 */
export function edit(thread, node, text) {
  if (!text.trim() || text.trim() === node.text || anyWriting()) return;
  const place = path(thread).indexOf(node);
  for (const other of conversation.value.threads) {
    const same = other === thread ? node : path(other)[place];
    if (same?.role !== "user" || same.text !== node.text) continue;
    const question = add(other, same.parent, { role: "user", text: text.trim() });
    void answer(other, question.id);
  }
}

/** Answer the question before a message again, as another version. @param {Thread} thread @param {Node} node */
export function regenerate(thread, node) {
  if (isWriting(thread)) return;
  const question = upTo(thread, node.id).findLast((message) => message.role === "user");
  if (!question) return;
  const how = howMade(thread);
  const same = children(thread, question.id).some(({ made }) => made?.how === how && (made.ended === "stop" || made.ended === "tools"));
  if (same && sampling.temperature.value === 0) {
    note.value = "At temperature 0 the answer would be the same. Raise the temperature under Settings to let it vary.";
    return;
  }
  note.value = "";
  void answer(thread, question.id);
}

/** Regenerate the last answer of every column. */
export function regenerateAll() {
  for (const thread of conversation.value.threads) {
    const last = path(thread).at(-1);
    if (last) regenerate(thread, last);
  }
}

/** Whether a message is an answer that was cut off and can go on. @param {Thread} thread @param {Node} node */
export function isCut(thread, node) {
  if (node.role !== "assistant" || node.calls?.length || !node.text) return false;
  const ended = node.made?.ended;
  // a full context has room again when the oldest turns are left out, if there are any
  const isRoom = !thread.who.text && upTo(thread, node.id).filter((message) => message.role === "user").length > 1;
  return ended === "length" || ended === "stopped" || ended === "error" || (ended === "context" && isRoom);
}

/** Go on with an answer that was cut off. @param {Thread} thread @param {Node} node */
export function goOn(thread, node) {
  if (!isWriting(thread) && isCut(thread, node)) void answer(thread, node.parent, node);
}

/** Go on with the last answer of every column that was cut off. */
export function goOnAll() {
  for (const thread of conversation.value.threads) {
    const last = path(thread).at(-1);
    if (last) goOn(thread, last);
  }
}

/** Show another version of the last answer in every column. @param {number} by */
export function otherVersions(by) {
  for (const thread of conversation.value.threads) {
    const question = lastQuestion(thread);
    const shown = question && path(thread).find((node) => node.parent === question.id);
    if (shown) choose(thread, shown, by);
  }
  changed();
}

/** A further column, which is asked what the first one was. @param {import("./tree.js").Who} who */
export function compare(who) {
  const { threads } = conversation.value;
  if (threads.length >= MOST_COLUMNS) return;
  const thread = questionsFor(threads[0], who);
  conversation.value.threads = [...threads, thread];
  changed();
  const question = lastQuestion(thread);
  if (question) void answer(thread, question.id);
}

/** @param {Thread} thread */
export function removeColumn(thread) {
  conversation.value.threads = conversation.value.threads.filter((other) => other !== thread);
  changed();
}

/** Begin a conversation with a preset's question, columns and temperature. @param {import("./state.js").Preset} preset */
export function askPreset(preset) {
  if (anyWriting()) return;
  if (conversation.value.threads.some((thread) => path(thread).length)) begin();
  setColumns(preset.columns.map(({ stage, tools, text }) => whoText({ model: stage, tools, text })));
  sampling.temperature.value = preset.temperature;
  hint.value = preset;
  ask(preset.question, false); // the hint above stays in view
}
