/** What is asked on the page Thinking, in which ways, and what the server knows of the problems. */

import { batch, signal } from "@preact/signals";
import { post } from "../../common/api.js";
import { urlState } from "../../common/state.js";

/**
 * @typedef {"at once" | "step by step" | "calculator"} Way
 * @typedef {{groups: {name: string, count: number}[], problem: string | null, max_tokens: number, most_tokens: number, most_draws: number}} About
 * @typedef {{way: Way, asked: string, why_not: string | null}} Possible
 */

/** @type {Record<Way, string>} */
export const TITLES = { "at once": "At once", "step by step": "Step by step", calculator: "With the calculator" };
/** Of a way's curve and bar. @type {Record<string, number>} */
export const STYLE = { "at once": 0, "step by step": 1, calculator: 2, "asked plainly": 3 };

/** @type {import("@preact/signals").Signal<About | null>} */
export const about = signal(null);
/** How the chosen model is asked. @type {import("@preact/signals").Signal<Possible[] | null>} */
export const possible = signal(null);

/** @type {import("@preact/signals").Signal<string>} */
export const view = urlState("view", "ways");
/** @type {import("@preact/signals").Signal<string>} */
export const question = urlState("question", "");
/** The right answer; several are apart by " or ". @type {import("@preact/signals").Signal<string>} */
export const answer = urlState("answer", "");
/** The group that the problem is from; empty for one that was typed. @type {import("@preact/signals").Signal<string>} */
export const group = urlState("group", "");
/** @type {import("@preact/signals").Signal<number>} */
export const place = urlState("place", 0);
/** @type {import("@preact/signals").Signal<string>} */
export const model = urlState("model", "");
/** @type {import("@preact/signals").Signal<number>} */
export const temperature = urlState("temperature", 0);
/** @type {import("@preact/signals").Signal<number>} */
export const draws = urlState("draws", 10);
/** Tokens of the longest answer; 0: as the stages measure. @type {import("@preact/signals").Signal<number>} */
export const longest = urlState("tokens", 0);
/** @type {import("@preact/signals").Signal<number>} */
export const seed = urlState("seed", 0);
/** The way whose answer is looked at token by token. @type {import("@preact/signals").Signal<string>} */
export const way = urlState("way", "step by step");
/** The draw that is looked at, in all ways. @type {import("@preact/signals").Signal<number>} */
export const draw = urlState("draw", 0);
/** @type {import("@preact/signals").Signal<string>} */
export const colour = urlState("colour", "entropy");

/** Without a temperature every draw is the same. */
export const nDraws = () => (temperature.value > 0 ? draws.value : 1);

/** Take a problem of the run. @param {string} name of its group @param {number} at */
export async function choose(name, at) {
  const found = await post("/app/thinking/problem", { group: name, place: at });
  batch(() => {
    group.value = name;
    place.value = at;
    question.value = found.question;
    answer.value = found.answers.join(" or ");
  });
}

/** What goes to the server for each way. */
export function body() {
  return {
    question: question.value.trim(),
    // of a problem of the run the server knows them, and how they are compared
    answers: group.value ? [] : answer.value.split(" or ").map((text) => text.trim()).filter(Boolean).slice(0, 20),
    draws: nDraws(), temperature: temperature.value, seed: seed.value,
    ...(longest.value ? { max_tokens: longest.value } : {}), ...(model.value ? { model: model.value } : {}),
  };
}
