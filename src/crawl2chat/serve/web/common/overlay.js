/** An answer's tokens, coloured by what they were worth to the model, with a place that pointer and keys move. */

import { html } from "htm/preact";
import { useSignal } from "@preact/signals";
import { percent, visible } from "./ui.js";

/**
 * Pieces of text that together are the answer, with the log-probability that each was drawn with and the entropy of
 * what it was drawn from, both in nats; without its middle if it is long.
 * @typedef {{pieces: string[], logprobs: number[], entropies?: number[], left_out?: number}} Overlaid
 * @typedef {"probability" | "entropy"} Colour
 */

/** What tokens can be coloured by. */
export const COLOURS = [
  { value: "probability", label: "probability: how likely the token was" },
  { value: "entropy", label: "entropy: how undecided the model was there" },
];
const PROBABLE = [0.9, 0.5, 0.2, 0.05, 0.01]; // at least
const DECIDED = [0.05, 0.3, 0.8, 1.5, 2.5]; // nats, less than

/** @param {number} logprob */
const byProbability = (logprob) => rank(PROBABLE.findIndex((least) => Math.exp(logprob) >= least));
/** @param {number} entropy */
const byEntropy = (entropy) => rank(DECIDED.findIndex((most) => entropy < most));
/** @param {number} place */
const rank = (place) => (place < 0 ? 5 : place);

/** @param {{colour: string}} props */
export function Legend({ colour }) {
  const names = colour === "entropy"
    ? [...DECIDED.map((most) => `under ${most}`), `${DECIDED[DECIDED.length - 1]} and more nats`]
    : [...PROBABLE.map((least) => `${100 * least} % and more`), "less"];
  return html`<p class="heat-legend"><span class="hint">${colour === "entropy" ? "entropy" : "probability"}; the line below is thicker the less sure:</span>
    ${names.map((name, i) => html`<span key=${name} class=${`heat heat-${i}`}>${name}</span>`)}</p>`;
}

/**
 * @param {{answer: Overlaid, label: string, colour: string, marked?: number | null,
 *   at?: import("@preact/signals").Signal<number | null>}} props
 *   marked: a token that is to be pointed out; at: the one that is looked at, where others want to know or say
 */
export function Tokens({ answer, label, colour, marked = null, at }) {
  const own = useSignal(/** @type {number | null} */ (null));
  const here = at ?? own;
  const place = here.value;
  const { pieces, logprobs, entropies, left_out = 0 } = answer;
  const worth = (/** @type {number} */ i) => (colour === "entropy"
    ? (entropies ? `heat heat-${byEntropy(entropies[i])}` : "heat") : `heat heat-${byProbability(logprobs[i])}`);
  const gap = left_out ? pieces.length / 2 : -1; // a long answer is logged without its middle
  /** @param {KeyboardEvent} event */
  const keys = (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -10, ArrowDown: 10 }[event.key];
    if (!by) return;
    here.value = Math.max(0, Math.min(pieces.length - 1, place === null ? 0 : place + by));
    event.preventDefault();
  };
  const over = (/** @type {PointerEvent} */ event) => {
    const i = event.target instanceof HTMLElement ? event.target.dataset.i : undefined;
    if (i !== undefined) here.value = Number(i);
  };
  return html`<div class="heat-tokens" role="application" aria-roledescription="tokens" tabindex="0" aria-label=${`${label}; arrow keys move among its tokens`}
      onKeyDown=${keys} onPointerOver=${over}>
      ${pieces.map((piece, i) => html`${i === gap && html`<span key="gap" class="hint"> … ${left_out.toLocaleString("en")} tokens left out … </span>`}<span
        key=${i} data-i=${i} class=${`${worth(i)} ${place === i ? "at" : ""} ${marked === i ? "marked" : ""}`}>${piece || "‥"}</span>`)}
    </div>
    <p class="heat-readout" aria-live="polite">${place === null || place >= pieces.length ? "" : html`<code>${visible(pieces[place]) || "part of a character"}</code> ${
      percent(Math.exp(logprobs[place]))} likely (${logprobs[place].toFixed(3)} nats)${entropies ? `, entropy ${entropies[place].toFixed(3)} nats` : ""}`}</p>`;
}
