/** Start: the way from crawl to chat as one picture with this run's figures, and what can be looked at. */

import { html } from "htm/preact";
import { signal } from "@preact/signals";
import { about } from "../../common/about.js";
import { useAnswer } from "../../common/answer.js";
import { get } from "../../common/api.js";
import { duration } from "../../common/numbers.js";
import { Busy, ErrorNote, Wide } from "../../common/ui.js";
import { PAGES } from "../../shell.js";

/** @typedef {{text: string, is_value: boolean, interval: string}} Part */
/** @typedef {{what: string, value: string, length: number}} Bar */
/** @typedef {{name: string, title: string, happens: string, said: Part[], bars: Bar[], page: string | null,
 *   state: "made" | "earlier" | "begun", seconds: number | null}} Step */

/** @type {import("@preact/signals").Signal<{steps: Step[], absent: string[]} | null>} */
const way = signal(null);
const STATES = { made: "", earlier: "made from an earlier state", begun: "begun, not finished" };

export default function Page() {
  const failure = useAnswer(way, (signal) => get("/app/home", { signal }), []);
  const isRun = about.value?.is_run;
  return html`
    <h1>${isRun ? "A run, from crawl to chat" : "A model"}</h1>
    <p class="lead">Everything on these pages is computed by the models in <code>${about.value?.name}</code>, live, on this
      machine. Nothing leaves it.</p>
    <${ErrorNote} error=${failure} />
    ${isRun && way.value === null && !failure && html`<${Busy}>reading …<//>`}
    ${way.value && way.value.steps.length > 0 && html`<${Way} steps=${way.value.steps} absent=${way.value.absent} />`}
    <h2>What to look at</h2>
    <ul class="doors">
      ${PAGES.map((page) => html`<li key=${page.path}><a class="card" href=${page.path}>
        <strong>${page.title}</strong><span>${page.says}</span></a></li>`)}
    </ul>
    <${Models} />`;
}

/** @param {{steps: Step[], absent: string[]}} props */
function Way({ steps, absent }) {
  return html`
    <ol class="way" aria-label="The way of this run">${steps.map((step) => html`<${Station} key=${step.name} step=${step} />`)}</ol>
    ${absent.length > 0 && html`<p class="hint">Not in this run: ${absent.join("; ")}.</p>`}`;
}

/** @param {{step: Step}} props */
function Station({ step }) {
  const link = step.page && PAGES.some((page) => page.name === step.page) ? `/${step.page}` : undefined;
  return html`<li class=${`card ${step.state}`}>
    <h2>${link ? html`<a href=${link}>${step.title}</a>` : step.title}</h2>
    <${Bars} bars=${step.bars} />
    <p>${step.said.length ? step.said.map((part, i) => html`<${Said} key=${i} part=${part} />`) : step.happens}</p>
    <p class="hint">${[STATES[step.state], step.seconds !== null && duration(step.seconds)].filter(Boolean).join(", ")}</p>
  </li>`;
}

/** @param {{part: Part}} props */
function Said({ part }) {
  if (!part.is_value) return part.text;
  return html`<b>${part.text}</b>${part.interval && html` <small>${part.interval}</small>`}`;
}

/** @param {{bars: Bar[]}} props */
function Bars({ bars }) {
  if (!bars.length) return null;
  return html`<dl class="bars">${bars.map((bar) => html`<div key=${bar.what}>
    <dt>${bar.what}</dt>
    <dd><span class="track" aria-hidden="true"><span class="fill" style=${{ width: `${100 * bar.length}%` }}></span></span>${bar.value}</dd>
  </div>`)}</dl>`;
}

function Models() {
  const models = about.value?.models ?? [];
  return html`
    <h2>${models.length === 1 ? "The model" : "Its models"}</h2>
    <${Wide} label="models"><table>
      <thead><tr><th>name</th><th>what it is</th><th class="number">parameters</th><th class="number">layers × width</th>
        <th class="number">vocabulary</th><th class="number">context</th></tr></thead>
      <tbody>${models.map((model) => html`<tr key=${model.name}>
        <td><code>${model.name}</code>${model.name === about.value?.default && html` <span class="tag">default</span>`}</td>
        <td>${model.title}</td>
        <td class="number">${model.parameters.toLocaleString("en")}</td>
        <td class="number">${model.layers} × ${model.width}</td>
        <td class="number">${model.vocabulary.toLocaleString("en")}</td>
        <td class="number">${model.context.toLocaleString("en")}</td></tr>`)}</tbody>
    </table><//>
    <p class="hint">The same models answer at <code>${location.origin}/v1</code> in the form of OpenAI’s API
      (application programming interface).</p>`;
}
