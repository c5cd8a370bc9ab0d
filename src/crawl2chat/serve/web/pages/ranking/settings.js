/** Whose answers are judged, how many at a time, and whether it is shown afterwards who wrote them. */

import { html } from "htm/preact";
import { useId } from "preact/hooks";
import { about } from "../../common/about.js";
import { Slider, Toggle } from "../../common/ui.js";
import { answersWanted, reveal, sources } from "./session.js";

/** @param {{mostAnswers: number}} props */
export function Settings({ mostAnswers }) {
  const models = about.value?.models ?? [];
  const chosen = sources.value.length ? sources.value : models.slice(0, 1).map(nameOf);
  /** @param {string} name */
  const flip = (name) => {
    const now = chosen.includes(name) ? chosen.filter((other) => other !== name) : [...chosen, name];
    if (now.length) sources.value = now;
    if (now.length > answersWanted.value) answersWanted.value = now.length;
  };
  return html`<fieldset class="settings">
    <legend>What is judged</legend>
    <${Slider} label="Answers per question" value=${answersWanted} min=${Math.max(2, chosen.length)} max=${mostAnswers} step=${1} />
    ${models.length > 1 && html`<div role="group" aria-labelledby="written-by" class="sources">
      <span id="written-by" class="label">Written by</span>
      ${models.map((model) => html`<${Tick} key=${model.name} label=${`${nameOf(model) === "pretrain" ? "base" : nameOf(model)}: ${model.title}`}
        checked=${chosen.includes(nameOf(model))} onChange=${() => flip(nameOf(model))} />`)}
      <small class="hint">Of several, you are not shown which is which, and the order on the screen is drawn at random.</small>
    </div>`}
    <${Toggle} label="Show who wrote them once I have confirmed" value=${reveal} />
  </fieldset>`;
}

/** @param {{label: string, checked: boolean, onChange: () => void}} props */
function Tick({ label, checked, onChange }) {
  const id = useId();
  return html`<span class="toggle"><input id=${id} type="checkbox" checked=${checked} onChange=${onChange} />
    <label for=${id}>${label}</label></span>`;
}

/** @param {import("../../common/about.js").ModelAbout} model */
function nameOf(model) {
  return model.stage ?? model.name;
}
