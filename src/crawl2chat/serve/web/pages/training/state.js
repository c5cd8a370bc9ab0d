/** What the page Training looks at: which trainings, which of their curves, by what, and what the server knows of them. */

import { batch, computed, signal } from "@preact/signals";
import { get } from "../../common/api.js";
import { askForCurves } from "../../common/curves.js";
import { duration, brief } from "../../common/numbers.js";
import { urlState } from "../../common/state.js";

/**
 * @typedef {{name: string, title: string, evaluation: boolean}} FieldAbout
 * @typedef {{id: string, run: string, own: boolean, place: string, title: string, age: number, finished: boolean}} TrainingAbout
 * @typedef {TrainingAbout & {step: number, fields: FieldAbout[], axes: string[], n_skipped: number,
 *   skipped: {step: number, reason: string}[]}} TrainingState
 * @typedef {{version: string, share: number, trainings: TrainingState[], shown: string[],
 *   arrays: Record<string, any>}} Curves
 */

export const training = urlState("training", /** @type {string} */ ("")); // empty: the one that is being written, or the last one
export const beside = urlState("with", /** @type {string[]} */ ([]));
export const fields = urlState("fields", /** @type {string[]} */ ([]));
export const by = urlState("x", "step");
export const logX = urlState("log_x", false);
export const logY = urlState("log_y", false);
export const smooth = urlState("smooth", "16");
export const spread = urlState("spread", false);
export const from = urlState("from", /** @type {string} */ ("")); // numbers as text; empty: all
export const to = urlState("to", /** @type {string} */ (""));
export const evaluation = urlState("evaluation", /** @type {number} */ (-1)); // −1: the last one

export const trainings = signal(/** @type {TrainingAbout[] | null} */ (null));
export const curves = signal(/** @type {Curves | null} */ (null));
export const error = signal(/** @type {Error | null} */ (null));

export const AXES = [
  { value: "step", label: "steps" },
  { value: "tokens", label: "tokens" },
  { value: "seconds", label: "time in training" },
  { value: "flop", label: "floating-point operations" },
];
const RUNNING = 2000; // milliseconds between two questions while a trainer writes
const RESTING = 15_000;
const RECENT = 300; // seconds after which an unfinished training counts as stopped

/** The training that is looked at. */
export const chosen = computed(() => {
  const all = trainings.value ?? [];
  const own = all.filter((one) => one.own && !one.place.startsWith("replaced/"));
  const live = own.filter(isLive).sort((a, b) => a.age - b.age)[0];
  return all.find((one) => one.id === training.value) ?? live ?? own.filter((one) => !one.place.includes("/")).at(-1) ?? own.at(-1);
});

/** Others that can be drawn with it: those of the same stage first. */
export const others = computed(() => {
  const now = chosen.value;
  const stage = (/** @type {TrainingAbout} */ one) => one.place.replace(/^replaced\//, "").split(/[-/]/)[0];
  return (trainings.value ?? [])
    .filter((one) => one.id !== now?.id && now && stage(one) === stage(now));
});

/** @param {TrainingAbout} one */
export function isLive(one) {
  return !one.finished && one.age < RECENT;
}

/** Where a value of x is, in words. @param {number} x */
export function xText(x) {
  if (by.value === "step") return Math.round(x).toLocaleString("en");
  if (by.value === "seconds") return duration(x);
  return brief(x);
}

export async function loadTrainings() {
  trainings.value = (await get("/app/training/list")).trainings;
}

/**
 * Ask for the curves again and again: at once while a long file is being read, every two seconds while a trainer
 * writes, and rarely otherwise. What is asked for stays the same until the returned function ends it.
 * @param {number} columns
 */
export function follow(columns) {
  const now = chosen.value;
  const asking = new AbortController();
  let timer = 0;
  if (!now) return () => {};
  const asked = {
    trainings: [now.id, ...beside.value.filter((id) => id !== now.id)].slice(0, 12), fields: fields.value, x: by.value,
    log_x: logX.value, log_y: logY.value, smooth: Math.max(1, Math.round(Number(smooth.value)) || 1), spread: spread.value,
    begin: number(from.value), end: number(to.value), columns,
  };
  let known = "";
  const ask = async () => {
    let pause = RESTING;
    if (!document.hidden) {
      try {
        const answer = await askForCurves(known ? { ...asked, known } : asked, asking.signal);
        batch(() => {
          error.value = null;
          curves.value = answer.unchanged && curves.value ? { ...curves.value, ...answer } : answer;
        });
        if (answer.share === 1) known = answer.version;
        pause = answer.share < 1 ? 50 : answer.trainings.some(isLive) ? RUNNING : RESTING;
      } catch (failure) {
        if (asking.signal.aborted) return;
        error.value = /** @type {Error} */ (failure);
      }
    }
    timer = setTimeout(ask, pause);
  };
  ask();
  return () => {
    asking.abort();
    clearTimeout(timer);
  };
}

/** @param {string} text @returns {number | null} */
function number(text) {
  const value = Number(text);
  return text.trim() !== "" && Number.isFinite(value) ? value : null;
}
