/** What the run will take, the command that starts it, and its start. */

import { html } from "htm/preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { useAnswer } from "../../common/answer.js";
import { post } from "../../common/api.js";
import { Busy, Button, ErrorNote, Field, Wide } from "../../common/ui.js";
import { checked, freeName, known, loadRuns, name, plan, said, view, wanted, wantedKey } from "./state.js";

/** Whether the server says that these settings can be run. */
function isRight() {
  const found = checked.value;
  return found !== null && !found.others.length && !Object.keys(found.problems).length;
}

export function Begin() {
  const refused = useAnswer(checked, (signal) => post("/app/runs/check", wanted.value, { signal }), [wantedKey.value], 250);
  return html`<${Plan} /><${Start} refused=${refused} />`;
}

function Plan() {
  const [failure, setFailure] = useState(/** @type {Error | null} */ (null));
  const [busy, setBusy] = useState(false);
  const asking = useRef(/** @type {AbortController | null} */ (null));
  useEffect(() => () => asking.current?.abort(), []);
  const ask = async () => {
    const controller = new AbortController();
    asking.current = controller;
    setBusy(true);
    setFailure(null);
    const of = wantedKey.value;
    try {
      plan.value = { ...(await post("/app/runs/plan", wanted.value, { signal: controller.signal })), of };
    } catch (error) {
      if (!controller.signal.aborted) setFailure(/** @type {Error} */ (error));
    }
    setBusy(false);
  };
  const made = plan.value;
  return html`<section aria-labelledby="plan-title">
    <h2 id="plan-title">3. See what it will take</h2>
    <p class="hint"><code>crawl2chat plan</code> measures this machine for some seconds, then reckons time, memory, disk and tokens of the stages that take
      most: refining pages of yours, pretraining, fine-tuning an adapter.</p>
    ${busy ? html`<${Busy}>measuring …<//> <${Button} onClick=${() => asking.current?.abort()}>Never mind<//>`
      : html`<${Button} onClick=${ask} disabled=${Boolean(known.value?.refusal) || !isRight()}>See what it will take<//>`}
    <${ErrorNote} error=${failure} />
    ${made && html`<div class="planned">
      ${made.of !== wantedKey.value && html`<p class="hint" role="status">You have changed something since this plan was made.</p>`}
      ${made.brings_model && html`<p class="hint">The plan does not know the model that you bring: its lines on pretraining do not count.</p>`}
      <${Wide} label="what the run will take"><table>
        <tbody>${made.rows.map(([what, much, remark]) => html`<tr key=${what} class=${what.startsWith(" ") ? "part" : ""}>
          <th scope="row">${what.trim()}</th><td class="number">${much}</td><td>${remark}</td></tr>`)}</tbody></table><//>
    </div>`}
  </section>`;
}

/** @param {{refused: Error | null}} props */
function Start({ refused }) {
  const [failure, setFailure] = useState(/** @type {Error | null} */ (null));
  const [busy, setBusy] = useState(false);
  const about = known.value;
  const called = name.value.trim() || freeName();
  const start = async (/** @type {Event} */ event) => {
    event.preventDefault();
    setBusy(true);
    setFailure(null);
    try {
      await post("/app/runs/start", { ...wanted.value, name: called });
      said.value = `${called} has been started.`;
      name.value = "";
      history.pushState(history.state, "", location.href); // the back button returns to the settings
      view.value = "runs";
      await loadRuns();
    } catch (error) {
      setFailure(/** @type {Error} */ (error));
    }
    setBusy(false);
  };
  const faults = Object.keys(checked.value?.problems ?? {});
  return html`<section aria-labelledby="start-title">
    <h2 id="start-title">4. Start</h2>
    <form class="begin" onSubmit=${start}>
      <${Field} label="Name of the run" hint=${about?.folder && html`becomes a new folder in <code>${about.folder}</code>`}>
        ${(/** @type {string} */ id) => html`<input id=${id} value=${name.value} placeholder=${freeName()} autocomplete="off" spellcheck=${false}
          onInput=${(/** @type {any} */ event) => (name.value = event.currentTarget.value)} />`}<//>
      <button class="button main" disabled=${busy || Boolean(about?.refusal) || !isRight()}>Start the run</button>
    </form>
    ${faults.length > 0 && html`<p class="hint" role="status">First mend ${faults.join(", ")}.</p>`}
    <${ErrorNote} error=${failure ?? refused} />
    ${checked.value && html`<p class="hint">The same in a terminal:</p>
      <pre class="command">${checked.value.command.replace(/NAME$/, called)}</pre>`}
  </section>`;
}
