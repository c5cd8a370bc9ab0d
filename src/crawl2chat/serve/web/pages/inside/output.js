/** The next-token distribution at the position, before and after the changes that are in force. */

import { html } from "htm/preact";
import { Button, ErrorNote, percent } from "../../common/ui.js";
import { at, changes, changeTexts, useSlice } from "./state.js";
import { changeWords, Name, placed } from "./words.js";

export function Output() {
  const { data, error, stale, of } = useSlice("compare", { at: at.value });
  const changed = (of?.body.changes.length ?? 0) > 0;
  return html`<section class="card output" aria-label="next token" tabindex="0">
    <h2>After ${placed(at.value)}</h2>
    <${ErrorNote} error=${error} />
    ${data && html`<div class=${stale ? "stale" : ""}>
      <table class=${`bars ${changed ? "" : "is-plain"}`}>
        <thead><tr><th scope="col">next token</th><th scope="col">${changed ? "before, and after the changes" : "probability"}</th></tr></thead>
        <tbody>${data.tokens.slice(0, changed ? 12 : 10).map((/** @type {any} */ token) => html`<tr key=${token.id}>
          <th scope="row"><${Name} token=${token} /></th>
          <td><${Bar} share=${token.before} kind="before" />${changed && html`<${Bar} share=${token.after} kind="after" />`}</td>
        </tr>`)}</tbody>
      </table>
      <p class="hint">Entropy (how undecided it is): ${data.entropy[0].toFixed(2)} bits${changed
        ? html`, then ${data.entropy[1].toFixed(2)}. The changes move the whole distribution by
          <strong> ${data.divergence.toFixed(2)} bits</strong> (Kullback–Leibler divergence).` : "."}</p>
    </div>`}
    ${changes.value.length > 0 && html`<h3>Changes in force</h3>
      <ul class="changes">${changes.value.map((change, i) => html`<li key=${i}>${changeWords(change)}
        <${Button} kind="quiet" label=${`undo: ${changeWords(change)}`}
          onClick=${() => (changeTexts.value = changeTexts.value.filter((_, other) => other !== i))}>✕<//></li>`)}</ul>
      <${Button} onClick=${() => (changeTexts.value = [])}>Undo all<//>`}
  </section>`;
}

/** @param {{share: number, kind: "before" | "after"}} props */
function Bar({ share, kind }) {
  return html`<span class=${`bar is-${kind}`}><i class="moves" style=${{ width: `${100 * share}%` }}></i>
    <span>${percent(share)}</span></span>`;
}
