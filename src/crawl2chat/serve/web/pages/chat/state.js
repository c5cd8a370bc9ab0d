/** What the page Chat holds: the conversation that is shown, its settings in the address, and all of them on disk. */

import { effect, signal } from "@preact/signals";
import { about, modelNamed } from "../../common/about.js";
import { showState, urlState } from "../../common/state.js";
import { merge, newId, newThread, readWho, whoText } from "./tree.js";

/** @typedef {import("./tree.js").Thread} Thread */
/** @template T @typedef {import("@preact/signals").Signal<T>} Signal */
/** @typedef {{id: string, created: number, title: string, threads: Thread[]}} Conversation */
/** @typedef {{name: string, question: string, look_for: string, temperature: number,
 *   columns: {stage: string, tools: boolean, text: boolean}[]}} Preset */
/** @typedef {{presets: Preset[], tools: {type: "function", function: {name: string, description: string}}[],
 *   documents: boolean}} Setup */

export const MOST_COLUMNS = 5;

/** What is being typed, or what a teacher has prepared. @type {Signal<string>} */
export const draft = urlState("ask", "");
/** Who answers in each column. @type {Signal<string[]>} */
export const columns = urlState("with", [""]);
/** @type {Signal<string>} */
export const conversationId = urlState("c", "");
/** @type {Signal<string>} */
export const system = urlState("system", "");
/** @type {Signal<boolean>} */
export const showsTokens = urlState("tokens", false);
/** Of a match in the training documents. @type {Signal<number>} */
export const minWords = urlState("words", 5);
/** By the names that the API has for them. @type {Record<"temperature" | "top_k" | "top_p" | "min_p" |
 *   "repetition_penalty" | "presence_penalty" | "frequency_penalty" | "max_tokens", Signal<number>>} */
export const sampling = {
  temperature: urlState("temperature", 0),
  top_k: urlState("top_k", 0),
  top_p: urlState("top_p", 1),
  min_p: urlState("min_p", 0),
  repetition_penalty: urlState("repetition", 1),
  presence_penalty: urlState("presence", 0),
  frequency_penalty: urlState("frequency", 0),
  max_tokens: urlState("max", 512),
};
/** @type {Signal<string>} */
export const seed = urlState("seed", "");

/** @type {Signal<Setup | null>} */
export const setup = signal(null);
/** @type {Signal<Preset | null>} the preset whose hint is shown */
export const hint = signal(null);
/** @type {Signal<string>} a word about what was done, read out */
export const note = signal("");
/** @type {Signal<Conversation>} */
export const conversation = signal(empty());
/** Grows when the conversation has changed, which is not copied for that. */
export const changes = signal(0);
/** What went wrong with importing, exporting, and the like. @type {Signal<Error | null>} */
export const trouble = signal(null);
/** What went wrong with keeping the conversation; not `trouble`, since keeping it again would clear that. @type {Signal<Error | null>} */
export const unkept = signal(null);

let saving = 0;
/** Grows when something was stored. */
export const stored = signal(0);

/** Show what has changed, and keep it. */
export function changed() {
  changes.value += 1;
  columns.value = conversation.value.threads.map((thread) => whoText(thread.who));
  clearTimeout(saving);
  saving = setTimeout(save, 200);
}

/** @returns {Conversation} */
function empty() {
  return { id: newId(), created: Date.now(), title: "", threads: read(columns.peek()).map(newThread) };
}

/** Who is to answer, by the texts of an address, which may come from another run. @param {any[]} texts */
function read(texts) {
  const names = (about.peek()?.models ?? []).flatMap((model) => [model.name, model.stage, model.base ? "base" : ""]);
  const found = texts.slice(0, MOST_COLUMNS).map((text) => readWho(String(text))).map((who) => {
    const model = modelNamed(who.model);
    if (who.tools && model && !model.calls_tools) {
      note.value = `${model.title} was not taught to call tools, so it is asked without them.`;
      who = { ...who, tools: false };
    }
    if (!who.model || !names.length || names.includes(who.model)) return who;
    note.value = `There is no model “${who.model}” here; the default one answers in its place.`;
    return { ...who, model: "" };
  });
  return found.length ? found : [readWho("")];
}

/** Begin another conversation with the same columns; the one before stays in the list. */
export function begin() {
  save();
  conversation.value = empty();
  conversationId.value = "";
  hint.value = null;
  changed();
}

/** @param {string} id */
export function openConversation(id) {
  if (id === conversation.value.id) return;
  save();
  const found = load(id);
  if (!found) return;
  conversation.value = found;
  conversationId.value = id;
  hint.value = null;
  changed();
}

/** Put these columns in place of those that are there, as before a first question. @param {string[]} texts */
export function setColumns(texts) {
  const { threads } = conversation.value;
  conversation.value.threads = read(texts).map((who, i) => Object.assign(threads[i] ?? newThread(who), { who }));
  changed();
}

// on disk: each conversation under its own name, so that pages in several tabs don't write over each other's

const prefix = () => `crawl2chat chat ${about.peek()?.name} `;

/** @param {string} id @returns {Conversation | null} */
function load(id) {
  try {
    const found = JSON.parse(localStorage.getItem(prefix() + id) ?? "null");
    if (found?.id !== id || !Array.isArray(found.threads)) return null;
    for (const node of found.threads.flatMap((/** @type {Thread} */ thread) => Object.values(thread.nodes))) {
      if (node.made && !node.made.ended) node.made.ended = "stopped"; // by the end of the page
    }
    return found;
  } catch {
    return null;
  }
}

/** Keep the conversation; at once, as before the page goes. */
export function save() {
  clearTimeout(saving);
  const now = conversation.peek();
  if (!now.threads.some((thread) => Object.keys(thread.nodes).length)) return;
  const before = load(now.id);
  const threads = now.threads.map((thread) => merge(thread, before?.threads.find((other) => other.id === thread.id)));
  const key = prefix() + now.id;
  try {
    localStorage.setItem(key, JSON.stringify({ ...now, threads }));
    unkept.value = null;
  } catch {
    try { // texts matter more than how they were drawn
      localStorage.setItem(key, JSON.stringify({ ...now, threads }, (name, value) => LARGE.has(name) ? undefined : value));
      note.value = "This browser's storage is almost full: tokens and probabilities of this conversation are kept only until the page is closed.";
    } catch {
      unkept.value = new Error("This browser's storage is full, so this conversation is not kept. Export it, or delete older ones.");
    }
  }
  stored.value += 1;
  if (conversationId.peek() === now.id) return;
  conversationId.value = now.id;
  showState(); // at once: the page may be loaded again before the address is written
}

const LARGE = new Set(["tokens", "ids", "promptIds"]);

/** All that are kept for this run, the newest first. @returns {{id: string, title: string, created: number}[]} */
export function kept() {
  const found = [];
  for (let i = 0; i < localStorage.length; i++) {
    const key = localStorage.key(i) ?? "";
    const one = key.startsWith(prefix()) ? load(key.slice(prefix().length)) : null;
    if (one) found.push({ id: one.id, title: one.title, created: one.created });
  }
  return found.sort((a, b) => b.created - a.created);
}

/** @param {string} id */
export function forget(id) {
  if (id === conversation.value.id) {
    conversation.value = empty();
    conversationId.value = "";
  }
  localStorage.removeItem(prefix() + id);
  changed();
}

/** Follow the address: another conversation, or other columns, as after the back button or a changed link. */
export function followAddress() {
  return effect(() => {
    const id = conversationId.value;
    const wanted = columns.value;
    const now = conversation.peek();
    if (id && id !== now.id) {
      const found = load(id);
      if (found) conversation.value = found;
      else {
        conversationId.value = "";
        note.value = "The conversation of this link is not kept in this browser. Where it is, export it to a file, and import that here.";
      }
    } else if (JSON.stringify(wanted) !== JSON.stringify(now.threads.map((thread) => whoText(thread.who)))) {
      setColumns(wanted);
    }
  });
}
