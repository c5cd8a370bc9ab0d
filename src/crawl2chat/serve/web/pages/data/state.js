/** What is looked at on the page Data, and what is known of the run. */

import { batch, signal } from "@preact/signals";
import { post } from "../../common/api.js";
import { urlState } from "../../common/state.js";

/**
 * @typedef {{reason: string, step: string, name: string, says: string, at_least: boolean, threshold: number}} Rule
 * @typedef {{step: string, reason: string, pages: number, share: number, left: number}} FunnelRow
 * @typedef {{pages: number, faults: number, kept: number, characters_kept: number, masked: Record<string, number>,
 *   lines_dropped: number, other_records: Record<string, number>, rows: FunnelRow[], languages: string[],
 *   rules: Rule[]}} About
 */

/** @type {import("@preact/signals").Signal<About | null>} */
export const about = signal(null);

/** @type {import("@preact/signals").Signal<string>} */
export const view = urlState("view", "funnel");
/** "kept" or "dropped". @type {import("@preact/signals").Signal<string>} */
export const table = urlState("table", "kept");
/** step/reason; empty for all. @type {import("@preact/signals").Signal<string>} */
export const why = urlState("why", "");
/** Part of an address. @type {import("@preact/signals").Signal<string>} */
export const find = urlState("find", "");
/** The page that is shown, as the number of its row. @type {import("@preact/signals").Signal<number>} */
export const row = urlState("row", -1);
/** "source" or "steps". @type {import("@preact/signals").Signal<string>} */
export const side = urlState("show", "source");

export const failure = signal(/** @type {Error | null} */ (null));

/** The steps in a reader's words. @type {Record<string, string>} */
export const STEPS = {
  read: "reading of the crawl files", url: "address", response: "answer of the server", extract: "extraction of the text",
  language: "language", gopher_quality: "rules on prose (Gopher)",
  gopher_repetition: "rules on repetition (Gopher)", c4: "rules on lines (C4)",
  fineweb: "rules on lists and menus (FineWeb)", contamination: "test questions", pii: "masking of personal data",
  classifier: "quality by a classifier", exact_duplicates: "exact copies", near_duplicates: "near copies",
  line_duplicates: "lines of earlier pages",
};

/** @param {string} step */
export function stepName(step) {
  return STEPS[step] ?? step;
}

/** What the list asks for. @returns {{table: string, step: string, reason: string, find: string}} */
export function filter() {
  const [step = "", reason = ""] = table.value === "dropped" ? why.value.split("/") : [];
  return { table: table.value, step, reason, find: find.value.trim() };
}

/** Show one page of the run. @param {string} which "kept" or "dropped" @param {number} number */
export function openPage(which, number) {
  history.pushState(history.state, "", location.href); // the back button returns from it
  batch(() => {
    if (table.value !== which) why.value = "";
    table.value = which;
    row.value = number;
    view.value = "pages";
  });
}

/** Show any page that the filter lets through. @param {string} which "kept" or "dropped" */
export async function openRandom(which) {
  if (table.value !== which) {
    table.value = which;
    why.value = "";
  }
  try {
    const { total } = await post("/app/data/list", { ...filter(), limit: 1 });
    failure.value = null;
    if (!total) return;
    const { rows } = await post("/app/data/list", { ...filter(), offset: Math.floor(Math.random() * total), limit: 1 });
    openPage(which, rows[0].row);
  } catch (problem) {
    failure.value = /** @type {Error} */ (problem);
  }
}

/** A measured number as it is read: shares in per cent, others with as many digits as tell something.
 * @param {number} value @param {string} says */
export function measured(value, says) {
  if (says.startsWith("share")) return `${(100 * value).toFixed(value && value < 0.1 ? 1 : 0)} %`;
  return Number.isInteger(value) ? value.toLocaleString("en") : String(Number(value.toPrecision(3)));
}
