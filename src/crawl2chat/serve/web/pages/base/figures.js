/** What the run measured, for one view: plots, how to read them, all figures; or what is missing and which command makes it. */

import { html } from "htm/preact";
import { useSignal } from "@preact/signals";
import { useAnswer } from "../../common/answer.js";
import { post } from "../../common/api.js";
import { urlState } from "../../common/state.js";
import { Pager } from "../../common/pager.js";
import { Busy, ErrorNote, Select, Wide } from "../../common/ui.js";
import { Bars, Chart } from "./chart.js";
import { Mark } from "./now.js";
import { about, of, outside } from "./state.js";

/** @typedef {{what: string, value: number, text: string, count: number | null}} Figure */
/** @typedef {{title: string, note: string, bars: {title: string, rates: Figure[]} | null, curves: import("./chart.js").Curves[], figures: Figure[]}} Part */

/** Where the pages are not those of the made-up web. @type {Record<string, string>} */
const UNKNOWN_TRUTH = {
  recitation: "Recitation by number of copies was not measured: it needs passages whose copies were counted, as the made-up web has them.",
  knowledge: "Knowledge was not measured: it needs pages of which everything that they state is known, as the made-up web has them.",
  games: "Learning from the prompt was not measured: it needs pages with invented words, as the made-up web has them.",
};
/** And where the model was brought from elsewhere. @type {Record<string, string>} */
const FROM_OUTSIDE = {
  compression: "Bits per byte were not measured: name a text with --data when you run eval --suite base.",
  recitation: "Of a model from elsewhere nobody here knows what it learned from, so how often it met a passage can’t be counted.",
  knowledge: "Of a model from elsewhere nobody here knows how often it met a fact.",
};

/**
 * The figures that a view is called after, what belongs to them, and the other parts that are about the same.
 * @param {{view: string, children?: any}} props
 */
export function Measured({ view, children }) {
  const found = useSignal(/** @type {{parts: Part[], complete: boolean} | null} */ (null));
  const whose = outside();
  const known = about.value;
  const measured = known?.measured || whose;
  const failure = useAnswer(found, async (signal) => (measured ? post("/app/base/figures", { view, outside: whose }, { signal }) : null), [view, whose]);
  const { parts = [], complete = false } = found.value ?? {};
  const [first, ...others] = complete ? parts : [null, ...parts];
  const missing = found.value && !complete && (whose ? FROM_OUTSIDE : UNKNOWN_TRUTH)[view];
  return html`
    ${whose && known && known.outside.length > 1 && html`<div class="controls"><${Select} label="Figures of" value=${of} options=${known.outside.map((name) => ({ value: name === whose ? of.value : name, label: name }))} /></div>`}
    <${ErrorNote} error=${failure} />
    ${measured && !found.value && !failure && html`<${Busy}>reading …<//>`}
    ${missing && html`<p class="hint absent">${missing}</p>`}
    ${first && html`<${Shown} part=${first} />`}
    ${whose && html`<${Answers} key=${`${view} ${whose}`} view=${view} whose=${whose} />`}
    ${children}
    ${others.map((part) => part && html`<${Shown} key=${part.title} part=${part} />`)}`;
}

/** @param {{part: Part}} props */
function Shown({ part }) {
  const most = Math.max(1e-9, ...(part.bars?.rates ?? []).map((rate) => rate.value));
  return html`<section class="part" aria-label=${part.title}>
    <h2>${part.title}</h2>
    <div class="charts">
      ${part.bars && html`<figure class="chart"><figcaption>${part.bars.title}</figcaption>
        <${Bars} label=${part.bars.title} bars=${part.bars.rates.map((rate) => ({ what: rate.what, text: rate.text.replace("bits/byte", "bits"), length: rate.value / most, ours: rate.what === "model" }))} /></figure>`}
      ${part.curves.map((curves) => html`<${Chart} key=${curves.title} curves=${curves} />`)}
    </div>
    <p class="hint note">${part.note} In brackets: the interval in which the true value lies with 95 % confidence.</p>
    <details><summary>All ${part.figures.length} figures</summary><${Wide} label=${`${part.title}, all figures`}><table>
      <thead><tr><th>figure</th><th class="number">value [95 % interval]</th><th class="number">of</th></tr></thead>
      <tbody>${part.figures.map((figure, i) => html`<tr key=${i}><td>${figure.what}</td><td class="number">${figure.text}</td><td class="number">${figure.count ? figure.count.toLocaleString("en") : ""}</td></tr>`)}</tbody>
    </table><//></details>
  </section>`;
}

/** @typedef {{question: string, expected?: string, answer: string, right?: boolean, drawn?: string[]}} Answer */

/** What a model from elsewhere answered. @param {{view: string, whose: string}} props */
function Answers({ view, whose }) {
  /** @type {import("@preact/signals").Signal<string>} */
  const part = urlState(`${view}-answers`, "");
  /** @type {import("@preact/signals").Signal<number>} */
  const offset = urlState(`${view}-from`, 0);
  const parts = useSignal(/** @type {{parts: {part: string, title: string, answers: number, right: number | null}[]} | null} */ (null));
  const found = useSignal(/** @type {{total: number, rows: Answer[]} | null} */ (null));
  const failure = useAnswer(parts, (signal) => post("/app/base/answer-parts", { view, outside: whose }, { signal }), [view, whose]);
  const known = parts.value?.parts ?? [];
  const chosen = known.find((one) => one.part === part.value) ?? known[0];
  const lost = useAnswer(found, async (signal) => (chosen ? post("/app/base/answers", { outside: whose, part: chosen.part, offset: offset.value }, { signal }) : null),
    [chosen?.part, whose, offset.value]);
  if (!known.length) return html`<${ErrorNote} error=${failure} />`;
  return html`<h2>Its answers</h2>
    <div class="controls"><${Select} label="Questions" value=${part} onChange=${() => (offset.value = 0)}
      options=${known.map((one) => ({ value: one === chosen ? part.value : one.part, label: `${one.title} (${one.right === null ? `${one.answers} answers` : `${one.right} of ${one.answers} right`})` }))} /></div>
    <${ErrorNote} error=${lost} />
    ${found.value && html`<${Pager} total=${found.value.total} offset=${offset} what="answers" />
      <${Wide} label="answers"><table><thead><tr><th>question</th><th>right answer</th><th>its answer</th></tr></thead>
      <tbody>${found.value.rows.map((row, i) => html`<tr key=${i}><td class="says">${row.question}</td><td class="says">${row.expected ?? "–"}</td>
        <td class="says">${row.answer} <${Mark} right=${row.right} />${row.drawn && html`<ul>${row.drawn.map((text, k) => html`<li key=${k}>${text}</li>`)}</ul>`}</td></tr>`)}</tbody></table><//>`}`;
}
