/** What was measured at an evaluation, and what the model wrote then. */

import { html } from "htm/preact";
import { signal } from "@preact/signals";
import { post } from "../../common/api.js";
import { brief } from "../../common/numbers.js";
import { useAnswer } from "../../common/answer.js";
import { Button, ErrorNote, Field } from "../../common/ui.js";
import { chosen, curves, evaluation } from "./state.js";

/**
 * @typedef {{count: number, index: number, step: number, values: {name: string, title: string, value: number}[],
 *   samples: {prompt: string, text: string}[], share: number}} Found
 */
const found = signal(/** @type {Found | null} */ (null));

export function Checkpoint() {
  const now = chosen.value;
  const id = now?.id ?? "";
  // asked again when the training has gone on, as long as its newest evaluation is looked at
  const state = curves.value?.trainings[0];
  const news = evaluation.value < 0 ? `${state?.step} ${curves.value?.share === 1}` : "";
  const failure = useAnswer(found, (signal) => post("/app/training/checkpoint", { training: id, index: evaluation.value }, { signal }),
    [id, evaluation.value, news], 100);
  const shown = found.value;
  if (!shown?.count) return html`<${ErrorNote} error=${failure} />`;
  const last = shown.count - 1;
  const turn = (/** @type {number} */ index) => (evaluation.value = index >= last ? -1 : Math.max(0, index));
  return html`<section class="card checkpoint" aria-label="evaluations">
    <h2>${`At step ${shown.step.toLocaleString("en")}`}</h2>
    <${ErrorNote} error=${failure} />
    <div class="controls">
      <${Field} label=${`Evaluation ${(shown.index + 1).toLocaleString("en")} of ${shown.count.toLocaleString("en")}`}>
        ${(/** @type {string} */ at) => html`<input id=${at} type="range" min="0" max=${last} value=${evaluation.value < 0 ? last : evaluation.value}
          onInput=${(/** @type {any} */ event) => turn(event.currentTarget.valueAsNumber)} />`}<//>
      <${Button} onClick=${() => turn(shown.index - 1)} disabled=${shown.index === 0}>Earlier<//>
      <${Button} onClick=${() => turn(shown.index + 1)} disabled=${shown.index === last}>Later<//>
    </div>
    <dl class="values">${shown.values.map(({ name, title, value }) => html`<div key=${name}><dt>${title}</dt><dd>${brief(value)}</dd></div>`)}</dl>
    ${shown.samples.length > 0 && html`<h3>What the model wrote then</h3>
      <p class="hint">The most probable continuations of the same held-out beginnings.</p>
      <ul class="samples">${shown.samples.map(({ prompt, text }, i) => html`<li key=${i}><span class="before">${prompt}</span><mark>${text}</mark></li>`)}</ul>`}
  </section>`;
}
