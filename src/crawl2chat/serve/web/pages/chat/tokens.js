/** An answer token by token, with how probable each was. */

import { html } from "htm/preact";
import { useId, useState } from "preact/hooks";
import { percent, TokenText } from "../../common/ui.js";
import { spelled } from "./ask.js";

/** @typedef {import("./tree.js").Token} Token */

const LEVELS = [0.9, 0.5, 0.1, 0.01]; // probabilities above which a token is of level 0, 1, 2, 3; 4 is below all

/** @param {number} share */
const level = (share) => {
  const found = LEVELS.findIndex((least) => share >= least);
  return found < 0 ? LEVELS.length : found;
};

/** @param {{tokens: Token[] | undefined}} props */
export function Tokens({ tokens = [] }) {
  const id = useId();
  const [at, setAt] = useState(0);
  const shown = tokens[Math.min(at, tokens.length - 1)];
  /** @param {KeyboardEvent} event */
  const move = (event) => {
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: tokens.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    setAt(Math.max(0, Math.min(tokens.length - 1, to)));
  };
  return html`<div class="tokens">
    <div class="row" role="listbox" tabindex="0" aria-label="tokens of the answer; arrow keys move between them"
      aria-activedescendant=${`${id}-${at}`} onKeyDown=${move}>
      ${tokens.map((token, i) => html`<span key=${i} id=${`${id}-${i}`} role="option" aria-selected=${i === at}
        class=${`token level-${level(token.p)}`} title=${percent(token.p)} onClick=${() => setAt(i)}
        ><${TokenText} text=${token.s} bytes=${token.b} control=${token.c} /></span>`)}
    </div>
    ${shown && html`<${Detail} token=${shown} n=${at + 1} of=${tokens.length} />`}
    <p class="legend hint">probability by the model: ${["90 % and more", "50 %", "10 %", "1 %", "less"].map((words, i) =>
      html`<span key=${i} class=${`token level-${i}`}>${words}</span> `)}</p>
  </div>`;
}

/** @param {{token: Token, n: number, of: number}} props */
function Detail({ token, n, of }) {
  const controlled = token.q !== token.p;
  return html`<div class="detail" aria-live="polite">
    <p>Token ${n} of ${of}, <span class="token plain-0"><${TokenText} text=${token.s} bytes=${token.b} control=${token.c} /></span>,
      ${" "}had a probability of <strong>${percent(token.p)}</strong>${controlled && html`, and of <strong>${percent(token.q)}</strong> after the settings`}.
      ${" "}The most probable here:</p>
    <ol>${token.top.map(([text, share], i) => html`<li key=${i}>
      <${TokenText} text=${spelled(text).s} bytes=${spelled(text).b} /> <meter min="0" max="1" value=${share} aria-label="probability"></meter>
      <span class="number">${percent(share)}</span></li>`)}</ol>
  </div>`;
}
