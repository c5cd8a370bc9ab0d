/** What is looked at on the page Honesty, and what is known of the run. */

import { batch, signal } from "@preact/signals";
import { about as server } from "../../common/about.js";
import { urlState } from "../../common/state.js";
import { percent } from "../../common/ui.js";

/**
 * @typedef {{name: string, value: number, unit: string, interval: [number, number] | null, count: number | null}} Figure
 * @typedef {{question: string, answers: string[], group: string}} Suggestion
 * @typedef {{is_run: boolean, measured: boolean, why_not: string | null, known_from: number, unknown_to: number, temperature: number,
 *   samples: number, wordings: number, measured_samples: number, card: Record<string, string> | null, figures: Figure[],
 *   coverage: Record<string, {value: number, coverage: number, from: number}[]> | null, suggestions: Suggestion[]}} About
 */

/** @type {import("@preact/signals").Signal<About | null>} */
export const about = signal(null);

/** @type {import("@preact/signals").Signal<string>} */
export const view = urlState("view", "ask");
/** @type {import("@preact/signals").Signal<string>} */
export const question = urlState("question", "");
/** Accepted answers, one per line. @type {import("@preact/signals").Signal<string>} */
export const accepted = urlState("answers", "");
/** Stages or names of the models that are asked. @type {import("@preact/signals").Signal<string[]>} */
export const models = urlState("with", /** @type {string[]} */ ([]));
/** @type {import("@preact/signals").Signal<number>} */
export const samples = urlState("samples", 30);
/** @type {import("@preact/signals").Signal<number>} */
export const temperature = urlState("temperature", 0.7);
/** @type {import("@preact/signals").Signal<number>} */
export const seed = urlState("seed", 0);

/** Fill the form with a question, and show it. @param {string} text @param {string} answers */
export function askAbout(text, answers) {
  history.pushState(history.state, "", location.href);
  batch(() => {
    question.value = text;
    accepted.value = answers;
    view.value = "ask";
  });
}

/** The models that are asked: those that were chosen, else what was before and after honesty, else the default one. */
export function chosenModels() {
  const has = server.value?.models ?? [];
  const names = has.map((model) => nameOf(model));
  const chosen = models.value.filter((name) => names.includes(name));
  if (chosen.length) return chosen;
  const both = ["sft", "honesty"].filter((name) => names.includes(name));
  if (both.length === 2) return both;
  const first = has.find((model) => model.name === server.value?.default);
  return first ? [nameOf(first)] : [];
}

/** The name by which a model is chosen: its stage, as on the command line. @param {import("../../common/about.js").ModelAbout} model */
export function nameOf(model) {
  return model.stage === "pretrain" ? "base" : (model.stage ?? model.name);
}

/** @param {string} name a group of questions */
export function groupName(name) {
  if (/^\d+(-\d+|\+)?$/.test(name)) return name === "0" ? "people on no page" : `people on ${name.replace("-", " to ").replace("+", " or more")} ${name === "1" ? "page" : "pages"}`;
  return name;
}

/** A figure with its interval and what it rests on. @param {Figure | undefined} figure */
export function shown(figure) {
  if (!figure || figure.count === 0) return "–";
  if (figure.unit !== "share") return `${figure.value.toPrecision(3)}${figure.interval ? ` [${figure.interval.map((end) => end.toPrecision(2)).join(", ")}]` : ""}`;
  const [low, high] = figure.interval ?? [NaN, NaN];
  return `${percent(figure.value)}${figure.interval ? ` [${(100 * low).toFixed(0)}, ${(100 * high).toFixed(0)}]` : ""}`;
}

/** @param {string} name */
export function figure(name) {
  return about.value?.figures.find((one) => one.name === name);
}
