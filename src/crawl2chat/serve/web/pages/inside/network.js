/** The whole network, drawn to scale: every matrix as high as the stream is wide, and as wide as its other side. */

import { html } from "htm/preact";
import { Thumbnail } from "./heatmap.js";
import { at, headShown, heads, isChanged, layerShown, layers, pass, view } from "./state.js";
import { KindTag, number, placed, scoresOf } from "./words.js";

const GAP = 0.12; // between matrices, of the stream's width
const ORDER = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];
const SHORT = { q_proj: "q", k_proj: "k", v_proj: "v", o_proj: "o", gate_proj: "gate", up_proj: "up", down_proj: "down" };

/** @param {number} value */
export const grouped = (value) => value.toLocaleString("en");

/**
 * Matrices side by side in one scale.
 * @param {{matrices: {name: string, wide: number}[], height: number, total: number, named?: boolean}} props
 *   total: numbers across the whole picture
 */
export function Matrices({ matrices, height, total, named = false }) {
  const above = named ? 0.3 * height : 0;
  let x = 0;
  return html`<svg class="matrices" viewBox=${`0 0 ${total} ${height + above}`} aria-hidden="true">
    ${matrices.map(({ name, wide }) => {
      const left = x;
      x += wide + GAP * height;
      return html`<g key=${name}><rect class=${`matrix is-${name}`} x=${left} y=${above} width=${wide} height=${height}
        vector-effect="non-scaling-stroke"><title>${name}: ${wide} × ${height}</title></rect>
        ${named && html`<text x=${left + wide / 2} y=${0.75 * above} font-size=${0.8 * above}
          text-anchor="middle">${name}</text>`}</g>`;
    })}
  </svg>`;
}

/** A block's matrices as they are drawn: name, and the side that is not the stream's width. */
export function blockMatrices() {
  const block = pass.value?.header.parts.block ?? {};
  return ORDER.map((name) => {
    const [out, into] = block[name];
    const side = name === "o_proj" || name === "down_proj" ? into : out;
    return { name: SHORT[/** @type {keyof typeof SHORT} */ (name)], wide: side };
  });
}

/** @param {{name: string, wide: number}[]} matrices @param {number} height */
export const across = (matrices, height) =>
  matrices.reduce((sum, { wide }) => sum + wide + GAP * height, -GAP * height);

export function Network() {
  const of = pass.value;
  if (!of) return null;
  const { parts } = of.header;
  const [vocabulary, width] = parts.embedding;
  const matrices = blockMatrices();
  const total = Math.max(vocabulary, across(matrices, width));
  const scale = (/** @type {number} */ n) => `${((100 * n) / parts.total).toFixed(1)} % of all`;
  const embedding = vocabulary * width;
  const sized = `${grouped(vocabulary)} tokens × ${width} numbers = ${grouped(embedding)} parameters, ${scale(embedding)}`;
  const show = (/** @type {string} */ what, /** @type {number} */ layer = 0, /** @type {number} */ head = 0) => () => {
    layerShown.value = layer;
    headShown.value = head;
    view.value = what;
  };
  return html`
    <p>Text enters at the top as a row of numbers per token, passes ${layers.value} blocks, each of which adds something to
      that row, and leaves at the bottom as a score for each of ${grouped(vocabulary)} tokens. The model has
      <strong> ${grouped(parts.total)} parameters</strong>; every rectangle is one matrix of them, all drawn to one scale.
      Choose a part to look into it.</p>
    <ol class="network">
      <li><button type="button" class="part" onClick=${show("stream")}>
        <span class="part-title"><strong>Embedding</strong> <span>${sized}</span></span>
        <${Matrices} matrices=${[{ name: "embedding", wide: vocabulary }]} height=${width} total=${total} />
      </button></li>
      ${Array.from({ length: layers.value }, (_, layer) => html`<li key=${layer} class="network-block">
        <button type="button" class=${`part ${isChanged({ part: "block", layer }) ? "is-off" : ""}`}
          onClick=${show("block", layer)}>
          <span class="part-title"><strong>Block ${layer + 1}</strong>
            <span>${grouped(parts.block_parameters)} parameters, ${scale(parts.block_parameters)}${
              layer === 0 ? "; from the left: q, k, v, o of the attention, gate, up, down of the multi-layer perceptron (MLP)" : ""}</span></span>
          <${Matrices} matrices=${matrices} height=${width} total=${total} />
        </button>
        <div class="network-heads">
          ${Array.from({ length: heads.value }, (_, head) => html`<${HeadButton} key=${head} layer=${layer} head=${head}
            onClick=${show("head", layer, head)} />`)}
          <${Written} layer=${layer} />
        </div>
      </li>`)}
      <li><button type="button" class="part" onClick=${show("lens")}>
        <span class="part-title"><strong>Head</strong> <span>${parts.tied
          ? "the embedding once more, turned around: no parameters of its own but the last norm’s"
          : sized}</span></span>
        <${Matrices} matrices=${[{ name: parts.tied ? "tied" : "head", wide: vocabulary }]} height=${width} total=${total} />
      </button></li>
    </ol>
    <p class="hint">The small squares are attention: a row for each token, a column for each token that it may look back at.
      ◆ marks induction heads, ◂ heads that look at the token before, each with the share of attention that goes there
      ${of.header.pairs ? ` (measured on the ${of.header.pairs} pairs of tokens that come again in this text` :
        " (no pair of tokens comes again in this text, so induction is measured only"}, and on random tokens that come
      twice). The bars show how much the parts of each block write at ${placed(at.value)}.</p>`;
}

/** @param {{layer: number, head: number, onClick: () => void}} props */
function HeadButton({ layer, head, onClick }) {
  const { maps } = /** @type {any} */ (pass.value).arrays;
  const side = maps.shape[2];
  const begin = (layer * maps.shape[1] + head) * side * side;
  const off = isChanged({ part: "head", layer, head });
  const { kind } = scoresOf(layer, head);
  return html`<button type="button" class=${`head-button ${off ? "is-off" : ""} ${kind === "induction" ? "is-marked" : ""}`}
    onClick=${onClick} aria-label=${`head ${head + 1} of block ${layer + 1}${kind ? `, ${kind} head` : ""}${off ? ", switched off" : ""}`}>
    <${Thumbnail} bytes=${maps.data.subarray(begin, begin + side * side)} columns=${side} />
    <span>head ${head + 1}${off ? " (off)" : ""}</span><${KindTag} layer=${layer} head=${head} />
  </button>`;
}

/** How much the heads and the MLP of a block add to the stream at the position. @param {{layer: number}} props */
function Written({ layer }) {
  const { head_norms, mlp_norms } = /** @type {any} */ (pass.value).arrays;
  const all = [
    ...Array.from({ length: heads.value }, (_, head) => ({
      name: `head ${head + 1}`, norm: number(head_norms, layer, head, at.value),
    })),
    { name: "MLP", norm: number(mlp_norms, layer, at.value) },
  ];
  let most = 0;
  for (let other = 0; other < layers.value; other++) {
    most = Math.max(most, number(mlp_norms, other, at.value));
    for (let head = 0; head < heads.value; head++) most = Math.max(most, number(head_norms, other, head, at.value));
  }
  return html`<div class="written" tabindex="0" role="group" aria-label=${`what the parts of block ${layer + 1} write`}><dl>${all.map(({ name, norm }) => html`<div key=${name}>
    <dt>${name}</dt><dd><i class="moves" style=${{ width: `${(70 * norm) / (most || 1)}%` }}></i>${norm.toFixed(1)}</dd>
  </div>`)}</dl></div>`;
}
