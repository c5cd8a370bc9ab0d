/** Which problem, which model, and how freely it draws. */

import { html } from "htm/preact";
import { signal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { useAnswer } from "../../common/answer.js";
import { post } from "../../common/api.js";
import { Button, ErrorNote, Field, ModelPicker, Slider } from "../../common/ui.js";
import { ask, running } from "./ask.js";
import { about, answer, choose, draws, group, longest, model, nDraws, place, possible, question, seed, temperature } from "./state.js";

const failure = signal(/** @type {Error | null} */ (null));
const EXAMPLE = { question: "What is 347+586?", answer: "933" }; // where the run has no problems

/** @param {string} name @param {number} at */
const take = (name, at) => choose(name, at).then(() => (failure.value = null), (error) => (failure.value = error));

export function Problem() {
  const groups = about.value?.groups ?? [];
  const noWays = useAnswer(possible, async (signal) => (await post("/app/thinking/ways", model.value ? { model: model.value } : {}, { signal })).ways, [model.value]);
  useEffect(() => {
    if (question.value) return;
    const hardest = groups[groups.length - 1];
    if (hardest) take(hardest.name, 0);
    else [question.value, answer.value] = [EXAMPLE.question, EXAMPLE.answer];
  }, []);
  const send = (/** @type {Event} */ event) => {
    event.preventDefault();
    if (question.value.trim() && possible.value) ask();
  };
  const typed = (/** @type {any} */ event) => {
    question.value = event.currentTarget.value;
    group.value = answer.value = "";
  };
  const answered = (/** @type {any} */ event) => {
    answer.value = event.currentTarget.value;
    group.value = "";
  };
  return html`<form class="problem card" onSubmit=${send}>
    <div class="controls">
      ${groups.length > 0 && html`<${Field} label="Problems of this run that it never learned from">${(/** @type {string} */ id) => html`<select id=${id} value=${group.value}
          onChange=${(/** @type {any} */ event) => (event.currentTarget.value ? take(event.currentTarget.value, 0) : (group.value = ""))}>
          <option value="">typed</option>
          ${groups.map(({ name, count }) => html`<option key=${name} value=${name}>${name} (${count})</option>`)}</select>`}<//>
        <${Turn} />`}
      <${ModelPicker} value=${model} onChange=${() => (possible.value = null)} />
    </div>
    ${about.value?.problem && html`<p class="hint">${about.value.problem}</p>`}
    <div class="pair">
      <${Field} label="Problem">${(/** @type {string} */ id) => html`<input id=${id} type="text" maxlength="4000" required value=${question.value} onInput=${typed} />`}<//>
      <${Field} label="Right answer">${(/** @type {string} */ id) => html`<input id=${id} type="text" maxlength="2000" value=${answer.value} onInput=${answered} />`}<//>
    </div>
    <div class="numbers">
      <${Slider} label="Temperature (0: always the most probable token)" value=${temperature} min=${0} max=${2} step=${0.1} />
      ${temperature.value > 0 && html`<${Slider} label="Draws per way" value=${draws} min=${1} max=${about.value?.most_draws ?? 50} step=${1} />`}
      <${Longest} />
    </div>
    <div class="controls"><button class="button main" disabled=${!possible.value}>Think${nDraws() > 1 ? ` ${nDraws()} times in each way` : " in each way"}</button>
      ${temperature.value > 0 && html`<${Button} onClick=${() => {
        seed.value += nDraws();
        if (question.value.trim() && possible.value) ask();
      }}>Again, other draws<//>`}
      ${running.value && html`<${Button} onClick=${() => running.value?.abort()}>Stop<//>`}</div>
    <${ErrorNote} error=${failure.value ?? noWays} />
  </form>`;
}

/** To the other problems of the group. */
function Turn() {
  const count = about.value?.groups.find(({ name }) => name === group.value)?.count;
  if (!count) return null;
  const by = (/** @type {number} */ n) => take(group.value, (place.value + n + count) % count);
  return html`<span class="turn"><${Button} onClick=${() => by(-1)} label="previous problem">‹<//>
    <span role="status">${place.value + 1} of ${count}</span>
    <${Button} onClick=${() => by(1)} label="next problem">›<//></span>`;
}

function Longest() {
  const usual = about.value?.max_tokens ?? 160;
  const take = (/** @type {any} */ event) => {
    const n = event.currentTarget.valueAsNumber;
    if (Number.isFinite(n)) longest.value = n === usual ? 0 : Math.round(Math.min(about.value?.most_tokens ?? n, Math.max(1, n)));
  };
  return html`<${Field} label="Longest answer, tokens" hint=${`${usual}, as the run measures; fewer for a base model, whose page goes on`}>${(/** @type {string} */ id) => html`
    <input id=${id} type="number" min="1" max=${about.value?.most_tokens} step="1" value=${longest.value || usual} onChange=${take} />`}<//>`;
}
