/** What an annotator is shown and says: the state of the page, and its conversation with the server. */

import { effect, signal } from "@preact/signals";
import { ApiError, post } from "../../common/api.js";
import { urlState } from "../../common/state.js";
import { complete, groups, untouched } from "./order.js";

/**
 * @typedef {{role: string, content: string}} Message
 * @typedef {{text: string, ended: boolean}} Answer
 * @typedef {{id: number, messages: Message[], answers: Answer[]}} Assignment
 * @typedef {{done: number, total: number, ranked: number, all_bad: number, skipped: number}} Progress
 * @typedef {{author: string, stage: string | null}} Author
 */

const NAME = "annotator";

export const annotator = urlState("annotator", /** @type {string} */ (""));
export const answersWanted = urlState("answers", /** @type {number} */ (4));
export const sources = urlState("from", /** @type {string[]} */ ([]));
/** Whether single keys act, which somebody who dictates may not want. */
export const keysAct = urlState("keys", /** @type {boolean} */ (true));
export const reveal = urlState("reveal", /** @type {boolean} */ (false));

if (!annotator.value) annotator.value = localStorage.getItem(NAME) ?? "";

/** @type {import("@preact/signals").Signal<Assignment | null>} */
export const shown = signal(null);
export const progress = signal(/** @type {Progress | null} */ (null));
export const order = signal(untouched(0));
export const busy = signal(false);
export const failure = signal(/** @type {Error | null} */ (null));
/** Who wrote the answers on the screen, once they have been judged. */
export const authors = signal(/** @type {Author[] | null} */ (null));
/** What a screen reader says next. */
export const said = signal("");

/** Seconds for which the answers on the screen have been in view. */
let seconds = 0;
let since = /** @type {number | null} */ (null); // null while nobody looks
let watching = false; // whether the page shows the question, and not another view
let askedFor = ""; // the annotator who was last asked about
let asking = new AbortController();
let latest = 0; // request; the others are no longer waited for

/** @returns {number} */
export function secondsSpent() {
  return seconds + (since === null ? 0 : (performance.now() - since) / 1000);
}

/** The clock goes on while the question is in view, and stands still otherwise. */
function mind() {
  const running = watching && document.visibilityState === "visible" && shown.value && !authors.value;
  if (running) since ??= performance.now();
  else {
    seconds = secondsSpent();
    since = null;
  }
}

/** The question comes into view, with the annotator that the address names. @returns {() => void} for when it goes */
export function watch() {
  watching = true;
  if (askedFor !== annotator.value) begin(annotator.value);
  mind();
  return () => {
    watching = false;
    mind();
  };
}

/** Begin, or go on, under a name. @param {string} name */
export function begin(name) {
  annotator.value = name.trim();
  localStorage.setItem(NAME, annotator.value);
  return next();
}

/** Give another annotator the screen. */
export function leave() {
  asking.abort();
  keep();
  annotator.value = askedFor = "";
  localStorage.removeItem(NAME);
  shown.value = authors.value = progress.value = failure.value = null;
  mind();
}

/** Show what is to be judged now. */
export async function next() {
  asking.abort();
  asking = new AbortController();
  const { signal: aborted } = asking;
  askedFor = annotator.value;
  await trying(async () => {
    const body = {
      annotator: annotator.value, answers: answersWanted.value, sources: sources.value.length ? sources.value : null,
    };
    const told = await post("/app/ranking/next", body, { signal: aborted });
    show(told.assignment);
    progress.value = told.progress;
  });
}

/** @param {Assignment | null} assignment */
function show(assignment) {
  authors.value = null;
  const kept = assignment && JSON.parse(sessionStorage.getItem(key(assignment)) ?? "null");
  const k = assignment?.answers.length ?? 0;
  order.value = kept?.order?.order?.length === k ? kept.order : untouched(k);
  seconds = kept?.seconds ?? 0;
  since = null;
  shown.value = assignment;
  mind();
  said.value = assignment ? `A new question with ${k} answers.` : "All is done.";
}

/**
 * Store a judgement of what is on the screen, and go on.
 * @param {"ranked" | "all_bad" | "skipped"} verdict
 */
export async function judge(verdict) {
  const assignment = shown.value;
  if (!assignment || busy.value || authors.value) return;
  if (verdict === "ranked" && !complete(order.value)) {
    said.value = "Put the answers in order first: press their numbers, best first, or drag them.";
    return;
  }
  await trying(async () => {
    const told = await post("/app/ranking/judge", {
      annotator: annotator.value, assignment: assignment.id, verdict, seconds: secondsSpent(), reveal: reveal.value,
      best_first: verdict === "ranked" ? groups(order.value) : null,
    });
    sessionStorage.removeItem(key(assignment));
    said.value = { ranked: "Stored.", all_bad: "Stored: all bad.", skipped: "Skipped." }[verdict];
    if (told.written_by) {
      authors.value = told.written_by;
      mind();
      const { ranked, all_bad, skipped, done, total } = progress.value ?? { ranked: 0, all_bad: 0, skipped: 0, done: 0, total: 0 };
      progress.value = { ranked, all_bad, skipped, done: done + 1, total };
    }
  });
  const refusal = failure.value;
  const elsewhere = refusal instanceof ApiError && refusal.status === 409; // judged in another tab, as a rule
  if ((!refusal && !authors.value) || elsewhere) await next();
  failure.value ??= refusal;
}

/** Take the last judgement back and show what it was about. */
export async function undo() {
  if (busy.value) return;
  let undone = false;
  await trying(async () => {
    ({ undone } = await post("/app/ranking/undo", { annotator: annotator.value }));
  });
  if (failure.value) return;
  if (!undone) {
    said.value = "There is nothing to take back.";
    return;
  }
  keep();
  await next();
  said.value = "Taken back. This is the question again.";
}

/** @param {() => Promise<void>} work */
async function trying(work) {
  const mine = ++latest;
  busy.value = true;
  failure.value = null;
  try {
    await work();
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") return;
    failure.value = error instanceof Error ? error : new ApiError(String(error), 0);
  } finally {
    if (mine === latest) busy.value = false;
  }
}

/** The order so far and the time spent, so that a reload loses neither. */
function keep() {
  if (!shown.value || authors.value) return;
  sessionStorage.setItem(key(shown.value), JSON.stringify({ order: order.value, seconds: secondsSpent() }));
}

/** @param {Assignment} assignment */
function key(assignment) {
  return `ranking ${annotator.value} ${assignment.id}`;
}

effect(() => {
  if (order.value.placed) keep();
});
addEventListener("pagehide", keep);
document.addEventListener("visibilitychange", mind);
