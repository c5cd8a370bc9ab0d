/** Prompt, sliders, and how to go on. */

import { html } from "htm/preact";
import { about, modelNamed } from "../../common/about.js";
import { Button, Field, ModelPicker, Slider, Toggle } from "../../common/ui.js";
import { branches, chat, go, many, model, restart, seed, settings, stops, text, writing } from "./state.js";

export function Prompt() {
  return html`<section class="card prompt" aria-label="prompt">
    <${Field} label=${chat.value ? "Question" : "Text"}>${(/** @type {string} */ id) => html`<textarea id=${id} rows="3" value=${text.value}
      onInput=${(/** @type {any} */ event) => { text.value = event.currentTarget.value; restart(); }}></textarea>`}<//>
    <div class="controls">
      ${(about.value?.models.length ?? 0) > 1 && html`<${ModelPicker} value=${model} />`}
      <${Toggle} label="as a user’s question, through the chat template" value=${chat} onChange=${restart} />
    </div>
  </section>`;
}

export function Sliders() {
  const most = Math.min(200, modelNamed(model.value)?.vocabulary ?? 200);
  const s = settings;
  return html`<section class="card sliders" aria-label="controls of sampling">
    <h2>Controls</h2>
    <${Slider} label="Temperature" value=${s.temperature} min=${0} max=${3} step=${0.05} hint="below 1 sharpens, above 1 flattens; 0 always takes the most probable" />
    <${Slider} label="Top-k" value=${s.top_k} min=${0} max=${most} step=${1} hint="keep the k most probable; 0 keeps all" />
    <${Slider} label="Top-p (nucleus)" value=${s.top_p} min=${0.01} max=${1} step=${0.01} hint="keep the fewest tokens that reach this probability together; 1 keeps all" />
    <${Slider} label="Min-p" value=${s.min_p} min=${0} max=${1} step=${0.01} hint="keep tokens at least this share as probable as the first; 0 keeps all" />
    <details open=${s.repetition_penalty.value !== 1 || s.presence_penalty.value !== 0 || s.frequency_penalty.value !== 0 || s.logit_bias.value !== ""}>
      <summary>Penalties and bias</summary>
      <${Slider} label="Repetition penalty" value=${s.repetition_penalty} min=${0.5} max=${2} step=${0.05} hint="weakens what prompt or answer holds; 1 is off" />
      <${Slider} label="Presence penalty" value=${s.presence_penalty} min=${-2} max=${2} step=${0.1} hint="taken off what the answer holds; 0 is off" />
      <${Slider} label="Frequency penalty" value=${s.frequency_penalty} min=${-2} max=${2} step=${0.1} hint="the same for each time that it holds it" />
      <${Field} label="Logit bias" hint="token ids with what is added to their logits (scores before they become probabilities), such as 300: 2.5, 65: -100">${(/** @type {string} */ id) =>
        html`<input id=${id} value=${s.logit_bias.value} onChange=${(/** @type {any} */ event) => (s.logit_bias.value = event.currentTarget.value)} />`}<//>
    </details>
    <${Button} onClick=${reset}>Turn all controls off<//>
  </section>`;
}

function reset() {
  for (const [name, state] of Object.entries(settings)) {
    /** @type {any} */ (state).value = name === "logit_bias" ? "" : ["temperature", "top_p", "repetition_penalty"].includes(name) ? 1 : 0;
  }
}

/** @param {{label: string, value: import("@preact/signals").Signal<number>, min: number, max: number}} props */
function Count({ label, value, min, max }) {
  return html`<${Field} label=${label}>${(/** @type {string} */ id) => html`<input id=${id} class="count" type="number" min=${min} max=${max} value=${value.value}
    onChange=${(/** @type {any} */ event) => {
      const n = event.currentTarget.valueAsNumber;
      if (Number.isFinite(n)) value.value = Math.min(max, Math.max(min, Math.round(n)));
      event.currentTarget.value = String(value.value);
    }} />`}<//>`;
}

export function GoOn() {
  const busy = writing.value !== null;
  return html`<div class="controls go-on" role="group" aria-label="go on from here">
    <${Button} onClick=${() => go(1)} disabled=${busy}>Draw one<//>
    <${Button} onClick=${() => go(1, true)} disabled=${busy}>Most probable<//>
    <${Button} kind="main" onClick=${() => go(many.value)} disabled=${busy}>Go on ${many.value} tokens<//>
    <${Button} onClick=${() => writing.value?.abort()} disabled=${!busy}>Stop<//>
    <${Count} label="Tokens" value=${many} min=${1} max=${1000} />
    <${Count} label="Branches" value=${branches} min=${1} max=${8} />
    <${Count} label="Seed" value=${seed} min=${0} max=${1_000_000_000} />
    <${Button} onClick=${() => (seed.value += branches.value)} title="other draws">Next seed<//>
    <${Field} label="Stop texts, one per line">${(/** @type {string} */ id) => html`<textarea id=${id} class="stops" rows="1" value=${stops.value}
      onInput=${(/** @type {any} */ event) => (stops.value = event.currentTarget.value)} placeholder="\\n is a line break"></textarea>`}<//>
  </div>`;
}
