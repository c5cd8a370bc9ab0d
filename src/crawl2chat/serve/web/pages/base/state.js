/** What is looked at on the page Base, and what is known of the run. */

import { signal } from "@preact/signals";
import { modelNamed } from "../../common/about.js";
import { urlState } from "../../common/state.js";

/**
 * @typedef {{problem: string | null, measured: boolean, outside: string[],
 *   has: {recitation: boolean, games: boolean, people: boolean}, texts: {title: string, text: string}[]}} About
 */

/** @type {import("@preact/signals").Signal<About | null>} */
export const about = signal(null);

/** @type {import("@preact/signals").Signal<string>} */
export const view = urlState("view", "compression");
/** The model that is asked now: a stage or a name. @type {import("@preact/signals").Signal<string>} */
export const model = urlState("model", "base");
/** Whose figures of `eval` are shown, where several models from elsewhere were measured. @type {import("@preact/signals").Signal<string>} */
const of = urlState("of", "");

/** The model from elsewhere whose figures are shown; empty where the stage `base` has measured. @returns {string} */
export function outside() {
  const known = about.value;
  if (!known || known.measured) return "";
  return known.outside.includes(of.value) ? of.value : (known.outside[0] ?? "");
}

export { of };

/** What says which model is asked. @returns {{model?: string}} */
export function asked() {
  const name = modelNamed(model.value)?.name; // there may be none that is called base
  return name ? { model: name } : {};
}
