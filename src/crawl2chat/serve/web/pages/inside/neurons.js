/** The neurons of a block's MLP (multi-layer perceptron): which are active at which token. */

import { html } from "htm/preact";
import { useMemo, useState } from "preact/hooks";
import { ErrorNote } from "../../common/ui.js";
import { greatest, roots } from "./colours.js";
import { Heatmap, Legend, short } from "./heatmap.js";
import { at, layer, useSlice } from "./state.js";
import { ChangedNote, placed, Promoted, SwitchOff, Where } from "./words.js";

const LISTED = 10;

export function Neurons() {
  const { data, error, stale } = useSlice("mlp", { layer: layer.value });
  const writes = useSlice("writes", { layer: layer.value, at: at.value });
  const [cell, setCell] = useState(/** @type {[number, number] | null} */ (null));
  const [pointed, setPointed] = useState(/** @type {[number, number] | null} */ (null));
  const told = cell ?? pointed;
  const neurons = data?.arrays.neurons.data ?? [];
  const n = neurons.length;
  const active = data?.arrays.active.data;
  const drawn = useMemo(() => active && roots(active), [active]);
  const row = active?.subarray(at.value * n, (at.value + 1) * n);
  const strongest = row ? Array.from(row.keys()).sort((a, b) => Math.abs(row[b]) - Math.abs(row[a])).slice(0, LISTED) : [];
  return html`
    <${Where} />
    <p>After attention, an MLP (multi-layer perceptron) works on each token by itself. Its ${data?.header.n_all ?? ""} neurons
      look for patterns in the token’s row of numbers; what each adds to the stream is a row of its own, times its activation.
      ${data && n < data.header.n_all ? html` <strong>Shown are the ${n} that are strongest somewhere in this text.</strong>` : ""}</p>
    <div class="actions"><${SwitchOff} change=${{ part: "mlp", layer: layer.value }}>this MLP<//></div>
    <${ChangedNote} />
    <${ErrorNote} error=${error} />
    ${data && html`
      <output class="readout" aria-live="polite">${told && told[1] < n ? html`neuron <strong>${neurons[told[1]] + 1}</strong> at
        ${placed(told[0])}: <strong>${short(active[told[0] * n + told[1]])}</strong> = silu(gate) × up, two products of its
        weights with the normed stream` : "Point at the map for its numbers; a click keeps a cell, arrow keys move it."}</output>
      <figure class=${stale ? "stale" : ""}><figcaption><span><strong>Activations</strong>: a row per token, a column per neuron (colour: the root)</span>
        <${Legend} scale="signed" most=${greatest(active)} /></figcaption>
        <${Heatmap} numbers=${drawn} columns=${n} scale="signed" label="activations of neurons (columns) at each token (rows)"
          ratio=${2.2} row=${at.value} cell=${cell} pointed=${pointed} onLock=${setCell} onPoint=${setPointed} /></figure>
      <h3>Strongest at ${placed(at.value)}</h3>
      <ol class="neurons">${strongest.map((i) => html`<li key=${i}><button type="button" class="button quiet"
        onClick=${() => setCell([at.value, i])}>neuron ${neurons[i] + 1}</button> <span class="number">${short(row[i])}</span>
        <i class=${`moves ${row[i] < 0 ? "below" : ""}`} style=${{ width: `${(45 * Math.abs(row[i])) / Math.abs(row[strongest[0]])}%` }}></i>
      </li>`)}</ol>`}
    <h3>What this MLP says at ${placed(at.value)}</h3>
    <p class="hint">What it adds to the stream, read as the last layer would read it: how far it moves the tokens’ scores
      (logits) by itself.</p>
    <${ErrorNote} error=${writes.error} />
    <${Promoted} data=${writes.data} />`;
}
