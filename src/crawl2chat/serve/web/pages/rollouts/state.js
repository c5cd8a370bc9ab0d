/** What the page Rollouts looks at: a step, a group of it, a bin of its rewards, and what the server has of them. */

import { computed, signal } from "@preact/signals";
import { get, post } from "../../common/api.js";
import { urlState } from "../../common/state.js";

/**
 * A step's answers by group. Lists are (groups, answers).
 * @typedef {{rewards: (number | null)[][], advantages: (number | null)[][], lengths: number[][], cut: number[][],
 *   questions: string[], n_groups: number, n_shown: number}} Head
 * @typedef {{pieces: string[], logprobs: number[], entropies?: number[], left_out: number, calls?: number}} Answer
 * @typedef {{step: number, group: number, question: string, expected: string, answers: Answer[]}} Group
 * @typedef {"rewards" | "control"} Log
 * @typedef {{steps: number[], n_steps: number, logs: Log[], problem: string | null, finished?: boolean,
 *   trainings?: string[]}} About
 */

export const step = urlState("step", /** @type {number} */ (-1)); // −1: the last one
export const group = urlState("group", /** @type {number} */ (0));
export const bin = urlState("bin", /** @type {number} */ (-1)); // −1: none
export const colour = urlState("colour", /** @type {string} */ ("probability"));
export const bestFirst = urlState("best_first", false);
export const withControl = urlState("control", true);

export const about = signal(/** @type {About | null} */ (null));
export const heads = signal(/** @type {{step: number, logs: Partial<Record<Log, Head>>} | null} */ (null));
export const groups = signal(/** @type {Partial<Record<Log, Group>> | null} */ (null));

/** The step to ask for. */
export const wanted = computed(() => (step.value < 0 ? (about.value?.steps.at(-1) ?? 0) : step.value));

export async function loadAbout() {
  about.value = await get("/app/rollouts/about");
}

/** @param {AbortSignal} signal */
export async function loadGroups(signal) {
  const shown = heads.value;
  if (!shown) return null;
  /** @type {Partial<Record<Log, Group>>} */
  const found = {};
  for (const log of /** @type {Log[]} */ (Object.keys(shown.logs))) {
    if (group.value >= (shown.logs[log]?.n_shown ?? 0)) continue;
    found[log] = await post("/app/rollouts/group", { step: shown.step, group: group.value, log }, { signal });
  }
  return found;
}

/** Where rewards lie: each value where they are few, equal parts of their range otherwise. */
export const bins = computed(() => {
  const all = Object.values(heads.value?.logs ?? {}).flatMap((head) => head.rewards.flat()).filter((reward) => reward !== null);
  const values = [...new Set(all)].sort((a, b) => a - b);
  if (values.length <= MOST_BINS) return values.map((value) => ({ low: value, high: value }));
  const [low, high] = [values[0], values[values.length - 1]];
  const wide = (high - low) / MOST_BINS;
  return Array.from({ length: MOST_BINS }, (_, i) => ({ low: low + i * wide, high: i === MOST_BINS - 1 ? high : low + (i + 1) * wide }));
});
const MOST_BINS = 12;

/** Which bin a reward is in. @param {number | null} reward */
export function binOf(reward) {
  if (reward === null) return -1;
  const all = bins.value;
  return all.findIndex(({ low, high }, i) => (low === high ? reward === low : reward >= low && (reward < high || i === all.length - 1)));
}

/** @param {number} place of the step in the list */
export function turnTo(place) {
  const steps = about.value?.steps ?? [];
  const at = Math.max(0, Math.min(steps.length - 1, place));
  step.value = at === steps.length - 1 ? -1 : steps[at];
}
