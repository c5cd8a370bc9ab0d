/** How a training goes: its curves while it runs and afterwards, next to those of other runs. */

import { html } from "htm/preact";
import { effect } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { useRegularly } from "../../common/answer.js";
import { duration } from "../../common/numbers.js";
import { Busy, ErrorNote } from "../../common/ui.js";
import { Checkpoint } from "./checkpoint.js";
import { Choices, Compared } from "./choices.js";
import { Plots } from "./plots.js";
import { chosen, curves, error, follow, isLive, loadTrainings, trainings } from "./state.js";

const WIDEST = 1200; // columns of pixels that are asked for

export default function Page() {
  const failure = useRegularly(loadTrainings, 10_000); // a stage may begin, a run may appear
  useEffect(() => {
    const columns = Math.min(WIDEST, Math.max(200, Math.round(innerWidth)));
    let stop = () => {};
    const watching = effect(() => {
      stop();
      stop = follow(columns);
    });
    return () => {
      watching();
      stop();
    };
  }, []);
  const all = trainings.value;
  return html`
    <h1>Training</h1>
    <p class="lead">Each stage that trains writes a line for each step. Here they are as curves, while the stage runs and afterwards. Looking
      can’t disturb a training: its file is only read.</p>
    <${ErrorNote} error=${failure ?? error.value} />
    ${!all ? html`<${Busy}>looking for trainings …<//>` : !chosen.value ? html`<p class="card">Nothing has been trained here yet. The stages
      pretrain, sft, honesty, reinforce and prefer write <code>metrics.jsonl</code>, which this page shows.</p>` : html`
      <${Choices} /><${Compared} /><${Status} /><${Plots} /><${Skipped} /><${Checkpoint} />`}`;
}

function Status() {
  const found = curves.value;
  const now = found?.trainings[0];
  if (!found || !now) return html`<${Busy}>reading …<//>`;
  const age = duration(Math.round(now.age));
  const state = now.finished ? "finished" : isLive(now) ? `running, last line ${age} ago` : `not finished; its last line is ${age} old`;
  return html`<p class="status" role="status"><span class=${`tag ${isLive(now) ? "live" : ""}`}>${isLive(now) ? "● live" : "○ at rest"}</span>
    ${` ${now.title} of ${now.run}: step ${now.step.toLocaleString("en")}, ${state}.`}
    ${found.share < 1 && html` <b>${`Read so far: ${Math.floor(100 * found.share)} %.`}</b> What is missing is drawn from a few lines of it and not smoothed yet.`}</p>`;
}

function Skipped() {
  const found = (curves.value?.trainings ?? []).filter((one) => one.n_skipped > 0);
  if (!found.length) return null;
  const all = found.reduce((sum, one) => sum + one.n_skipped, 0);
  return html`<details class="card skipped"><summary>${`${all.toLocaleString("en")} skipped ${all === 1 ? "step" : "steps"}, marked below the curves`}</summary>
    ${found.map((one) => html`<section key=${one.id}><h3>${`${one.title} of ${one.run}`}</h3>
      ${one.n_skipped > one.skipped.length && html`<p class="hint">The last ${one.skipped.length}:</p>`}
      <ul>${[...one.skipped].reverse().map(({ step, reason }) => html`<li key=${step}>${`step ${step.toLocaleString("en")}: ${reason}`}</li>`)}</ul></section>`)}
  </details>`;
}
