/** The text so far, each token coloured by how probable the model found it. */

import { html } from "htm/preact";
import { useLayoutEffect, useRef } from "preact/hooks";
import { TokenText, percent } from "../../common/ui.js";
import { at, child, line, lookAt, nPrompt, scores, sibling, texts, textsKnown } from "./state.js";
import { shade } from "./parts.js";

const LEGEND = ["50 % or more", "20 %", "5 %", "1 %", "0.1 %", "less"];

export function Line() {
  const strip = useRef(/** @type {HTMLElement | null} */ (null));
  textsKnown.value; // subscribes
  const ids = line.value;
  const known = scores.value;
  useLayoutEffect(() => {
    if (!strip.current?.contains(document.activeElement)) return;
    /** @type {HTMLElement | null} */ (strip.current.querySelector("[tabindex='0']"))?.focus();
  }, [at.value, ids]);
  /** @param {KeyboardEvent} event */
  const walk = (event) => {
    /** @type {Record<string, () => void>} */
    const keys = {
      ArrowLeft: () => lookAt(at.value - 1), ArrowRight: child, ArrowUp: () => sibling(-1), ArrowDown: () => sibling(1),
      Home: () => lookAt(nPrompt.value), End: () => lookAt(ids.length),
    };
    if (!keys[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    keys[event.key]();
  };
  return html`<div class="line" role="toolbar" aria-label="tokens so far" ref=${strip} onKeyDown=${walk}>
    ${ids.map((id, i) => {
      const p = known && known.ids[i] === id && same(known.ids, ids, i) ? known.logprobs[i] : NaN;
      const token = texts.get(id) ?? { id, text: "…" };
      const sure = Number.isNaN(p);
      const says = sure ? "" : `${percent(Math.exp(p))}; the model’s favourite here: ${known?.tokens[i].text ?? "bytes"} ${percent(Math.exp(known?.best[i] ?? 0))}`;
      return html`<button type="button" key=${i} disabled=${i === 0} tabindex=${i === at.value ? 0 : -1}
        class=${`piece ${sure ? "" : `shade-${shade(p)}`} ${i < nPrompt.value ? "of-prompt" : ""}`}
        aria-current=${i === at.value ? "true" : undefined} title=${says} onClick=${() => lookAt(i)}><${TokenText} ...${token} /></button>`;
    })}
    <button type="button" class="piece next" tabindex=${at.value === ids.length ? 0 : -1} title="the next token"
      aria-current=${at.value === ids.length ? "true" : undefined} onClick=${() => lookAt(ids.length)}>next ▸</button>
  </div>
  <p class="legend hint">Probability of each token: ${LEGEND.map((says, i) => html`<span key=${i} class=${`shade-${i}`}>${says}</span> `)}
    The less probable, the thicker the line under it. Italics: the prompt.</p>`;
}

/** Whether two lists agree up to a place. @param {number[]} a @param {number[]} b @param {number} n */
function same(a, b, n) {
  return a === b || (a[n] === b[n] && a.slice(0, n).every((id, i) => id === b[i]));
}
