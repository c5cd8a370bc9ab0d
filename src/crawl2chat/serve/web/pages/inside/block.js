/** One block: the row of numbers of one token on its way through it. */

import { html } from "htm/preact";
import { useState } from "preact/hooks";
import { ErrorNote } from "../../common/ui.js";
import { Heatmap, short, Thumbnail } from "./heatmap.js";
import { across, blockMatrices, grouped, Matrices } from "./network.js";
import { at, headShown, heads, layer, pass, useSlice, view } from "./state.js";
import { ChangedNote, KindTag, placed, SwitchOff, Where } from "./words.js";

/** @typedef {{name: string, title: string, says: string, from: string}} Step */

/** @type {Step[]} */
const BEFORE = [
  { name: "entering", title: "enters", says: "the residual stream, as the parts before left it", from: "the sum of the embedding and all that was added before" },
  { name: "normed", title: "norm", says: "scaled to length √width, so that blocks see numbers of one size", from: "entering ÷ root of the mean square × a learned weight" },
  { name: "q", title: "queries", says: "what each head looks for, normed and turned by the position", from: "the query matrix × norm, then normed and rotated" },
  { name: "k", title: "keys", says: "what this token can be found by", from: "the key matrix × norm, then normed and rotated" },
  { name: "v", title: "values", says: "what is handed to those that look here", from: "the value matrix × norm" },
];
/** @type {Step[]} */
const AFTER = [
  { name: "mixed", title: "mixture", says: "the values of the tokens that were looked at, by their share of attention", from: "attention × values" },
  { name: "attended", title: "attention adds", says: "the mixture, brought back to the stream’s width", from: "the output matrix × mixture" },
  { name: "between", title: "stream", says: "what entered, and what attention added", from: "enters + attention adds" },
  { name: "mlp_normed", title: "norm", says: "scaled again", from: "stream ÷ root of the mean square × a learned weight" },
  { name: "gate", title: "gate", says: "how far each neuron opens", from: "the gate matrix × norm" },
  { name: "up", title: "up", says: "what each neuron lets through", from: "the up matrix × norm" },
  { name: "active", title: "neurons", says: "gate and up together, multiplied", from: "silu(gate) × up, where silu(x) = x ÷ (1 + exp(−x))" },
  { name: "written", title: "MLP adds", says: "the neurons, brought back to the stream’s width", from: "the down matrix × neurons" },
  { name: "leaving", title: "leaves", says: "goes on to the next block", from: "stream + MLP adds" },
];

export function Block() {
  const { data, error, stale } = useSlice("block", { layer: layer.value, at: at.value });
  const [cell, setCell] = useState(/** @type {{name: string, channel: number} | null} */ (null));
  const [pointed, setPointed] = useState(/** @type {{name: string, channel: number} | null} */ (null));
  const parts = pass.value?.header.parts;
  if (!parts) return null;
  const width = parts.embedding[1];
  const matrices = blockMatrices();
  const told = cell ?? pointed;
  const step = told && [...BEFORE, ...AFTER].find(({ name }) => name === told.name);
  const strips = (/** @type {Step[]} */ steps) => steps.map((step) => html`<${Strip} key=${step.name} step=${step}
    numbers=${data.arrays[step.name].data} cell=${cell} onLock=${setCell} onPoint=${setPointed} />`);
  return html`
    <${Where} />
    <p>Block ${layer.value + 1} has ${grouped(parts.block_parameters)} parameters. First its attention fetches something from
      the tokens before; then its MLP (multi-layer perceptron) works on each token by itself. Below is what happens to
      <strong> ${placed(at.value)}</strong>: each strip is a row of numbers, blue below zero and orange above.</p>
    <div class="block-matrices"><${Matrices} matrices=${matrices} height=${width} total=${across(matrices, width)} named=${true} /></div>
    <div class="actions">
      <${SwitchOff} change=${{ part: "attention", layer: layer.value }}>the attention<//>
      <${SwitchOff} change=${{ part: "mlp", layer: layer.value }}>the MLP<//>
      <${SwitchOff} change=${{ part: "block", layer: layer.value }}>the block<//>
    </div>
    <${ChangedNote} />
    <${ErrorNote} error=${error} />
    <output class="readout" aria-live="polite">${step && data ? html`<strong>${step.title}</strong>, number
      ${told.channel + 1} of ${data.arrays[step.name].data.length}: <strong>${short(data.arrays[step.name].data[told.channel])}</strong>
      = ${step.from}` : "Point at a strip for its numbers; a click keeps one, arrow keys move it."}</output>
    ${data && html`<div class=${`strips ${stale ? "stale" : ""}`}>
      ${strips(BEFORE)}
      <div class="strip"><div class="strip-name"><strong>attention</strong><small>who looks where, head by head</small></div>
        <div class="network-heads">${Array.from({ length: heads.value }, (_, head) => {
          const side = data.arrays.maps.shape[1];
          return html`<button type="button" key=${head} class="head-button large" onClick=${() => {
            headShown.value = head;
            view.value = "head";
          }}>
            <${Thumbnail} bytes=${data.arrays.maps.data.subarray(head * side * side, (head + 1) * side * side)} columns=${side} />
            <span>head ${head + 1} ›</span><${KindTag} layer=${layer.value} head=${head} /></button>`;
        })}</div></div>
      ${strips(AFTER)}
    </div>`}`;
}

/**
 * @param {{step: Step, numbers: Float32Array, cell: {name: string, channel: number} | null,
 *   onLock: (cell: any) => void, onPoint: (cell: any) => void}} props
 */
function Strip({ step, numbers, cell, onLock, onPoint }) {
  let sum = 0;
  for (const number of numbers) sum += number * number;
  const named = (/** @type {((cell: any) => void)} */ tell) => (/** @type {[number, number] | null} */ place) =>
    tell(place && { name: step.name, channel: place[1] });
  return html`<div class="strip">
    <div class="strip-name"><strong>${step.title}</strong><small>${step.says}</small></div>
    <${Heatmap} numbers=${numbers} columns=${numbers.length} scale="signed" label=${`${step.title}: ${step.says}`} ratio=${NaN}
      cell=${cell?.name === step.name ? [0, cell.channel] : null} onLock=${named(onLock)} onPoint=${named(onPoint)} />
    <small>${numbers.length} numbers, length ${short(Math.sqrt(sum))}</small>
  </div>`;
}
