/** Compression: what the run measured, and any text now, with the bits that each of its tokens costs. */

import { html } from "htm/preact";
import { signal, useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { about as server, modelNamed } from "../../common/about.js";
import { post, wellFormed } from "../../common/api.js";
import { urlState } from "../../common/state.js";
import { Busy, Button, ErrorNote, Field, ModelPicker, TokenText, Wide } from "../../common/ui.js";
import { Bars } from "./chart.js";
import { Measured } from "./figures.js";
import { about, asked, model } from "./state.js";

/** @typedef {{id: number, text: string | null, bytes: string, control: boolean}} Token */
/** @typedef {{tokens: Token[], of: Int32Array, bits: Float32Array, bytes: number, programs: Record<string, number>, model: string}} Compressed */

const LIMITS = [0.5, 2, 4, 7, 11]; // bits, between the colours
const SHOWN = 3000; // tokens
const LISTED = 12;

/** @type {import("@preact/signals").Signal<string>} */
const text = urlState("text", "");
const found = signal(/** @type {Compressed | null} */ (null));

export function Compression() {
  return html`<${Measured} view="compression"><${Live} /><//>`;
}

function Live() {
  const busy = useSignal(false);
  const failure = useSignal(/** @type {Error | null} */ (null));
  const asking = useRef(new AbortController());
  useEffect(() => {
    found.value = null; // of another visit, and perhaps of another text
    return () => asking.current.abort();
  }, []);
  const compress = async () => {
    asking.current.abort();
    const { signal: ended } = (asking.current = new AbortController());
    busy.value = true;
    failure.value = null;
    try {
      const { header, arrays } = await post("/app/base/compress", { ...asked(), text: wellFormed(text.value) }, { signal: ended });
      found.value = { ...header, of: arrays.tokens_of.data, bits: arrays.bits.data };
    } catch (problem) {
      if (ended.aborted) return;
      found.value = null;
      failure.value = /** @type {Error} */ (problem);
    }
    busy.value = false;
  };
  const take = (/** @type {string} */ value) => {
    text.value = value;
    found.value = null;
  };
  return html`<section aria-label="compress a text now">
    <h2>Now, with your text</h2>
    <p>To predict well is to compress well: a token that the model gives the probability 1/8 can be written down in 3 bits, as an
      arithmetic coder does. Paste a text, and see what each of its tokens costs.</p>
    ${(about.value?.texts.length ?? 0) > 0 && html`<div class="controls" role="group" aria-label="texts of this run">
      ${about.value?.texts.map((one) => html`<${Button} key=${one.title} onClick=${() => {
        take(one.text);
        compress();
      }}>${one.title}<//>`)}</div>`}
    <${Field} label="Text, up to 20,000 characters">${(/** @type {string} */ id) => html`<textarea id=${id} rows="5" maxlength="20000" spellcheck=${false} value=${text.value}
      onInput=${(/** @type {any} */ event) => take(event.currentTarget.value)}></textarea>`}<//>
    <div class="controls"><${ModelPicker} value=${model} onChange=${() => (found.value = null)} />
      <${Button} kind="main" onClick=${compress} disabled=${!text.value || busy.value || !server.value}>Compress<//></div>
    <${ErrorNote} error=${failure.value} />
    ${busy.value && html`<${Busy}>reading every token …<//>`}
    ${found.value && html`<${Result} result=${found.value} />`}
  </section>`;
}

/** @param {{result: Compressed}} props */
function Result({ result }) {
  const { bits, bytes, programs } = result;
  const total = bits.reduce((sum, one) => sum + one, 0);
  const rates = [{ what: "the model", size: total / 8, ours: true }, ...Object.entries(programs).map(([what, size]) => ({ what, size, ours: false }))];
  const most = Math.max(...rates.map((rate) => rate.size));
  const parameters = modelNamed(result.model)?.parameters ?? 0;
  return html`
    <${Bars} label="bits per byte of this text" bars=${rates.map(({ what, size, ours }) => ({
      what, length: size / most, ours, text: `${((8 * size) / bytes).toFixed(2)} bits per byte, ${Math.ceil(size).toLocaleString("en")} bytes`,
    }))} />
    <p class="hint">The text has ${bytes.toLocaleString("en")} bytes in ${bits.length.toLocaleString("en")} tokens. The programs read nothing before it, and a short text costs
      them a header; the model brings what it has learned, ${parameters.toLocaleString("en")} parameters that are not counted here. A text that it learned from costs it less than a new one.</p>
    <p class="legend hint">Bits of each token: ${[...LIMITS.map((limit) => `up to ${limit}`), "more"].map((says, i) => html`<span key=${i} class=${`bits-${i}`}>${says}</span> `)}
      The more bits, the thicker the line under it.</p>
    <div class="costs" role="region" tabindex="0" aria-label="the text, each token by its bits">${Array.from(result.of.subarray(0, SHOWN), (place, i) => html`<span key=${i}
      class=${`bits-${shade(bits[i])}`} title=${`${bits[i].toFixed(2)} bits`}><${TokenText} ...${result.tokens[place]} /></span>`)}</div>
    ${bits.length > SHOWN && html`<p class="hint">The first ${SHOWN.toLocaleString("en")} tokens are shown; all are counted.</p>`}
    <details><summary>The tokens that cost most</summary><${Costliest} result=${result} total=${total} /></details>`;
}

/** @param {{result: Compressed, total: number}} props */
function Costliest({ result: { bits, of, tokens }, total }) {
  const order = Array.from(bits.keys()).sort((a, b) => bits[b] - bits[a]).slice(0, LISTED);
  return html`<${Wide} label="the tokens that cost most"><table>
    <thead><tr><th>token</th><th class="number">place</th><th class="number">bits</th><th class="number">share of all</th></tr></thead>
    <tbody>${order.map((i) => html`<tr key=${i}><td><${TokenText} ...${tokens[of[i]]} /></td><td class="number">${(i + 1).toLocaleString("en")}</td>
      <td class="number">${bits[i].toFixed(2)}</td><td class="number">${((100 * bits[i]) / total).toFixed(1)} %</td></tr>`)}</tbody></table><//>`;
}

/** The class of a token's colour. @param {number} bits */
function shade(bits) {
  const place = LIMITS.findIndex((limit) => bits <= limit);
  return place < 0 ? LIMITS.length : place;
}
