/** The logit lens: what the model would predict if it ended after each layer, and pinned tokens across all layers. */

import { html } from "htm/preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { post } from "../../common/api.js";
import { Button, ErrorNote, percent } from "../../common/ui.js";
import { at, atShown, layers, model, MOST_PINS, pass, pins, pinTexts, tokens, useSlice } from "./state.js";
import { ChangedNote, Name, number, placed, plain } from "./words.js";

const DASHES = ["", "6 3", "2 3", "9 3 2 3", "1 2", "12 4", "4 2 1 2", "8 2"];

/** @param {number} layer */
const layerName = (layer) => (layer === 0 ? "embedding" : `after block ${layer}`);

/** @param {number} id */
function pin(id) {
  const others = pins.value.filter((other) => other !== id);
  pinTexts.value = others.length < pins.value.length ? others : [...others, id].slice(-MOST_PINS);
}

export function Lens() {
  const of = pass.value;
  const [layer, setLayer] = useState(-1); // −1 is the last
  const frame = useRef(/** @type {HTMLElement | null} */ (null));
  useEffect(() => {
    const cell = frame.current?.querySelector("td.chosen");
    if (!(cell instanceof HTMLElement) || !frame.current) return;
    const { offsetLeft, offsetWidth } = cell; // sideways only: the page itself stays where it is
    const [from, to] = [frame.current.scrollLeft, frame.current.scrollLeft + frame.current.clientWidth];
    if (offsetLeft - 150 < from || offsetLeft + offsetWidth > to) {
      frame.current.scrollLeft = offsetLeft + offsetWidth + 8 - frame.current.clientWidth;
    }
  }, [of, at.value]);
  if (!of) return null;
  const shown = layer < 0 || layer > layers.value ? layers.value : layer;
  const { lens_ids, lens_probabilities } = of.arrays;
  const rows = Array.from({ length: layers.value + 1 }, (_, i) => i);
  const go = (/** @type {number} */ row, /** @type {number} */ column) => {
    setLayer(row);
    atShown.value = column === tokens.value.length - 1 ? -1 : column;
  };
  /** @param {KeyboardEvent & {currentTarget: HTMLElement}} event */
  const move = (event) => {
    const [down, right] = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key] ?? [0, 0];
    if (event.key === "Enter" || event.key === " ") pin(number(lens_ids, shown, at.value, 0));
    else if (!down && !right) return;
    event.preventDefault();
    const row = Math.max(0, Math.min(layers.value, shown + down));
    const column = Math.max(0, Math.min(tokens.value.length - 1, at.value + right));
    go(row, column);
    requestAnimationFrame(() => {
      const cell = document.getElementById(cellId(row, column));
      cell?.focus({ preventScroll: true });
      cell?.scrollIntoView({ block: "nearest", inline: "nearest" });
    });
  };
  const listed = Array.from({ length: lens_ids.shape[2] }, (_, k) => ({
    token: of.tokenOf.get(number(lens_ids, shown, at.value, k)),
    p: number(lens_probabilities, shown, at.value, k),
  }));
  return html`
    <p>The last layer turns the stream into a guess at the next token. Do the same with the stream after every other layer,
      and you see the guess take shape. Each cell holds the likeliest next token, shaded by its probability. Choose a cell;
      pin a token to follow it through all layers.</p>
    <${ChangedNote} />
    <div class="wide lens-frame" ref=${frame} tabindex="-1"><table class="lens" role="grid" aria-label="logit lens: layers by positions" onKeyDown=${move}>
      <thead><tr><th scope="col">next token after</th>${tokens.value.map((token, column) => html`<th scope="col" key=${column}
        class=${column === at.value ? "here" : ""}><${Name} token=${token} /></th>`)}</tr></thead>
      <tbody>${rows.map((row) => html`<tr key=${row}><th scope="row">${layerName(row)}</th>
        ${tokens.value.map((_, column) => {
          const id = number(lens_ids, row, column, 0);
          const p = number(lens_probabilities, row, column, 0);
          const chosen = row === shown && column === at.value;
          return html`<td key=${column} id=${cellId(row, column)} role="gridcell" aria-selected=${chosen}
            tabindex=${chosen ? 0 : -1} class=${`${chosen ? "chosen" : ""} ${pins.value.includes(id) ? "is-pinned" : ""}`}
            style=${{ "--p": `${Math.round(100 * p)}%` }} onClick=${() => go(row, column)}>
            <${Name} token=${of.tokenOf.get(id)} /><small>${Math.round(100 * p)}</small></td>`;
        })}</tr>`)}</tbody>
    </table></div>
    <p class="hint">Small numbers are per cent. Arrow keys move, Enter pins the cell’s token.</p>
    <div class="lens-below">
      <div>
        <h3>Next token after ${placed(at.value)}, ${shown === 0 ? "read off the embedding" : layerName(shown)}</h3>
        <ol class="candidates">${listed.map(({ token, p }) => token && html`<li key=${token.id}>
          <${Button} kind="quiet" pressed=${pins.value.includes(token.id)} onClick=${() => pin(token.id)}
            label=${`pin ${plain(token)}`}>${pins.value.includes(token.id) ? "★" : "☆"} <${Name} token=${token} /><//>
          <span class="number">${percent(p)}</span><i class="moves" style=${{ width: `${40 * p}%` }}></i></li>`)}</ol>
      </div>
      <${Pinned} />
    </div>`;
}

/** @param {number} row @param {number} column */
const cellId = (row, column) => `lens-${row}-${column}`;

/** The probabilities of pinned tokens at the position, layer by layer. */
function Pinned() {
  const { data, error } = useSlice("pins", { ids: pins.value }, pins.value.length > 0);
  const [word, setWord] = useState("");
  const [problem, setProblem] = useState(/** @type {Error | null} */ (null));
  const add = async (/** @type {Event} */ event) => {
    event.preventDefault();
    try {
      const body = { prompt: word, add_special_tokens: false, parse_special: false, model: model.value || null };
      const { tokens } = await post("/tokenize", body);
      if (!tokens.length) throw new Error("Type a word to pin; with a space before it, as words in a text have.");
      if (!pins.value.includes(tokens[0])) pin(tokens[0]);
      setWord("");
      setProblem(null);
    } catch (error) {
      setProblem(/** @type {Error} */ (error));
    }
  };
  const shown = pins.value.length > 0 && data;
  return html`<div class="pins">
    <h3>Pinned tokens, layer by layer</h3>
    ${shown ? html`<${Lines} tokens=${data.header.tokens} probabilities=${data.arrays.probabilities} />`
      : html`<p class="hint">Nothing is pinned yet. Choose ☆ beside a token, or type one.</p>`}
    <form class="pin-form" onSubmit=${add}><label for="pin-word">Pin the first token of</label>
      <input id="pin-word" value=${word} onInput=${(/** @type {any} */ event) => setWord(event.currentTarget.value)} />
      <button class="button">Pin</button></form>
    <${ErrorNote} error=${problem ?? error} />
  </div>`;
}

/** @param {{tokens: import("./state.js").Token[], probabilities: import("./state.js").Tensor}} props */
function Lines({ tokens: pinned, probabilities }) {
  const n = layers.value;
  const x = (/** @type {number} */ layer) => 34 + (layer / Math.max(1, n)) * 250;
  const y = (/** @type {number} */ p) => 128 - 116 * p;
  const lines = pinned.map((_, i) => Array.from({ length: n + 1 }, (_, layer) => number(probabilities, layer, at.value, i)));
  const every = Math.ceil((n + 1) / 10);
  return html`<svg class="lines" viewBox="0 0 296 152" role="img"
      aria-label=${`probability of ${pinned.map(plain).join(", ")} after ${placed(at.value)}, from the embedding to the last block`}>
      ${[0, 0.5, 1].map((p) => html`<g key=${p}><line class="grid" x1="34" x2="284" y1=${y(p)} y2=${y(p)} />
        <text x="29" y=${y(p) + 3.5} text-anchor="end">${100 * p} %</text></g>`)}
      ${Array.from({ length: n + 1 }, (_, layer) => layer % every === 0 && html`<text key=${layer} x=${x(layer)} y="146"
        text-anchor="middle">${layer === 0 ? "emb." : layer}</text>`)}
      ${lines.map((line, i) => html`<g key=${pinned[i].id} class=${`line is-${i % 4}`}>
        <polyline points=${line.map((p, layer) => `${x(layer)},${y(p)}`).join(" ")} stroke-dasharray=${DASHES[i]} />
        ${line.map((p, layer) => html`<circle key=${layer} cx=${x(layer)} cy=${y(p)} r="2.6">
          <title>${plain(pinned[i])}, ${layerName(layer)}: ${percent(p)}</title></circle>`)}</g>`)}
    </svg>
    <ul class="pin-list">${pinned.map((token, i) => html`<li key=${token.id}>
      <svg viewBox="0 0 26 8" aria-hidden="true" class=${`line is-${i % 4}`}><line x1="0" x2="26" y1="4" y2="4" stroke-dasharray=${DASHES[i]} /></svg>
      <${Name} token=${token} /> <span class="number">${lines[i].map((p) => `${Math.round(100 * p)}`).join(" → ")} %</span>
      <${Button} kind="quiet" onClick=${() => pin(token.id)} label=${`unpin ${plain(token)}`}>✕<//></li>`)}</ul>`;
}
