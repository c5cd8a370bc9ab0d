/** What reinforcement learning drew at each step, how it was rewarded, and what random rewards made of the same problems. */

import { html } from "htm/preact";
import { useAnswer, useRegularly } from "../../common/answer.js";
import { post } from "../../common/api.js";
import { Busy, Button, ErrorNote, Field } from "../../common/ui.js";
import { Lengths } from "./curves.js";
import { Group, Groups } from "./group.js";
import { Histogram } from "./histogram.js";
import { about, group, groups, heads, loadAbout, loadGroups, step, turnTo, wanted } from "./state.js";

const LIVE = 5000; // milliseconds between two looks for new steps, while the stage runs

export default function Page() {
  const failure = useRegularly(loadAbout, LIVE, () => Boolean(about.value?.finished));
  const found = about.value;
  const some = Boolean(found?.steps.length);
  const noStep = useAnswer(heads, async (signal) => (some ? post("/app/rollouts/step", { step: wanted.value }, { signal }) : null),
    [some, wanted.value], 40);
  const noGroup = useAnswer(groups, loadGroups, [heads.value, group.value], 40);
  return html`
    <h1>Rollouts</h1>
    <p class="lead">Reinforcement learning draws several answers to each problem, a group, and rewards each. An answer’s advantage is its reward less
      the mean of its group: what is above zero is made more probable, what is below less.</p>
    <${ErrorNote} error=${failure ?? noStep} />
    ${!found ? html`<${Busy}>looking for rollouts …<//>` : found.problem ? html`<p class="card">${found.problem}</p>` : html`
      <${Steps} /><${Lengths} />
      ${heads.value && html`<${Histogram} /><${Groups} />`}
      <${ErrorNote} error=${noGroup} />
      ${heads.value && groups.value && html`<${Group} />`}`}`;
}

function Steps() {
  const steps = about.value?.steps ?? [];
  const shown = heads.value?.step ?? wanted.value;
  const at = step.value < 0 ? steps.length - 1 : nearest(steps, shown);
  const left = (about.value?.n_steps ?? 0) - steps.length;
  return html`<div class="controls steps">
    <${Field} label=${`Step ${shown.toLocaleString("en")} of ${(steps.at(-1) ?? 0).toLocaleString("en")}`}
      hint=${left > 0 ? `${left.toLocaleString("en")} logged steps in between are left out of this slider` : undefined}>
      ${(/** @type {string} */ id) => html`<input id=${id} type="range" min="0" max=${steps.length - 1} value=${at}
        aria-valuetext=${`step ${shown}`} onInput=${(/** @type {any} */ event) => turnTo(event.currentTarget.valueAsNumber)} />`}<//>
    <${Button} onClick=${() => turnTo(at - 1)} disabled=${at <= 0}>Earlier<//>
    <${Button} onClick=${() => turnTo(at + 1)} disabled=${at >= steps.length - 1}>Later<//>
    ${!about.value?.finished && html`<span class="tag">the stage has not finished: new steps appear here</span>`}
  </div>`;
}

/** @param {number[]} steps @param {number} step */
function nearest(steps, step) {
  let best = 0;
  for (let i = 0; i < steps.length; i++) if (Math.abs(steps[i] - step) < Math.abs(steps[best] - step)) best = i;
  return best;
}
