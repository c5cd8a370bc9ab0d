/** How far annotators agree with each other, with themselves and with the reward model. */

import { html } from "htm/preact";
import { useSignal } from "@preact/signals";
import { useState } from "preact/hooks";
import { useAnswer } from "../../common/answer.js";
import { get } from "../../common/api.js";
import { Busy, Button, ErrorNote, Wide, percent } from "../../common/ui.js";

/**
 * @typedef {{value: number, interval: [number, number] | null, count: number | null}} Figure
 * @typedef {{prompts: number, pairs: number, same: number, same_share: Figure, tau: Figure | null}} Concordance
 * @typedef {{name: string, ranked: number, all_bad: number, skipped: number, median_seconds: number | null,
 *   first_shown_best: (Figure & {by_chance: number}) | null}} Annotator
 * @typedef {{annotators: Annotator[], alpha: Figure | null, between: (Concordance & {one: string, other: string})[],
 *   with_oneself: (Concordance & {name: string})[], with_reward_model: (Concordance & {name: string})[] | null}} Report
 */

export function Agreement() {
  const report = useSignal(/** @type {Report | null} */ (null));
  const [asked, setAsked] = useState(0);
  const error = useAnswer(report, (signal) => get("/app/ranking/agreement", { signal }), [asked]);
  const found = report.value;
  return html`
    <p>Two numbers say how far two orders are alike. <strong>Same order</strong>: of all pairs of answers that both put in an order,
      the share in the same one; half is chance. <strong>Kendall’s tau-b</strong>: 1 is the same order, 0 is chance, −1 is the
      opposite; ties are allowed for. In brackets: the interval in which the true value lies with 95 % confidence.</p>
    <${ErrorNote} error=${error} />
    ${found ? html`<${Tables} found=${found} />` : !error && html`<${Busy}>counting …<//>`}
    <p><${Button} onClick=${() => setAsked(asked + 1)}>Count again<//></p>`;
}

/** @param {{found: Report}} props */
function Tables({ found }) {
  if (!found.annotators.length) return html`<p class="card">Nobody has judged anything yet.</p>`;
  const { alpha } = found;
  return html`
    <h2>Annotators</h2>
    <${Wide} label="annotators"><table>
      <thead><tr><th>name</th><th class="number">ranked</th><th class="number">all bad</th><th class="number">skipped</th>
        <th class="number">seconds (median)</th><th class="number">best was shown first</th></tr></thead>
      <tbody>${found.annotators.map((one) => html`<tr key=${one.name}><td>${one.name}</td><td class="number">${one.ranked}</td>
        <td class="number">${one.all_bad}</td><td class="number">${one.skipped}</td>
        <td class="number">${one.median_seconds === null ? "–" : one.median_seconds.toFixed(1)}</td>
        <td class="number">${one.first_shown_best ? html`${share(one.first_shown_best)}${" "}
          <span class="hint">(by chance ${percent(one.first_shown_best.by_chance)})</span>` : "–"}</td></tr>`)}</tbody>
    </table><//>
    <h2>With each other</h2>
    ${alpha
      ? html`<p><strong>Krippendorff’s alpha</strong> of all annotators’ ranks: <strong>${number(alpha)}</strong>${" "}
          over ${alpha.count} ${alpha.count === 1 ? "question" : "questions"}. 1 is perfect agreement, 0 is chance; 0.67 is often asked for at least.</p>`
      : html`<p class="hint">Krippendorff’s alpha needs two annotators who ranked the same answers.</p>`}
    <${Rows} rows=${found.between.map((row) => ({ ...row, name: `${row.one} and ${row.other}` }))} who="annotators" />
    <h2>With oneself</h2>
    <p>Now and then a question comes a second time, unannounced and in another order. Nobody, and no reward model, can be asked to
      agree with somebody more than they do themselves.</p>
    <${Rows} rows=${found.with_oneself} who="annotator" none="No question has come a second time yet." />
    <h2>With the reward model</h2>
    ${found.with_reward_model === null
      ? html`<p class="hint">This server’s folder has no reward model (a run’s is in <code>prefer/reward_model</code>).</p>`
      : html`<p>What the run’s reward model gives the same answers. If it was fitted to these very rankings, this is no test of it.</p>
        <${Rows} rows=${found.with_reward_model} who="annotator" />`}`;
}

/** @param {{rows: (Concordance & {name: string})[], who: string, none?: string}} props */
function Rows({ rows, who, none = "Nothing to compare yet." }) {
  if (!rows.length) return html`<p class="hint">${none}</p>`;
  return html`<${Wide} label=${`agreement by ${who}`}><table>
    <thead><tr><th>${who}</th><th class="number">same order</th><th class="number">pairs</th><th class="number">Kendall’s tau-b</th>
      <th class="number">questions</th></tr></thead>
    <tbody>${rows.map((row) => html`<tr key=${row.name}><td>${row.name}</td><td class="number">${row.pairs ? share(row.same_share) : "–"}</td>
      <td class="number">${row.pairs}</td><td class="number">${row.tau ? number(row.tau) : "–"}</td>
      <td class="number">${row.prompts}</td></tr>`)}</tbody>
  </table><//>`;
}

/** @param {Figure} figure */
function share({ value, interval }) {
  return `${percent(value)}${interval ? ` [${interval.map((end) => (100 * end).toFixed(0)).join(", ")}]` : ""}`;
}

/** @param {Figure} figure */
function number({ value, interval }) {
  const text = (/** @type {number} */ x) => x.toFixed(2).replace("-", "−");
  return `${text(value)}${interval ? ` [${interval.map(text).join(", ")}]` : ""}`;
}
