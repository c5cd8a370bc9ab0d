/** One attention head: queries, keys, scores, the mask, softmax, values, and what comes of them. */

import { html } from "htm/preact";
import { signal } from "@preact/signals";
import { useMemo, useState } from "preact/hooks";
import { dark } from "../../common/theme.js";
import { ErrorNote, percent, Toggle } from "../../common/ui.js";
import { greatest, roots, table } from "./colours.js";
import { Heatmap, Legend, short } from "./heatmap.js";
import { at, atShown, cellShown, head, layer, locked, pass, tokens, useSlice } from "./state.js";
import { ChangedNote, KindTag, Name, placed, plain, Promoted, scoresOf, SwitchOff, Where } from "./words.js";

/** @typedef {import("./heatmap.js").Cell} Cell */

const raw = signal(false);

export function Head() {
  const where = { layer: layer.value, head: head.value };
  const { data, error, stale } = useSlice("head", { ...where, raw: raw.value });
  const writes = useSlice("writes", { ...where, at: at.value });
  const [pointed, setPointed] = useState(/** @type {Cell | null} */ (null));
  const n = tokens.value.length;
  const squares = useMemo(() => data && {
    scores: unpacked(data.arrays.scores.data, n), attention: unpacked(data.arrays.attention.data, n),
  }, [data, n]);
  const drawn = useMemo(() => squares && { scores: squares.scores, attention: roots(squares.attention) }, [squares]);
  const told = locked.value ?? pointed;
  const lock = (/** @type {Cell | null} */ cell) => {
    cellShown.value = cell ?? [];
    if (cell) atShown.value = cell[0] === n - 1 ? -1 : cell[0];
  };
  const { kind, induction, previous, first, random } = scoresOf(layer.value, head.value);
  const square = (/** @type {"scores" | "attention"} */ what) => drawn && html`<${Labelled}><${Heatmap} numbers=${drawn[what]}
    columns=${n} scale=${what === "scores" ? "signed" : "share"} hatched=${true} row=${at.value}
    most=${what === "attention" ? 1 : undefined} cell=${locked.value} pointed=${pointed}
    onLock=${lock} onPoint=${setPointed}
    label=${what === "scores" ? "scores of queries (rows) and keys (columns)" : "attention of each token (rows) to the ones before (columns)"} /><//>`;
  return html`
    <${Where} withHead=${true} />
    <p>Each token sends out a <em>query</em> and offers a <em>key</em>; where they match, it takes more of the other token’s
      <em> value</em>. ${data?.header.group > 1 && html`${data.header.group} heads of this model share a key and a value
      (grouped-query attention). `}A token sees itself and those before it, so half of the square stays empty (the causal mask).</p>
    <p><${KindTag} layer=${layer.value} head=${head.value} /> On average over this text, ${percent(previous)} of its attention goes to the token before and
      ${" "}${percent(first)} to the first token. ${pass.value?.header.pairs ? `Where a pair of tokens comes again, ${percent(induction)}
      goes to what followed earlier; on` : "On"} random tokens that come twice, ${percent(random)} goes to what followed
      earlier${kind === "induction" ? ": an induction head, which finds the present token further up and attends to what came next" : ""}.</p>
    <div class="actions"><${SwitchOff} change=${{ part: "head", ...where }}>this head<//></div>
    <${ChangedNote} />
    <${ErrorNote} error=${error} />
    ${squares && html`
      <h3 class="looks-title">Where ${placed(at.value)} looks</h3>
      <${Looks} attention=${squares.attention} n=${n} />
      <output class="readout" aria-live="polite">${told && told[0] < n ? html`<${CellWords} cell=${told} squares=${squares} dimension=${dimension(data)} />` :
        "Point at a square for its numbers; a click keeps a cell, arrow keys move it (with Shift by ten)."}</output>
      <div class=${`maps ${stale ? "stale" : ""}`}>
        <figure><figcaption><span><strong>Attention</strong>: scores through softmax; each row adds up to 1 (colour: the root
          of the share)</span>
          <${Legend} scale="share" most=${1} /></figcaption>${square("attention")}</figure>
        <figure><figcaption><span><strong>Scores</strong>: query · key ÷ √${dimension(data)}</span>
          <${Legend} scale="signed" most=${greatest(data.arrays.scores.data)} /></figcaption>${square("scores")}</figure>
      </div>
      <div class="with-toggle"><h3>Queries, keys, values, and their mixture</h3>
        <${Toggle} label="queries and keys before their norm and rotation" value=${raw} /></div>
      <div class=${`maps narrow ${stale ? "stale" : ""}`}>
        <${Rows} title="Queries" says="a row per token: what it looks for" tensor=${data.arrays.q} row=${told?.[0]} />
        <${Rows} title="Keys" says="what each token can be found by" tensor=${data.arrays.k} row=${told?.[1]} />
        <${Rows} title="Values" says="what each token hands over" tensor=${data.arrays.v} row=${told?.[1]} />
        <${Rows} title="Mixture" says="attention × values" tensor=${data.arrays.mixed} row=${told?.[0]} />
      </div>`}
    <h3>What this head says at ${placed(at.value)}</h3>
    <p class="hint">Its mixture, brought back to the stream and read as the last layer would read it: how far it moves the
      tokens’ scores (logits) by itself.</p>
    <${ErrorNote} error=${writes.error} />
    <${Promoted} data=${writes.data} />`;
}

/** A square with the tokens along its sides, where there is room for them. @param {{children: any}} props */
function Labelled({ children }) {
  if (tokens.value.length > MOST_LABELS) return children;
  const names = (/** @type {number} */ side) => tokens.value.map((token, i) => html`<li key=${i}
    class=${side === 0 && i === at.value ? "here" : ""}>${shortened(plain(token))}</li>`);
  return html`<div class="labelled">
    <ol class="columns" aria-hidden="true">${names(1)}</ol><ol class="rows" aria-hidden="true">${names(0)}</ol>${children}</div>`;
}
const MOST_LABELS = 32;

/** @param {string} label */
const shortened = (label) => (label.length > 9 ? `${label.slice(0, 8)}…` : label);

/** @param {any} data */
const dimension = (data) => data.arrays.q.shape[1];

/** A square of rows and columns, NaN where the mask is. @param {Float32Array} packed @param {number} n */
function unpacked(packed, n) {
  const square = new Float32Array(n * n).fill(NaN);
  for (let row = 0, begin = 0; row < n; begin += ++row) square.set(packed.subarray(begin, begin + row + 1), row * n);
  return square;
}

/** @param {{cell: Cell, squares: {scores: Float32Array, attention: Float32Array}, dimension: number}} props */
function CellWords({ cell: [row, column], squares, dimension }) {
  const n = tokens.value.length;
  if (column > row) return html`${placed(row)} can’t see ${placed(column)}, which comes later: masked.`;
  const score = squares.scores[row * n + column];
  const share = squares.attention[row * n + column];
  let greatestScore = -Infinity;
  for (let i = 0; i <= row; i++) greatestScore = Math.max(greatestScore, squares.scores[row * n + i]);
  let sum = 0;
  for (let i = 0; i <= row; i++) sum += Math.exp(squares.scores[row * n + i] - greatestScore);
  return html`${placed(row)} looks at ${placed(column)} with <strong>${share.toFixed(4)}</strong> of its attention
    = exp(score ${short(score)} − the row’s greatest ${short(greatestScore)}) ÷ ${short(sum)}, the sum of these over the row;
    score = query of ‘${plain(tokens.value[row])}’ · key of ‘${plain(tokens.value[column])}’ ÷ √${dimension}.`;
}

/** The text, each token shaded by how much of the position's attention it has. @param {{attention: Float32Array, n: number}} props */
function Looks({ attention, n }) {
  const row = at.value;
  const shares = Array.from({ length: row + 1 }, (_, i) => attention[row * n + i]);
  const most = [...shares.keys()].sort((a, b) => shares[b] - shares[a]).slice(0, 3);
  const colours = table("share", dark.value);
  return html`<div class="looks" role="group" tabindex="0" aria-label="attention to each token">${shares.map((share, i) => {
      const step = 4 * Math.round(Math.max(0, Math.min(1, share)) * 255);
      return html`<span key=${i} class=${i === row ? "here" : ""}><i
        style=${{ backgroundColor: `rgb(${colours[step]} ${colours[step + 1]} ${colours[step + 2]})` }}></i><${Name}
        token=${tokens.value[i]} /></span>`;
    })}</div>
    <p class="hint">Most of it goes to ${most.map((i, rank) => html`${rank ? ", " : ""}<b>${placed(i)}</b> ${percent(shares[i])}`)}.</p>`;
}

/** @param {{title: string, says: string, tensor: import("./state.js").Tensor, row?: number}} props */
function Rows({ title, says, tensor, row }) {
  const [cell, setCell] = useState(/** @type {Cell | null} */ (null));
  const [pointed, setPointed] = useState(/** @type {Cell | null} */ (null));
  const columns = tensor.shape[1];
  const told = cell ?? pointed;
  return html`<figure><figcaption><span><strong>${title}</strong>: ${says}</span>
    <${Legend} scale="signed" most=${greatest(tensor.data)} /></figcaption>
    <${Heatmap} numbers=${tensor.data} columns=${columns} scale="signed" label=${`${title}: ${says}`} ratio=${1} row=${row}
      cell=${cell} pointed=${pointed} onLock=${setCell} onPoint=${setPointed} />
    <output class="hint" aria-live="polite">${told && told[0] < tensor.shape[0]
      ? `${placed(told[0])}, number ${told[1] + 1} of ${columns}: ${short(tensor.data[told[0] * columns + told[1]])}`
      : `${tensor.shape[0]} tokens × ${columns} numbers`}</output></figure>`;
}
