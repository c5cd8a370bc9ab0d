/** What the page Preferences looks at, and what the server has of the stage. */

import { signal } from "@preact/signals";
import { get } from "../../common/api.js";
import { urlState } from "../../common/state.js";

/**
 * A check of the policy: how far it is from the start, and what is thought of its answers.
 * @typedef {{step: number, sqrt_kl: number, proxy: number, gold: number | null, gold_error: number | null, tokens: number,
 *   wins: number, compared: number, smoothed_win_rate?: number, pairs?: {accuracy: number}}} Check
 * @typedef {{right: number, pairs: number, ceiling: number | null, gold_right: number | null, gold_pairs: number | null,
 *   prefers_longer: number, longer_is_better: number, unequal: number}} Agreement
 * @typedef {{policy: Check[], best_of_n: {n: number, sqrt_kl: number, proxy: number, gold: number | null}[], kept: number | null,
 *   peak: number | null, agreement: Agreement | null, problem: string | null, finished: boolean, has_answers: boolean}} About
 * @typedef {{prompt: string, text: string, ended: boolean, proxy: number, gold: number | null}} Judged
 * @typedef {{step: number, count: number, answers: (Judged & {gamed: number | null, start: Judged | null})[]}} Answers
 */

export const step = urlState("step", /** @type {number} */ (-1)); // −1: the last check
export const by = urlState("x", /** @type {string} */ ("distance"));
export const about = signal(/** @type {About | null} */ (null));
export const answers = signal(/** @type {Answers | null} */ (null));

export async function loadAbout() {
  about.value = await get("/app/preferences/about");
}

/** The place of the check that is looked at. @param {Check[]} policy */
export function placeOf(policy) {
  const place = policy.findIndex((check) => check.step === step.value);
  return place < 0 ? policy.length - 1 : place;
}

/** @param {Check[]} policy @param {number} place */
export function turnTo(policy, place) {
  step.value = place >= policy.length - 1 ? -1 : policy[Math.max(0, place)].step;
}
