/** What is looked at, kept in the address; the pass that the server made of it; and slices of that pass. */

import { computed, effect, signal } from "@preact/signals";
import { useEffect, useState } from "preact/hooks";
import { post } from "../../common/api.js";
import { urlState } from "../../common/state.js";

/**
 * @typedef {{id: number, text: string | null, bytes: string, control: boolean}} Token
 * @typedef {{part: "head" | "attention" | "mlp" | "block" | "residual", layer: number, head?: number, at?: number,
 *   patched?: boolean, source?: number}} Change
 * @typedef {{embedding: number[], block: Record<string, number[]>, block_parameters: number, norm: number[],
 *   tied: boolean, total: number}} Parts
 * @typedef {import("../../common/tensors.js").Tensor} Tensor
 * @typedef {{body: any, header: {model: string, tokens: Token[], other: Token[], vocabulary: Token[], n_all: number,
 *   most_tokens: number, pairs: number, parts: Parts, effects: boolean}, arrays: Record<string, Tensor>,
 *   tokenOf: Map<number, Token>}} Pass
 */

export const EXAMPLE = "We say likor balcony, dodem star, gibit apple, dodem star, likor balcony, gibit";
export const OTHER_EXAMPLE = "We say likor balcony, dodem star, gibit violin, dodem star, likor balcony, gibit";

export const text = urlState("text", /** @type {string} */ (EXAMPLE));
export const other = urlState("other", /** @type {string} */ (OTHER_EXAMPLE));
export const form = urlState("form", /** @type {string} */ ("document"));
export const model = urlState("model", /** @type {string} */ (""));
export const view = urlState("view", /** @type {string} */ ("network"));
export const layerShown = urlState("layer", /** @type {number} */ (0));
export const headShown = urlState("head", /** @type {number} */ (0));
export const atShown = urlState("at", /** @type {number} */ (-1)); // −1 is the last position
export const pinTexts = urlState("pins", /** @type {number[]} */ ([])); // ids
export const changeTexts = urlState("changes", /** @type {string[]} */ ([]));
export const cellShown = urlState("cell", /** @type {number[]} */ ([])); // row and column of an attention map
export const tour = urlState("tour", /** @type {number} */ (0)); // step, from 1; 0 is none

/** @type {import("@preact/signals").Signal<Pass | null>} */
export const pass = signal(null);
export const failure = signal(/** @type {Error | null} */ (null));
export const busy = signal(false);

export const changes = computed(() => changeTexts.value.map(readChange).filter((change) => change !== null));
/** Ids of the tokens that are followed through the layers. */
export const pins = computed(() => pinTexts.value.filter(isIndex).slice(0, MOST_PINS));
export const MOST_PINS = 8;
export const layers = computed(() => (pass.value ? pass.value.arrays.maps.shape[0] : 0));
export const heads = computed(() => (pass.value ? pass.value.arrays.maps.shape[1] : 0));
export const tokens = computed(() => pass.value?.header.tokens ?? []);
export const layer = computed(() => clamp(layerShown.value, layers.value));
export const head = computed(() => clamp(headShown.value, heads.value));
export const at = computed(() => {
  const last = tokens.value.length - 1;
  return atShown.value < 0 ? Math.max(0, last) : clamp(atShown.value, tokens.value.length);
});

/** What an address may hold in place of a number can be anything. @param {unknown} value */
function isIndex(value) {
  return Number.isInteger(value) && Number(value) >= 0;
}

/** @param {number} value @param {number} n */
function clamp(value, n) {
  return Math.max(0, Math.min(Math.trunc(value), n - 1));
}

/** As part/layer/head/at/patched/source, with nothing where there is none. @param {Change} change */
export function writeChange({ part, layer, head, at, patched, source }) {
  return [part, layer, head ?? "", at ?? "", patched ? "patched" : "", source ?? ""].join("/").replace(/\/+$/, "");
}

/** @param {string} text @returns {Change | null} null for what an address should not hold */
function readChange(text) {
  const [part, layer, head = "", at = "", patched = "", source = ""] = String(text).split("/");
  if (!["head", "attention", "mlp", "block", "residual"].includes(part) || !/^\d+$/.test(layer ?? "")) return null;
  /** @type {Change} */
  const change = { part: /** @type {Change["part"]} */ (part), layer: Number(layer) };
  if (/^\d+$/.test(head)) change.head = Number(head);
  if (/^\d+$/.test(at)) change.at = Number(at);
  if (patched === "patched") change.patched = true;
  if (/^\d+$/.test(source)) change.source = Number(source);
  return change;
}

/** The row and column of attention that is locked. */
export const locked = computed(() => {
  const [row, column] = cellShown.value;
  const n = tokens.value.length;
  return isIndex(row) && isIndex(column) && row < n && column < n ? /** @type {[number, number]} */ ([row, column]) : null;
});

/** @param {Change} change */
export const isChanged = (change) => changeTexts.value.includes(writeChange(change));

/** The changes of the pass that is shown, which lags a moment behind. */
export const changesShown = computed(() => /** @type {Change[]} */ (pass.value?.body.changes ?? []));

/** Put a change in force, or lift it. @param {Change} change */
export function toggleChange(change) {
  const written = writeChange(change);
  const others = changeTexts.value.filter((text) => text !== written);
  changeTexts.value = others.length < changeTexts.value.length ? others : [...others, written];
}

/** Read the text whenever it or what is done to it changes; returns how to end that. */
export function keepReading() {
  let timer = 0;
  let stop = new AbortController();
  const end = effect(() => {
    const body = {
      text: text.value, form: form.value, changes: changes.value,
      ...(model.value ? { model: model.value } : {}), ...(other.value ? { other: other.value } : {}),
    };
    clearTimeout(timer);
    stop.abort();
    stop = new AbortController();
    const mine = stop.signal;
    timer = setTimeout(async () => {
      busy.value = true;
      try {
        const { header, arrays } = await post("/app/inside/pass", body, { signal: mine });
        if (mine.aborted) return;
        const known = [...header.vocabulary, ...header.tokens];
        pass.value = { body, header, arrays, tokenOf: new Map(known.map((token) => [token.id, token])) };
        failure.value = null;
      } catch (error) {
        if (mine.aborted) return;
        failure.value = /** @type {Error} */ (error);
      }
      busy.value = false;
    }, pass.peek() ? 150 : 0);
  });
  return () => {
    clearTimeout(timer);
    stop.abort();
    end();
  };
}

/**
 * A slice of the pass that is shown: null until it has come, and the one before, marked as stale, while another is on its
 * way, unless that one was of a text of another length or of another model.
 * @param {string} what
 * @param {Record<string, any>} fields
 * @param {boolean} [wanted]
 * @returns {{data: any, error: Error | null, stale: boolean, of: Pass | null}} of: the pass that the slice is of
 */
export function useSlice(what, fields, wanted = true) {
  const of = pass.value;
  const key = JSON.stringify([what, fields, wanted]);
  const [found, setFound] = useState(/** @type {any} */ ({ data: null, error: null, key: "", of: null }));
  useEffect(() => {
    if (!of || !wanted) return;
    const stop = new AbortController();
    post(`/app/inside/${what}`, { ...of.body, ...fields }, { signal: stop.signal }).then(
      (data) => setFound({ data, error: null, key, of }),
      (error) => stop.signal.aborted || setFound({ data: null, error, key, of }),
    );
    return () => stop.abort();
  }, [of, key]);
  const fits = found.of && of && found.of.header.tokens.length === of.header.tokens.length
    && found.of.header.model === of.header.model;
  if (!fits) return { data: null, error: null, stale: true, of: null };
  return { data: found.data, error: found.error, stale: found.of !== of || found.key !== key, of: found.of };
}
