/** The runs in the folder of the run that the app shows: how far each is, what it last printed, and what can be done. */

import { html } from "htm/preact";
import { signal } from "@preact/signals";
import { useState } from "preact/hooks";
import { useAnswer } from "../../common/answer.js";
import { post } from "../../common/api.js";
import { duration } from "../../common/numbers.js";
import { Button, ErrorNote, Wide } from "../../common/ui.js";
import { act, isRunning, known, log, runs, view } from "./state.js";

/** A sign and words, so that no state is told by colour alone. @type {Record<string, [string, (time: string) => string]>} */
const STATES = {
  running: ["●", (time) => `running for ${time}`],
  stopping: ["◌", (time) => `stopping; it has been running for ${time}`],
  ended: ["✓", (time) => `ended well ${time} ago`],
  stopped: ["‖", (time) => `stopped ${time} ago; it can go on`],
  failed: ["✗", (time) => `failed ${time} ago`],
  interrupted: ["!", (time) => `interrupted ${time} ago: it was killed, or its machine was switched off; it can go on`],
  begun: ["○", () => "begun outside this app, not finished"],
  made: ["✓", () => "made outside this app"],
};

const printed = signal(/** @type {{name: string, lines: string[]} | null} */ (null));

export function List() {
  const found = runs.value?.runs ?? [];
  const left = runs.value?.left_out ?? 0;
  return html`
    ${!found.length && html`<p class="card">There is no run here yet.</p>`}
    <ul class="runs">${found.map((run) => html`<${OneRun} key=${run.name} run=${run} />`)}</ul>
    ${left > 0 && html`<p class="hint">${`${left.toLocaleString("en")} older runs are not shown.`}</p>`}
    <p><${Button} onClick=${() => (view.value = "new")}>Start one<//></p>`;
}

/** @param {{run: import("./state.js").Run}} props */
function OneRun({ run }) {
  const [failure, setFailure] = useState(/** @type {Error | null} */ (null));
  const [busy, setBusy] = useState(false);
  const [sign, words] = STATES[run.state];
  const may = !known.value?.refusal && run.by_app;
  const go = async (/** @type {"stop" | "resume"} */ what) => {
    setBusy(true);
    setFailure(null);
    try {
      await act(what, run);
    } catch (error) {
      setFailure(/** @type {Error} */ (error));
    }
    setBusy(false);
  };
  return html`<li class=${`card run ${run.state}`} aria-label=${run.name}>
    <h2>${run.name}${run.shown && html` <span class="tag">this one</span>`}</h2>
    <p class="state"><span class="sign" aria-hidden="true">${sign}</span> ${words(duration(isRunning(run) ? (run.seconds ?? 0) : run.age))}.
      ${run.at && html` At the stage <b>${run.at}</b>.`}
      ${run.stages.length > 0 && html` <span class="hint">Done: ${run.stages.join(", ")}.</span>`}</p>
    ${run.lines.length > 0 && html`<pre class="last">${run.lines.join("\n")}</pre>`}
    <${ErrorNote} error=${failure} />
    <div class="acts">
      ${may && run.state === "running" && html`<${Button} onClick=${() => go("stop")} disabled=${busy} label=${`stop ${run.name}`}
        title="the run ends its step, writes a checkpoint and ends">Stop<//>`}
      ${may && run.state === "stopping" && html`<${Button} onClick=${() => go("stop")} disabled=${busy} label=${`end ${run.name} at once`}
        title="what was done since the last checkpoint is done again on resuming">End at once<//>`}
      ${may && ["stopped", "failed", "interrupted"].includes(run.state) && html`<${Button} onClick=${() => go("resume")} disabled=${busy} label=${`resume ${run.name}`}
        title="the same command again; what is done stays">Resume<//>`}
      ${run.shown && html`<a href="/training">Its curves</a>`}
    </div>
    <${More} run=${run} />
  </li>`;
}

/** @param {{run: import("./state.js").Run}} props */
function More({ run }) {
  const open = log.value === run.name;
  return html`<details open=${open} onToggle=${(/** @type {any} */ event) => {
      if (event.currentTarget.open) log.value = run.name;
      else if (log.value === run.name) log.value = "";
    }}><summary>${run.by_app ? "Command and log" : "Command"}</summary>
    ${open && html`
      <p class="hint">${run.by_app ? "Started with" : "Start it again, or go on, with"}${run.cwd && html` (in <code>${run.cwd}</code>)`}:</p>
      <pre class="command">${run.command}</pre>
      ${!run.shown && run.opened_by && html`<p class="hint">Open it in an app of its own with:</p><pre class="command">${run.opened_by}</pre>`}
      ${!run.shown && !run.opened_by && html`<p class="hint">An app can open it as soon as it has a model, after pretrain.</p>`}
      ${run.by_app && html`<${Log} run=${run} />`}`}
  </details>`;
}

/** Read again whenever the list of runs was. @param {{run: import("./state.js").Run}} props */
function Log({ run }) {
  const failure = useAnswer(printed, async (signal) => ({ name: run.name, ...(await post("/app/runs/log", { name: run.name }, { signal })) }),
    [run.name, isRunning(run) ? runs.value : run.state]);
  const lines = printed.value?.name === run.name ? printed.value.lines : [];
  return html`<p class="hint">The last lines of its log:</p><${ErrorNote} error=${failure} />
    <${Wide} label=${`the log of ${run.name}`}><pre class="log">${lines.join("\n") || "(nothing yet)"}</pre><//>`;
}
