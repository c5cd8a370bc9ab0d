/** How answers are drawn, and the system message. */

import { html } from "htm/preact";
import { about, modelNamed } from "../../common/about.js";
import { Field, Slider } from "../../common/ui.js";
import { columns, sampling, seed, system } from "./state.js";

export function Settings() {
  const contexts = columns.value.map((text) => modelNamed(text.split("+")[0])?.context ?? 1);
  const context = Math.max(...contexts, ...(about.value?.models ?? []).slice(0, 1).map((model) => model.context));
  return html`<details class="settings card">
    <summary>Settings <span class="hint">${summary()}</span></summary>
    <${Field} label="System message" hint="Comes before the conversation. Models that were made here were taught few of these.">
      ${(/** @type {string} */ id) => html`<textarea id=${id} rows="2" value=${system.value}
        onInput=${(/** @type {Event & {currentTarget: HTMLTextAreaElement}} */ event) => (system.value = event.currentTarget.value)}></textarea>`}
    <//>
    <div class="grid">
      <${Slider} label="Temperature" value=${sampling.temperature} min=${0} max=${2} step=${0.05}
        hint="0 always takes the most probable token; 1 draws from the model’s own probabilities" />
      <${Slider} label="Top-k" value=${sampling.top_k} min=${0} max=${200} step=${1} hint="only the k most probable tokens; 0 keeps all" />
      <${Slider} label="Top-p" value=${sampling.top_p} min=${0.01} max=${1} step=${0.01}
        hint="only the most probable tokens that have this probability together; 1 keeps all" />
      <${Slider} label="Min-p" value=${sampling.min_p} min=${0} max=${1} step=${0.01}
        hint="only tokens with this share of the most probable one’s probability; 0 keeps all" />
      <${Slider} label="Repetition penalty" value=${sampling.repetition_penalty} min=${0.5} max=${2} step=${0.05}
        hint="makes tokens that were there before less probable; 1 changes nothing" />
      <${Slider} label="Presence penalty" value=${sampling.presence_penalty} min=${-2} max=${2} step=${0.1}
        hint="subtracted once from the score of each token of the answer so far" />
      <${Slider} label="Frequency penalty" value=${sampling.frequency_penalty} min=${-2} max=${2} step=${0.1}
        hint="subtracted as often as the token is in the answer so far" />
      <${Slider} label="Maximum length, in tokens" value=${sampling.max_tokens} min=${1} max=${Math.max(512, context)} step=${1}
        hint="an answer that reaches it is cut off, and can be continued" />
      <${Field} label="Seed" hint="a whole number makes answers repeatable; empty draws a new one each time">
        ${(/** @type {string} */ id) => html`<input id=${id} inputmode="numeric" value=${seed.value}
          onInput=${(/** @type {Event & {currentTarget: HTMLInputElement}} */ event) => (seed.value = event.currentTarget.value.replace(/[^0-9]/g, "").slice(0, 15))} />`}
      <//>
    </div>
  </details>`;
}

/** What differs from the usual, so that it is seen when the settings are closed. */
function summary() {
  const { temperature, top_k, top_p, min_p, repetition_penalty, presence_penalty, frequency_penalty, max_tokens } = sampling;
  return [
    `temperature ${temperature.value}`,
    top_k.value ? `top-k ${top_k.value}` : "",
    top_p.value < 1 ? `top-p ${top_p.value}` : "",
    min_p.value ? `min-p ${min_p.value}` : "",
    repetition_penalty.value !== 1 ? `repetition penalty ${repetition_penalty.value}` : "",
    presence_penalty.value ? `presence penalty ${presence_penalty.value}` : "",
    frequency_penalty.value ? `frequency penalty ${frequency_penalty.value}` : "",
    max_tokens.value !== 512 ? `at most ${max_tokens.value} tokens` : "",
    seed.value ? `seed ${seed.value}` : "",
    system.value.trim() ? "a system message" : "",
  ].filter(Boolean).join(", ");
}
