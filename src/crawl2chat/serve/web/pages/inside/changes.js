/** What if: leave parts out, find out which matter, and bring in activations from another text. */

import { html } from "htm/preact";
import { signal, useSignal } from "@preact/signals";
import { useState } from "preact/hooks";
import { useAnswer } from "../../common/answer.js";
import { post } from "../../common/api.js";
import { Busy, Button, ErrorNote, Field, percent } from "../../common/ui.js";
import { at, atShown, heads, isChanged, layers, other, pass, toggleChange, tokens } from "./state.js";
import { Name, number, placed, plain } from "./words.js";

export function WhatIf() {
  if (!pass.value) return null;
  return html`
    <p>To learn what a part does, take it away and see what the model says then; or put in its place what the same part
      computed on another text. The bars of the next token show before and after.</p>
    <${Effects} />
    <${Patch} />`;
}

/** Which parts matter for the most probable token: each left out in turn. */
function Effects() {
  const of = pass.value;
  const effects = useSignal(/** @type {any} */ (null));
  const [asked, setAsked] = useState(0);
  const position = at.value;
  const error = useAnswer(effects, async (signal) => {
    return asked && of?.header.effects ? post("/app/inside/effects", { ...of.body, at: position }, { signal }) : null;
  }, [of, position, asked]);
  const found = effects.value;
  const columns = [...Array.from({ length: heads.value }, (_, head) => `head ${head + 1}`), "MLP"];
  return html`<h3>Which parts matter here?</h3>
    <p class="hint">Every head and every MLP is left out in turn (${layers.value * columns.length} passes), and the probability of the likeliest
      token after ${placed(position)} measured.</p>
    ${!of?.header.effects ? html`<p class="hint">For this model and text that takes too long; shorten the text.</p>`
      : !found && html`<${Button} kind="main" onClick=${() => setAsked(asked + 1)} disabled=${asked > 0 && !error}>Leave out each part in turn<//>`}
    ${asked > 0 && !found && !error && html` <${Busy}>computing …<//>`}
    <${ErrorNote} error=${error} />
    ${found && html`<p class="hint"><strong><${Name} token=${found.header.token} /></strong> has
        ${" "}${percent(found.header.probability)} with all parts. Each cell holds its probability without that part, shaded by what is
        lost. Choose one to switch the part off.</p>
      <div class="wide"><table class="effects">
        <thead><tr><th scope="col"></th>${columns.map((name) => html`<th scope="col" key=${name}>${name}</th>`)}</tr></thead>
        <tbody>${Array.from({ length: layers.value }, (_, layer) => html`<tr key=${layer}><th scope="row">block ${layer + 1}</th>
          ${columns.map((name, column) => {
            const change = column === heads.value
              ? { part: /** @type {const} */ ("mlp"), layer } : { part: /** @type {const} */ ("head"), layer, head: column };
            const without = number(found.arrays.without, layer, column);
            const lost = Math.max(0, found.header.probability - without);
            return html`<td key=${name} style=${{ "--p": `${Math.round(100 * lost)}%` }}><button type="button"
              aria-pressed=${isChanged(change)} onClick=${() => toggleChange(change)}
              aria-label=${`${name} of block ${layer + 1}: ${percent(without)} without it; switch it off or on`}>${percent(without)}</button></td>`;
          })}</tr>`)}</tbody>
      </table></div>`}`;
}

const PARTS = { residual: "the residual stream", block: "all that the block adds", attention: "all heads", mlp: "the MLP", head: "one head" };
const part = signal("residual");
const layerAt = signal("0");
const headAt = signal("0");
const place = signal("here");
const source = signal("");

/** Bring in an activation from another text. */
function Patch() {
  const theirs = pass.value?.header.other ?? [];
  const n = tokens.value.length;
  const same = theirs.length === n;
  const position = at.value;
  const from = source.value === "" ? Math.min(position, theirs.length - 1) : Number(source.value);
  const whole = place.value === "all";
  const depth = layers.value + (part.value === "residual" ? 1 : 0);
  const layer = Math.min(Number(layerAt.value), depth - 1);
  const add = () => toggleChange({
    part: /** @type {any} */ (part.value), layer, patched: true,
    ...(part.value === "head" && { head: Math.min(Number(headAt.value), heads.value - 1) }),
    ...(!whole && { at: position, ...(from !== position && { source: from }) }),
  });
  const pick = (/** @type {string} */ label, /** @type {any} */ value, /** @type {[string, string][]} */ options) => html`<${Field} label=${label}>
    ${(/** @type {string} */ id) => html`<select id=${id} value=${value.value}
      onChange=${(/** @type {any} */ event) => (value.value = event.currentTarget.value)}>
      ${options.map(([key, words]) => html`<option key=${key} value=${key}>${words}</option>`)}</select>`}<//>`;
  const numbered = (/** @type {number} */ count, /** @type {(i: number) => string} */ words) =>
    Array.from({ length: count }, (_, i) => /** @type {[string, string]} */ ([String(i), words(i)]));
  return html`<h3>Bring in an activation from another text (activation patching)</h3>
    <${Field} label="The other text">${(/** @type {string} */ id) => html`<textarea id=${id} rows="2" value=${other.value}
      onInput=${(/** @type {any} */ event) => (other.value = event.currentTarget.value)}></textarea>`}<//>
    <div class="controls">
      ${pick("What", part, Object.entries(PARTS))}
      ${pick(part.value === "residual" ? "As it enters" : "Of", layerAt, numbered(depth, (i) => (i === layers.value ? "the last norm" : `block ${i + 1}`)))}
      ${part.value === "head" && pick("Head", headAt, numbered(heads.value, (i) => `head ${i + 1}`))}
      ${pick("Where", place, [["here", `at ${placed(position)}`], ["all", "at all positions"]])}
      ${!whole && pick("From", source, [["", `the same place: ${plain(theirs[Math.min(position, theirs.length - 1)])}`],
        ...theirs.map((token, i) => /** @type {[string, string]} */ ([String(i), `position ${i + 1}: ${plain(token)}`]))])}
      <${Button} kind="main" onClick=${add} disabled=${!theirs.length || (whole && !same)}>Bring it in<//>
    </div>
    ${whole && !same && html`<p class="hint">The two texts have ${n} and ${theirs.length} tokens; all positions at once need as many.</p>`}
    <div class="other-tokens" role="group" tabindex="0" aria-label="tokens of the other text">${theirs.map((token, i) => html`<span key=${i} class=${same && token.id !== tokens.value[i].id ? "differs" : ""}><${Name} token=${token} /></span>`)}</div>
    ${same && html`<p class="hint">Underlined: where the two texts differ. ${tokens.value.some((token, i) => token.id !== theirs[i].id) && html`<${Button} kind="quiet"
      onClick=${() => (atShown.value = tokens.value.findIndex((token, i) => token.id !== theirs[i].id))}>Go to the first difference<//>`}</p>`}`;
}
