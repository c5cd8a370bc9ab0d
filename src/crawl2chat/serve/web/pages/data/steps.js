/** The steps that a page went through: what each rule found, its threshold, and what changed in the text. */

import { html } from "htm/preact";
import { Sides } from "./sides.js";
import { Button, Wide } from "../../common/ui.js";
import { measured, stepName, view } from "./state.js";
import { chooseRule } from "./thresholds.js";

/**
 * @typedef {{reason: string, name: string, says: string, value: number, threshold: number, at_least: boolean, keeps: boolean}} Value
 * @typedef {{step: string, dropped: boolean, reason: string | null, value: number | null, detail: string, note: string, seconds: number,
 *   limit: {name: string, value: string} | null, values: Value[], changes: [import("./sides.js").Side, import("./sides.js").Side][]}} Step
 */

/** @param {{live: import("./detail.js").Inspected}} props */
export function Steps({ live }) {
  return html`<ol class="way">
    ${live.steps.map((step, i) => html`<${StepCard} key=${step.step} step=${step} number=${i + 1} />`)}
    ${live.not_taken.length > 0 && html`<li class="hint">Not taken any more: ${live.not_taken.map(stepName).join(", ")}.</li>`}
  </ol>
  ${live.not_taken.length === 0 && html`<p class="hint">The steps that look for copies compare all pages; what they decided is said above.</p>`}`;
}

/** @param {{step: Step, number: number}} props */
function StepCard({ step, number }) {
  return html`<li class="card">
    <h3>${number}. ${stepName(step.step)} <span class=${`verdict ${step.dropped ? "bad" : "good"}`}>${step.dropped ? "dropped" : "kept"}</span>${" "}
      <small>${(1000 * step.seconds).toFixed(1)} ms</small></h3>
    ${step.reason && html`<p><code>${step.reason}</code>${step.value !== null ? `: ${measured(step.value, "")}` : ""}${step.detail ? ` (${step.detail})` : ""}${step.limit
      ? html`; <code>${step.limit.name}</code> is ${step.limit.value}` : ""}</p>`}
    ${step.note && html`<p>${step.note}</p>`}
    ${step.values.length > 0 && html`<${Values} values=${step.values} />`}
    ${step.changes.length > 0 && html`<${Sides} rows=${step.changes} left="before" right="after" label=${`what ${stepName(step.step)} changed`} />`}
  </li>`;
}

/** @param {{values: Value[]}} props */
function Values({ values }) {
  const look = (/** @type {string} */ reason) => {
    chooseRule(reason);
    view.value = "thresholds";
  };
  return html`<${Wide} label="values of the rules"><table>
    <thead><tr><th>rule and threshold</th><th class="number">found</th><th>verdict</th><th></th></tr></thead>
    <tbody>${values.map((value) => html`<tr key=${value.reason} class=${value.keeps ? "" : "fails"}>
      <td>${value.says}: ${value.at_least ? "at least" : "at most"} ${measured(value.threshold, value.says)}<br /><code>${value.name}</code></td>
      <td class="number">${measured(value.value, value.says)}</td>
      <td>${value.keeps ? "passes" : html`<strong>fails</strong>`}</td>
      <td><${Button} kind="quiet" onClick=${() => look(value.reason)} label=${`histogram of ${value.says}`}>histogram<//></td></tr>`)}</tbody>
  </table><//>`;
}
