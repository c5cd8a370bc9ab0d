/** The residual stream: one token's row of numbers, from the embedding to the last norm. */

import { html } from "htm/preact";
import { signal } from "@preact/signals";
import { useMemo, useState } from "preact/hooks";
import { ErrorNote, Toggle } from "../../common/ui.js";
import { greatest } from "./colours.js";
import { Heatmap, Legend, short } from "./heatmap.js";
import { at, layers, pass, useSlice } from "./state.js";
import { ChangedNote, number, placed } from "./words.js";

/** What has been added by a step. @param {number} step */
const after = (step) => {
  if (step === 0) return "embedding";
  return `${step % 2 ? "attention" : "MLP"} of block ${Math.ceil(step / 2)}`;
};

const byRow = signal(true);

/** Each row divided by its greatest magnitude. @param {Float32Array} numbers @param {number} columns */
function rowsAlike(numbers, columns) {
  const alike = new Float32Array(numbers.length);
  for (let begin = 0; begin < numbers.length; begin += columns) {
    const most = greatest(numbers.subarray(begin, begin + columns)) || 1;
    for (let i = begin; i < begin + columns; i++) alike[i] = numbers[i] / most;
  }
  return alike;
}

/** The same in short, for the sides of pictures. @param {number} step */
const briefly = (step) => (step === 0 ? "embedding" : `${step % 2 ? "attention" : "MLP"} ${Math.ceil(step / 2)}`);

export function Stream() {
  const { data, error, stale } = useSlice("stream", { at: at.value });
  const [cell, setCell] = useState(/** @type {[number, number] | null} */ (null));
  const [pointed, setPointed] = useState(/** @type {[number, number] | null} */ (null));
  const told = cell ?? pointed;
  const steps = 2 * layers.value + 1;
  const norms = pass.value?.arrays.stream_norms;
  if (!norms) return null;
  const all = Array.from({ length: steps }, (_, step) => number(norms, step, at.value));
  const width = data?.arrays.stream.shape[1] ?? 0;
  const stream = data?.arrays.stream.data;
  const drawn = useMemo(() => stream && (byRow.value ? rowsAlike(stream, width) : stream), [stream, width, byRow.value]);
  return html`
    <p>Every token has a row of numbers that runs through the network unbroken: the residual stream. Blocks read from it and
      add to it; none overwrites it. Below is the row of <strong>${placed(at.value)}</strong> after each addition.</p>
    <${ChangedNote} />
    <${ErrorNote} error=${error} />
    ${data && html`
      <output class="readout" aria-live="polite">${told && told[0] < steps && told[1] < width ? html`after the
        <strong> ${after(told[0])}</strong>, number ${told[1] + 1} of ${width}: <strong>${short(stream[told[0] * width + told[1]])}</strong>
        ${told[0] > 0 && html` = ${short(stream[(told[0] - 1) * width + told[1]])} before, and
          ${short(stream[told[0] * width + told[1]] - stream[(told[0] - 1) * width + told[1]])} added by it`}`
        : "Point at the map for its numbers; a click keeps a cell, arrow keys move it."}</output>
      <figure class=${stale ? "stale" : ""}><figcaption><span>from the embedding (top) to the last block (bottom)</span>
        ${!byRow.value && html`<${Legend} scale="signed" most=${greatest(stream)} />`}
        <${Toggle} label="colours fit each row by itself" value=${byRow} /></figcaption>
        <div class="stream">
          <ol style=${{ gridTemplateRows: `repeat(${steps}, 1fr)` }}>${all.map((_, step) => html`<li key=${step}>${briefly(step)}</li>`)}</ol>
          <${Heatmap} numbers=${drawn} columns=${width} scale="signed" label="the stream's numbers (columns) after each step (rows)"
            ratio=${NaN} cell=${cell} pointed=${pointed} onLock=${setCell} onPoint=${setPointed} />
        </div></figure>`}
    <h3>How long the row becomes</h3>
    <p class="hint">Length: the root of the sum of its squares. The last norm brings all rows to one length before they are
      compared with the tokens.</p>
    <ol class="lengths">${all.map((norm, step) => html`<li key=${step}><span>after ${briefly(step)}</span>
      <span class="number">${norm.toFixed(1)}</span>
      <i class="moves" style=${{ width: `${(100 * norm) / Math.max(...all)}%` }}></i></li>`)}</ol>`;
}
