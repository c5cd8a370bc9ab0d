/** Asking in all ways at the same time: each answer comes token by token. */

import { signal } from "@preact/signals";
import { stream } from "../../common/api.js";
import { body, draw, model, possible } from "./state.js";

/** @typedef {import("./state.js").Way} Way */
/**
 * @typedef {{id: number, text: string | null, bytes: string, control: boolean, p: number, q: number}} Token
 *   p: its log-probability by the model; q: after the temperature
 * @typedef {{prompt: number[], text: string, tokens: Token[]}} Round what was read and written up to a call or the end
 * @typedef {{calls?: {name: string, arguments: Record<string, any>}[], result?: string}} Step
 * @typedef {{kind: string, says: string, place: [number, number] | null, token: number | null}} Fault
 * @typedef {{why: string, right: boolean | null, text: string, written: number, read: number, fault: Fault | null}} Ended
 * @typedef {{rounds: Round[], steps: Step[], ended: Ended | null}} Draw
 * @typedef {{way: Way, asked: string, draws: Draw[], error: Error | null, done: boolean}} Column
 */

/** @type {import("@preact/signals").Signal<Column[]>} */
export const columns = signal([]);
/** The problem that the columns answer, and the model that does. */
export const asked = signal({ question: "", model: "" });
/** @type {import("@preact/signals").Signal<AbortController | null>} */
export const running = signal(null);

export async function ask() {
  running.value?.abort();
  const abort = new AbortController();
  running.value = abort;
  const wanted = body();
  asked.value = { question: wanted.question, model: model.value };
  draw.value = Math.min(draw.value, wanted.draws - 1);
  columns.value = (possible.value ?? []).filter((way) => !way.why_not).map(({ way, asked: words }) => ({
    way, asked: words.replace("…", () => wanted.question), error: null, done: false,
    draws: Array.from({ length: wanted.draws }, () => ({ rounds: [], steps: [], ended: null })),
  }));
  await Promise.all(columns.value.map((column) => one(column, { ...wanted, way: column.way }, abort)));
  if (running.value === abort) running.value = null;
}

/** @param {Column} column changed as events come @param {Record<string, any>} wanted @param {AbortController} abort */
async function one(column, wanted, abort) {
  let frame = 0;
  const show = () => {
    frame = 0;
    // new objects, as parts of the page that read signals are only drawn again for those
    const now = { ...column, draws: column.draws.map((one) => ({ ...one })) };
    if (running.value === abort) columns.value = columns.value.map((other) => (other.way === column.way ? now : other));
  };
  try {
    await stream("/app/thinking/answer", wanted, {
      signal: abort.signal,
      onEvent: (event) => {
        take(column.draws[event.draw], event);
        frame ||= requestAnimationFrame(show);
      },
    });
  } catch (problem) {
    if (!abort.signal.aborted) column.error = /** @type {Error} */ (problem);
  }
  cancelAnimationFrame(frame);
  column.done = true;
  show();
}

/** @param {Draw} one @param {any} event */
function take(one, event) {
  if (event.prompt) one.rounds.push({ prompt: event.prompt, text: "", tokens: [] });
  if (event.tokens) {
    const last = one.rounds[one.rounds.length - 1];
    last.tokens.push(...event.tokens);
    last.text += event.text;
  }
  if (event.step) one.steps.push(event.step);
  if (event.ended) one.ended = event.ended;
}
