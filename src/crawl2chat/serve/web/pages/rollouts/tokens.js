/** An answer's tokens, coloured by what they were worth to the model, with a place that pointer and keys move. */

import { html } from "htm/preact";
import { useState } from "preact/hooks";
import { percent, visible } from "../../common/ui.js";
import { colour } from "./state.js";

const PROBABLE = [0.9, 0.5, 0.2, 0.05, 0.01]; // at least
const DECIDED = [0.05, 0.3, 0.8, 1.5, 2.5]; // nats, less than

/** @param {number} logprob */
const byProbability = (logprob) => rank(PROBABLE.findIndex((least) => Math.exp(logprob) >= least));
/** @param {number} entropy */
const byEntropy = (entropy) => rank(DECIDED.findIndex((most) => entropy < most));
/** @param {number} place */
const rank = (place) => (place < 0 ? 5 : place);

export function Legend() {
  const names = colour.value === "entropy"
    ? [...DECIDED.map((most) => `under ${most}`), `${DECIDED[DECIDED.length - 1]} and more nats`]
    : [...PROBABLE.map((least) => `${100 * least} % and more`), "less"];
  return html`<p class="legend"><span class="hint">${colour.value === "entropy" ? "entropy" : "probability"}; the line below is thicker the less sure:</span>
    ${names.map((name, i) => html`<span key=${name} class=${`heat heat-${i}`}>${name}</span>`)}</p>`;
}

/** @param {{answer: import("./state.js").Answer, label: string}} props */
export function Tokens({ answer, label }) {
  const [at, setAt] = useState(/** @type {number | null} */ (null));
  const { pieces, logprobs, entropies } = answer;
  const worth = (/** @type {number} */ i) => (colour.value === "entropy"
    ? (entropies ? `heat heat-${byEntropy(entropies[i])}` : "heat") : `heat heat-${byProbability(logprobs[i])}`);
  const gap = answer.left_out ? pieces.length / 2 : -1; // a long answer is logged without its middle
  /** @param {KeyboardEvent} event */
  const keys = (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -10, ArrowDown: 10 }[event.key];
    if (!by) return;
    setAt(Math.max(0, Math.min(pieces.length - 1, at === null ? 0 : at + by)));
    event.preventDefault();
  };
  const over = (/** @type {PointerEvent} */ event) => {
    const place = event.target instanceof HTMLElement ? event.target.dataset.i : undefined;
    if (place !== undefined) setAt(Number(place));
  };
  return html`<div class="tokens" role="application" aria-roledescription="tokens" tabindex="0" aria-label=${`${label}; arrow keys move among its tokens`}
      onKeyDown=${keys} onPointerOver=${over}>
      ${pieces.map((piece, i) => html`${i === gap && html`<span key="gap" class="hint"> … ${answer.left_out.toLocaleString("en")} tokens left out … </span>`}<span
        key=${i} data-i=${i} class=${`${worth(i)} ${at === i ? "at" : ""}`}>${piece || "‥"}</span>`)}
    </div>
    <p class="readout" aria-live="polite">${at === null || at >= pieces.length ? "" : html`<code>${visible(pieces[at]) || "part of a character"}</code> ${
      percent(Math.exp(logprobs[at]))} likely (${logprobs[at].toFixed(3)} nats)${entropies ? `, entropy ${entropies[at].toFixed(3)} nats` : ""}`}</p>
    ${!entropies && colour.value === "entropy" && html`<p class="hint">Its entropies are not known: it was not learned from.</p>`}`;
}
