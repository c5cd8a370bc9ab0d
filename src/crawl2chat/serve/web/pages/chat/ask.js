/** Having a question answered: what fits goes to the server, and the answer comes back token by token. */

import { effect, signal } from "@preact/signals";
import { modelNamed } from "../../common/about.js";
import { ApiError, post, stream } from "../../common/api.js";
import { changed, conversation, sampling, save, seed, setup, system } from "./state.js";
import { add, children, upTo } from "./tree.js";

/** @typedef {import("./tree.js").Node} Node */
/** @typedef {import("./tree.js").Thread} Thread */
/** @typedef {{text: import("@preact/signals").Signal<string>, words: import("@preact/signals").Signal<string>, stop: AbortController}} Live */

const MOST_ROUNDS = 3; // of tool calls in one answer, as in the terminal
const TOP = 5; // most probable tokens that are kept for each place
const MOST_LOGPROBS = 40_000; // tokens of an answer beyond which none are kept, as the server takes only so many

/** The answers that are being written. @type {import("@preact/signals").Signal<Map<string, Live>>} */
export const live = signal(new Map());

let leaving = false; // the page is being left, which breaks connections off
addEventListener("beforeunload", () => (leaving = true));
addEventListener("pageshow", () => (leaving = false));

/** End all answers that are being written; what there is of them stays. */
export function stopAll() {
  for (const { stop } of live.peek().values()) stop.abort();
}

let shown = "";
// an answer of a conversation that is no longer shown would be written for nobody: only the shown one is kept
effect(() => {
  const { id } = conversation.value;
  if (id !== shown) stopAll();
  shown = id;
});

/**
 * Answer the message that `parent` is. A cut answer goes on as another version of itself.
 * @param {Thread} thread @param {string} parent @param {Node} [cut]
 */
export async function answer(thread, parent, cut) {
  const stop = new AbortController();
  let at = parent;
  for (let round = 0; ; round++) {
    const node = add(thread, at, blank(thread, at, round === 0 ? cut : undefined));
    changed();
    await write(thread, node, stop, round === 0 ? cut : undefined);
    if (!node.calls?.length || node.made?.ended === "stopped" || node.made?.ended === "error") break;
    if (round === MOST_ROUNDS) {
      node.made = { .../** @type {import("./tree.js").Made} */ (node.made), ended: "rounds" };
      break;
    }
    const last = await useTools(thread, node, stop);
    if (!last) break;
    at = last;
  }
  changed();
  save();
}

/** @param {Thread} thread @param {string} parent @param {Node} [cut] @returns {Omit<Node, "id" | "parent">} */
function blank(thread, parent, cut) {
  const versions = children(thread, parent).length;
  const given = seed.value.trim() === "" ? NaN : Number(seed.value);
  // with a seed that is given, the versions of an answer have the seeds from there on, and can be drawn again
  const drawn = Number.isSafeInteger(given) ? given + (cut ? 0 : versions) : Math.floor(Math.random() * 2 ** 31);
  const made = { model: thread.who.model, text: thread.who.text, temperature: sampling.temperature.value, seed: drawn, how: howMade(thread) };
  return { role: "assistant", text: cut?.text ?? "", made };
}

/** All that an answer depends on but chance and the question: equal for answers that are equal at temperature 0. @param {Thread} thread */
export function howMade(thread) {
  return JSON.stringify([thread.who, system.value.trim(), Object.values(sampling).map((value) => value.value)]);
}

/** @param {Thread} thread @param {Node} node @param {AbortController} stop @param {Node} [cut] */
async function write(thread, node, stop, cut) {
  const made = /** @type {import("./tree.js").Made} */ (node.made);
  const began = performance.now();
  /** @type {Live} */
  const now = { text: signal(node.text), words: signal("waiting …"), stop };
  live.value = new Map(live.value).set(node.id, now);
  node.tokens = [...(cut?.tokens ?? [])];
  node.ids = [...(cut?.ids ?? [])];
  let frame = 0;
  let first = 0;
  const show = () => {
    frame = 0;
    now.text.value = node.text;
    const rate = (node.ids?.length ?? 0) - (cut?.ids?.length ?? 0) - 1;
    const seconds = (performance.now() - first) / 1000;
    now.words.value = rate > 0 && seconds > 0.2 ? `${Math.round(rate / seconds)} tokens/s` : "writing …";
  };
  /** @param {any} event */
  const onEvent = (event) => {
    const choice = event.choices?.[0];
    if (event.usage) {
      made.read = event.usage.prompt_tokens;
      made.written = (cut?.made?.written ?? 0) + event.usage.completion_tokens;
    }
    if (!choice) return;
    if (choice.prompt_token_ids) node.promptIds = choice.prompt_token_ids;
    if (choice.token_ids?.length) {
      first ||= performance.now();
      node.ids?.push(...choice.token_ids);
    }
    node.tokens?.push(...(thread.who.text ? ofCompletion(choice) : ofChat(choice)));
    node.text += choice.delta?.content ?? choice.text ?? "";
    for (const call of choice.delta?.tool_calls ?? []) {
      (node.calls ??= []).push({ id: call.id, name: call.function.name, arguments: call.function.arguments });
    }
    if (choice.finish_reason) made.ended = choice.finish_reason === "tool_calls" ? "tools" : choice.finish_reason;
    frame ||= requestAnimationFrame(show);
  };
  try {
    const body = await request(thread, node, cut, stop.signal);
    await stream(thread.who.text ? "/v1/completions" : "/v1/chat/completions", body, { signal: stop.signal, onEvent });
    const context = modelNamed(thread.who.model)?.context ?? 0;
    const full = (made.read ?? 0) + (node.ids.length - (cut?.ids?.length ?? 0)) >= context;
    if (made.ended === "length" && full) made.ended = "context";
    made.ended ??= "stopped";
  } catch (error) {
    if (stop.signal.aborted || leaving) made.ended = "stopped";
    else {
      made.ended = "error";
      made.error = error instanceof ApiError ? error.message : "The connection to the server broke off.";
      if (!(error instanceof ApiError)) console.info(error);
    }
  }
  cancelAnimationFrame(frame);
  made.first = first ? (first - began) / 1000 : undefined;
  made.seconds = (performance.now() - (first || began)) / 1000;
  made.written ??= node.ids.length;
  node.text = node.text.replace(/\ufffd+$/, (cuts) => (made.ended === "stop" ? cuts : "")); // half a character
  const others = new Map(live.value);
  others.delete(node.id);
  live.value = others;
}

/**
 * The body for the server, without the oldest turns where the conversation is longer than the model's context.
 * @param {Thread} thread @param {Node} node @param {Node | undefined} cut @param {AbortSignal} signal
 */
async function request(thread, node, cut, signal) {
  const made = /** @type {import("./tree.js").Made} */ (node.made);
  const before = node.parent ? upTo(thread, node.parent) : [];
  const keeps = sampling.max_tokens.value <= MOST_LOGPROBS;
  const common = {
    model: thread.who.model || undefined,
    ...Object.fromEntries(Object.entries(sampling).map(([name, value]) => [name, value.value])),
    seed: made.seed,
    stream: true,
    stream_options: { include_usage: true },
    return_token_ids: true,
    controlled_logprobs: keeps,
  };
  if (thread.who.text) {
    const prompt = [...before.map((message) => message.text)].join("\n") + (cut?.text ?? "");
    return { ...common, prompt, logprobs: keeps ? TOP : undefined };
  }
  const said = before.map(asMessage);
  const first = system.value.trim() && before[0]?.role !== "system" ? [{ role: "system", content: system.value.trim() }] : [];
  const body = {
    ...common,
    messages: [...first, ...said, ...(cut ? [{ role: "assistant", content: cut.text }] : [])],
    tools: thread.who.tools ? setup.value?.tools : undefined,
    continue_final_message: cut ? true : undefined,
    logprobs: keeps,
    top_logprobs: keeps ? TOP : undefined,
  };
  const { left_out } = await post("/app/chat/fit", body, { signal });
  if (left_out) {
    const systems = body.messages[0].role === "system" ? 1 : 0;
    body.messages.splice(systems, left_out);
    made.leftOut = left_out;
  }
  return body;
}

/** A message as OpenAI's API has it. @param {Node} node */
export function asMessage(node) {
  if (node.role === "tool") return { role: "tool", content: node.text };
  const calls = node.calls?.map(({ id, name, arguments: given }) => ({ id, type: "function", function: { name, arguments: given } }));
  return { role: node.role, content: node.text, ...(calls?.length ? { tool_calls: calls } : {}) };
}

/**
 * Have the server carry out the calls of a message; the id of the last result, or null where that was stopped.
 * @param {Thread} thread @param {Node} node @param {AbortController} stop
 */
async function useTools(thread, node, stop) {
  const asked = upTo(thread, node.id).findLast((message) => message.role === "user")?.text ?? "";
  let at = node.id;
  for (const call of node.calls ?? []) {
    try {
      const given = JSON.parse(call.arguments);
      const found = await post("/app/chat/tool", { name: call.name, arguments: given, asked }, { signal: stop.signal });
      at = add(thread, at, { role: "tool", text: found.result, page: found.page, address: found.address }).id;
    } catch (error) {
      const made = /** @type {import("./tree.js").Made} */ (node.made);
      made.ended = stop.signal.aborted ? "stopped" : "error";
      if (!stop.signal.aborted) made.error = error instanceof Error ? error.message : String(error);
      return null;
    }
    changed();
  }
  return at;
}

// tokens

/** @param {any} choice @returns {import("./tree.js").Token[]} */
function ofChat(choice) {
  return (choice.logprobs?.content ?? []).map((/** @type {any} */ entry) => ({
    ...(entry.bytes && entry.token.length !== BYTES.length + 4 * entry.bytes.length ? { s: entry.token } // not its bytes
      : spelled(entry.token, entry.bytes === null)),
    p: share(entry.logprob),
    q: share(entry.controlled_logprob),
    top: entry.top_logprobs.map((/** @type {any} */ other) => [other.token, share(other.logprob)]),
  }));
}

/** @param {any} choice @returns {import("./tree.js").Token[]} */
function ofCompletion(choice) {
  const lists = choice.logprobs;
  return (lists?.tokens ?? []).map((/** @type {string} */ token, /** @type {number} */ i) => ({
    ...spelled(token, /^<\|\w+\|>$/.test(token)),
    p: share(lists.token_logprobs[i]),
    q: share(lists.controlled_token_logprobs[i]),
    top: Object.entries(lists.top_logprobs[i] ?? {}).slice(0, TOP).map(([text, logprob]) => [text, share(logprob)]),
  }));
}

const BYTES = "bytes:"; // how the server writes a token that is no whole characters: bytes:\xe4\xb8

/** @param {string} token @param {boolean} control @returns {{s: string | null, b?: string, c?: boolean}} */
export function spelled(token, control = false) {
  if (!control && /^bytes:(\\x[0-9a-f]{2})+$/.test(token)) return { s: null, b: token.slice(BYTES.length).replaceAll("\\x", "") };
  return control ? { s: token, c: true } : { s: token };
}

/** @param {number} logprob in nats @returns {number} with four digits, which are enough to show and to keep */
function share(logprob) {
  return Number(Math.exp(logprob).toPrecision(4));
}
