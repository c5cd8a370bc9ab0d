/** What the page's parts share: the text, the encodings, how they cut it, and the token that is looked at. */

import { effect, signal } from "@preact/signals";
import { get, post, wellFormed } from "../../common/api.js";
import { urlState } from "../../common/state.js";
import { visible } from "../../common/ui.js";

/**
 * A text as one encoding cuts it. Groups are the smallest runs of tokens that hold whole characters as readers see them.
 * @typedef {{name: string, text: string, bytes: Uint8Array, ids: Uint32Array, ends: Uint32Array, groups: Uint32Array}} Cut
 * @typedef {{name: string, title: string, vocabulary: number | null}} Encoding
 * @typedef {{begin: number, end: number}} Span bytes of the text
 */

export const MOST = 4;
const PAUSE = 40; // milliseconds without a key before the server is asked
const EXAMPLE = "How many r are in strawberry?\n9.11 or 9.9? 東京, naïve café, 👩‍👩‍👧 and 🙂.";

const STRICT = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const GRAPHEMES = new Intl.Segmenter("en", { granularity: "grapheme" });

/** @type {import("@preact/signals").Signal<string>} */
export const text = urlState("text", EXAMPLE);
/** @type {import("@preact/signals").Signal<string[]>} */
export const chosen = urlState("with", ["run", "gpt2", "gpt4", "gpt4o"]);
/** @type {import("@preact/signals").Signal<string>} */
export const view = urlState("view", "text");
/** @type {import("@preact/signals").Signal<boolean>} */
export const blanks = urlState("blanks", true);
/** @type {import("@preact/signals").Signal<boolean>} */
export const asBytes = urlState("bytes", false);

/** @type {import("@preact/signals").Signal<Encoding[]>} */
export const encodings = signal([]);
/** @type {import("@preact/signals").Signal<Cut[]>} */
export const cuts = signal([]);
/** @type {import("@preact/signals").Signal<Error | null>} */
export const failure = signal(null);
/** The bytes of the token that is pointed at, in every encoding. @type {import("@preact/signals").Signal<Span | null>} */
export const hot = signal(null);
/** Whether that stays when the pointer goes on. */
export const pinned = signal(false);

/** @param {Uint8Array} bytes @returns {string} */
export function decode(bytes) {
  return new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes);
}

/** The name of an encoding as people know it. @param {string} name @returns {string} */
export function titleOf(name) {
  const title = encodings.value.find((encoding) => encoding.name === name)?.title ?? name;
  return name === "run" ? `${title} (its own)` : title;
}

/** Start to ask the server whenever text or encodings change; returns what ends it. @returns {() => void} */
export function follow() {
  let timer = 0;
  let asking = new AbortController();
  get("/app/tokens/encodings").then(
    (answer) => (encodings.value = answer.encodings),
    (error) => (failure.value = error),
  );
  const stop = effect(() => {
    const wanted = { text: wellFormed(text.value), encodings: known(chosen.value) };
    clearTimeout(timer);
    asking.abort();
    asking = new AbortController();
    const { signal } = asking;
    timer = setTimeout(() => ask(wanted, signal), PAUSE);
  });
  return () => {
    stop();
    clearTimeout(timer);
    asking.abort();
  };
}

/** What an address may say, as far as it makes sense. @param {unknown[]} names @returns {string[]} */
function known(names) {
  return [...new Set(names.map(String))].slice(0, MOST);
}

/** @param {{text: string, encodings: string[]}} wanted @param {AbortSignal} signal */
async function ask(wanted, signal) {
  if (!wanted.encodings.length) {
    cuts.value = [];
    return;
  }
  try {
    const { header, arrays } = await post("/app/tokens/encode", wanted, { signal });
    hot.value = null;
    pinned.value = false;
    cuts.value = header.names.map((/** @type {string} */ name, /** @type {number} */ i) =>
      cutOf(name, header.texts[i] ?? wanted.text, arrays, i));
    failure.value = null;
  } catch (error) {
    if (!signal.aborted) failure.value = /** @type {Error} */ (error);
  }
}

/**
 * @param {string} name @param {string} text
 * @param {Record<string, import("../../common/tensors.js").Tensor>} arrays @param {number} i
 * @returns {Cut}
 */
export function cutOf(name, text, arrays, i) {
  const array = (/** @type {string} */ kind) => /** @type {Uint32Array} */ (arrays[`${kind}${i}`].data);
  return { name, text, bytes: new TextEncoder().encode(text), ids: array("ids"), ends: array("ends"), groups: array("groups") };
}

/** Where a token begins and ends, in bytes. @param {Cut} cut @param {number} token @returns {Span} */
export function spanOf(cut, token) {
  return { begin: token ? cut.ends[token - 1] : 0, end: cut.ends[token] };
}

/** The tokens that have some of these bytes: from the first to behind the last. @param {Cut} cut @param {Span} span */
export function tokensIn(cut, span) {
  const first = above(cut.ends, span.begin);
  let last = first;
  while (last < cut.ids.length && (last ? cut.ends[last - 1] : 0) < span.end) last += 1;
  return { first, last };
}

/** The first index whose value is above `value`; values rise. @param {Uint32Array} values @param {number} value */
export function above(values, value) {
  let low = 0;
  let high = values.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (values[middle] > value) high = middle;
    else low = middle + 1;
  }
  return low;
}

/** Bytes in hexadecimal. @param {Uint8Array} bytes @returns {string} */
export function spaced(bytes) {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join(" ");
}

/**
 * Bytes as text with visible white space; ⟨e2⟩ for a byte of a part of a character, as the terminal shows it.
 * @param {Uint8Array} bytes @returns {string}
 */
export function readable(bytes) {
  const parts = [];
  for (let at = 0; at < bytes.length; ) {
    const lead = bytes[at];
    const length = lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
    try {
      parts.push(STRICT.decode(bytes.subarray(at, at + length)));
      at += length;
    } catch {
      parts.push(lead);
      at += 1;
    }
  }
  return parts.map((part) => (typeof part === "string" ? visible(part) : `⟨${part.toString(16)}⟩`)).join("");
}

/**
 * Text with visible white space, in which characters of several code points, such as many emoji, stay whole.
 * @param {string} text @returns {string}
 */
export function visibleWhole(text) {
  if (!/[^\x00-\x7f]/.test(text)) return visible(text);
  return Array.from(GRAPHEMES.segment(text), ({ segment }) =>
    [...segment].length > 1 && segment !== "\r\n" ? segment : visible(segment)).join("");
}

/** @param {string} hex @returns {Uint8Array} */
export function fromHex(hex) {
  return Uint8Array.from(hex.match(/../g) ?? [], (byte) => parseInt(byte, 16));
}
