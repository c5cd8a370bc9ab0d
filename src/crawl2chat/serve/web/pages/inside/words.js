/** Small parts and words that several views of this page share. */

import { html } from "htm/preact";
import { useId } from "preact/hooks";
import { Button, TokenText, visible } from "../../common/ui.js";
import { changesShown, head, headShown, heads, isChanged, layer, layerShown, layers, pass, toggleChange, tokens } from "./state.js";

/** @typedef {import("./state.js").Token} Token */
/** @typedef {import("./state.js").Change} Change */

/** A token as plain text, for labels and sentences. @param {Token | undefined} token */
export function plain(token) {
  if (!token) return "";
  if (token.text === null) return (token.bytes.match(/../g) ?? []).map((byte) => `⟨${byte}⟩`).join("");
  return token.control ? token.text : visible(token.text);
}

/** @param {{token: Token | undefined}} props */
export function Name({ token }) {
  return token ? html`<${TokenText} text=${token.text} bytes=${token.bytes} control=${token.control} />` : null;
}

/** ‘token’ (position n), as in sentences. @param {number} position from 0 */
export const placed = (position) => `‘${plain(tokens.value[position])}’ (position ${position + 1})`;

/** @param {Change} change */
export function changeWords(change) {
  const block = `block ${change.layer + 1}`;
  const what = {
    head: `head ${(change.head ?? 0) + 1} of ${block}`, attention: `all heads of ${block}`, mlp: `the MLP of ${block}`,
    block, residual: change.layer === layers.value ? "the stream into the last norm" : `the stream into ${block}`,
  }[change.part];
  const where = change.at === undefined ? "" : ` at ${placed(change.at)}`;
  if (!change.patched) return `${what}${where}: switched off`;
  const source = change.source ?? change.at;
  const from = source === undefined ? "" : `, its position ${source + 1}`;
  return `${what}${where}: from the other text${from}`;
}

/** A button that switches a part off and on again. @param {{change: Change, children: any}} props */
export function SwitchOff({ change, children }) {
  const off = isChanged(change);
  return html`<${Button} pressed=${off} onClick=${() => toggleChange(change)}>
    ${off ? "Switch on" : "Switch off"} ${children}<//>`;
}

/**
 * One of a few parts, by number.
 * @param {{label: string, name: string, value: number, n: number, onPick: (value: number) => void}} props
 */
function Stepper({ label, name, value, n, onPick }) {
  const id = useId();
  return html`<span class="stepper">
    <label for=${id}>${label}</label>
    <${Button} onClick=${() => onPick(value - 1)} disabled=${value === 0} label=${`previous ${name}`}>‹<//>
    <select id=${id} value=${String(value)}
      onChange=${(/** @type {any} */ event) => onPick(Number(event.currentTarget.value))}>
      ${Array.from({ length: n }, (_, i) => html`<option key=${i} value=${String(i)}>${i + 1} of ${n}</option>`)}
    </select>
    <${Button} onClick=${() => onPick(value + 1)} disabled=${value >= n - 1} label=${`next ${name}`}>›<//>
  </span>`;
}

/** Which block, and where it matters which head, a view is of. @param {{withHead?: boolean}} props */
export function Where({ withHead = false }) {
  return html`<div class="where">
    <${Stepper} label="Block" name="block" value=${layer.value} n=${layers.value}
      onPick=${(/** @type {number} */ value) => (layerShown.value = value)} />
    ${withHead && html`<${Stepper} label="Head" name="head" value=${head.value} n=${heads.value}
      onPick=${(/** @type {number} */ value) => (headShown.value = value)} />`}
  </div>`;
}

/**
 * What heads of two known kinds do, with their numbers; see `evals/heads.py`.
 * @param {number} layer @param {number} head
 * @returns {{kind: "induction" | "previous token" | null, induction: number, previous: number, first: number,
 *   random: number}}
 */
export function scoresOf(layer, head) {
  const of = pass.value;
  if (!of) return { kind: null, induction: 0, previous: 0, first: 0, random: 0 };
  const [induction, previous, first] = [0, 1, 2].map((kind) => number(of.arrays.scores, kind, layer, head));
  const random = number(of.arrays.random_scores, 0, layer, head);
  const kind = Math.max(induction, random) >= MARKED ? "induction" : previous >= MARKED ? "previous token" : null;
  return { kind, induction, previous, first, random };
}
const MARKED = 0.4; // mean attention from which a head is called after what it does

/**
 * The number at a place of a tensor.
 * @param {import("./state.js").Tensor} tensor
 * @param {...number} place
 * @returns {number}
 */
export function number(tensor, ...place) {
  let index = 0;
  for (let i = 0; i < place.length; i++) index = index * tensor.shape[i] + place[i];
  return tensor.data[index];
}

/** A head's kind as a tag with its number. @param {{layer: number, head: number}} props */
export function KindTag(props) {
  const { kind, induction, previous, random } = scoresOf(props.layer, props.head);
  if (!kind) return null;
  const score = kind === "induction" ? Math.max(induction, random) : previous;
  return html`<span class=${`kind ${kind === "induction" ? "is-induction" : ""}`}>${kind === "induction" ? "◆ " : "◂ "}${kind} ${score.toFixed(2)}</span>`;
}

/** The tokens that a part's output speaks for and against. @param {{data: any}} props */
export function Promoted({ data }) {
  if (!data) return null;
  const list = (/** @type {any[]} */ found) => html`<ol class="promoted">${found.map((token) => html`<li key=${token.id}>
    <${Name} token=${token} /> <span class="number">${token.logit > 0 ? "+" : "−"}${Math.abs(token.logit).toFixed(2)}</span>
  </li>`)}</ol>`;
  return html`<div class="pair-of-lists">
    <div><h4>raises the score of</h4>${list(data.raised)}</div>
    <div><h4>lowers the score of</h4>${list(data.lowered)}</div>
  </div>`;
}

/** Whether what is shown is of a changed pass. */
export function ChangedNote() {
  const n = changesShown.value.length;
  return n > 0 && html`<p class="changed-note" role="status">Shown with ${n === 1 ? "1 change" : `${n} changes`}.
    ${" "}${changesShown.value.map(changeWords).join("; ")}.</p>`;
}

