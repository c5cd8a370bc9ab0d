/** What the page Runs looks at: a recipe, the settings that are changed in it, and the runs as they go on. */

import { computed, signal } from "@preact/signals";
import { get, post } from "../../common/api.js";
import { urlState } from "../../common/state.js";

/**
 * @typedef {{id: string, own: boolean, comment: string, values: Record<string, string>}} Recipe
 * @typedef {{name: string, kind: string, bounds: string, default: string, help: string, choices: string[]}} Setting
 * @typedef {{recipes: Recipe[], settings: Setting[], refusal: string | null, tables: Record<string, string>,
 *   folder: string | null, own: string | null}} About
 * @typedef {{others: string[], problems: Record<string, string[]>, command: string}} Check
 * @typedef {{rows: string[][], command: string, brings_model: boolean, of: string}} Plan of: what it was made for
 * @typedef {"running" | "stopping" | "ended" | "stopped" | "failed" | "interrupted" | "begun" | "made"} State
 * @typedef {{name: string, shown: boolean, state: State, by_app: boolean, stages: string[], at: string | null,
 *   command: string, cwd: string | null, lines: string[], seconds: number | null, age: number,
 *   opened_by: string | null}} Run
 */

export const view = urlState("view", /** @type {string} */ ("runs")); // or "new"
export const recipe = urlState("recipe", /** @type {string} */ ("laptop"));
/** Changed settings, each as `pretrain.depth=6`. */
export const changed = urlState("set", /** @type {string[]} */ ([]));
export const stage = urlState("stage", /** @type {string} */ ("")); // whose settings are shown: "run" for those of no stage, empty for all
export const find = urlState("find", /** @type {string} */ (""));
export const onlyChanged = urlState("changed", /** @type {boolean} */ (false));
export const name = urlState("name", /** @type {string} */ (""));
export const log = urlState("log", /** @type {string} */ ("")); // the run whose log is open

export const known = signal(/** @type {About | null} */ (null));
export const checked = signal(/** @type {Check | null} */ (null));
export const plan = signal(/** @type {Plan | null} */ (null));
export const runs = signal(/** @type {{runs: Run[], left_out: number} | null} */ (null));
/** What a click has done. */
export const said = signal("");

export const RUNNING = 2000; // milliseconds between two looks while a run goes on
const RESTING = 10_000; // and otherwise
let loaded = -RESTING; // when the runs were looked at, in milliseconds

export const chosen = computed(() => known.value?.recipes.find((one) => one.id === recipe.value));

/** Changed settings by name, those that exist. @type {import("@preact/signals").ReadonlySignal<Record<string, string>>} */
export const settings = computed(() => {
  const names = new Set((known.value?.settings ?? []).map((setting) => setting.name));
  return Object.fromEntries(changed.value.map(String).filter((entry) => entry.includes("="))
    .map((entry) => [entry.slice(0, entry.indexOf("=")), entry.slice(entry.indexOf("=") + 1)])
    .filter(([setting]) => names.has(setting)));
});

/** What the server is asked about. */
export const wanted = computed(() => ({ recipe: recipe.value, settings: settings.value }));
export const wantedKey = computed(() => JSON.stringify(wanted.value));

/** The settings that the list shows. */
export const shown = computed(() => {
  const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
  return (known.value?.settings ?? []).filter((setting) => (
    (!stage.value || tableOf(setting) === stage.value)
    && (!onlyChanged.value || setting.name in settings.value)
    && words.every((word) => `${setting.name} ${setting.help}`.toLowerCase().includes(word))
  ));
});

/** The stage that a setting belongs to. @param {Setting} setting */
export function tableOf(setting) {
  return setting.name.includes(".") ? setting.name.split(".")[0] : "run";
}

/** Change a setting; null takes the change back. @param {string} setting @param {string | null} value */
export function change(setting, value) {
  const others = changed.value.filter((entry) => !String(entry).startsWith(`${setting}=`));
  changed.value = value === null ? others : [...others, `${setting}=${value}`];
}

/** @param {Run} run */
export function isRunning(run) {
  return run.state === "running" || run.state === "stopping";
}

export async function loadRuns() {
  loaded = Date.now();
  runs.value = await get("/app/runs/list");
}

/** Whether it is too early to look again, as nothing is running. */
export function isResting() {
  return Date.now() - loaded < RESTING && !runs.value?.runs.some(isRunning);
}

/** Stop or resume a run. @param {"stop" | "resume"} what @param {Run} run */
export async function act(what, run) {
  const answer = await post(`/app/runs/${what}`, { name: run.name });
  said.value = what === "resume" ? `${run.name} goes on.` : answer.signal === "SIGINT"
    ? `${run.name} was asked to stop (SIGINT); it ends its step and writes a checkpoint.` : `${run.name} was asked to end at once (SIGTERM).`;
  await loadRuns();
}

/** A name that no run has yet. */
export function freeName() {
  const taken = new Set((runs.value?.runs ?? []).map((run) => run.name));
  const base = recipe.value.replace(/^.*\//, "").replace(/\.toml$/, "").replace(/[^A-Za-z0-9._-]/g, "-");
  for (let n = 1; ; n++) {
    const candidate = n === 1 ? base : `${base}-${n}`;
    if (!taken.has(candidate)) return candidate;
  }
}
