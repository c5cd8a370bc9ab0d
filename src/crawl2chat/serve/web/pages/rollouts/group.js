/** The groups of a step, and all answers of one of them side by side, with the control's beneath. */

import { html } from "htm/preact";
import { brief } from "../../common/numbers.js";
import { COLOURS, Legend, Tokens } from "../../common/overlay.js";
import { Select, Toggle, Wide } from "../../common/ui.js";
import { bestFirst, bin, binOf, colour, group, groups, heads, withControl } from "./state.js";

const LISTED = 100;

/** @param {(number | null)[]} values */
const mean = (values) => values.reduce((/** @type {number} */ sum, value) => sum + (value ?? 0), 0) / Math.max(1, values.length);

export function Groups() {
  const head = heads.value?.logs.rewards;
  if (!head) return null;
  const flat = (/** @type {(number | null)[]} */ rewards) => rewards.every((reward) => reward === rewards[0]);
  return html`<details class="card groups" open><summary>${`${head.n_groups} groups`}</summary>
    <${Wide} label="groups"><table><thead><tr><th></th><th>problem</th><th class="number">mean reward</th><th class="number">mean length</th><th>learned from</th></tr></thead>
    <tbody>${head.questions.slice(0, LISTED).map((question, g) => html`<tr key=${g} aria-current=${g === group.value ? "true" : undefined}>
      <td>${g < head.n_shown ? html`<button type="button" class="button quiet" aria-pressed=${g === group.value} onClick=${() => (group.value = g)}>group ${g + 1}</button>` : html`<span class="hint">group ${g + 1}</span>`}</td>
      <td>${question}</td><td class="number">${brief(mean(head.rewards[g]))}</td><td class="number">${brief(mean(head.lengths[g]))}</td>
      <td>${flat(head.rewards[g]) ? html`<span class="hint">no: all rewarded alike</span>` : "yes"}</td></tr>`)}</tbody></table><//>
    ${head.n_shown < head.n_groups && html`<p class="hint">The log keeps the texts of ${head.n_shown} groups per step (reinforce.logged_groups); of the others it has rewards and lengths.</p>`}
  </details>`;
}

export function Group() {
  const logs = heads.value?.logs ?? {};
  const found = groups.value ?? {};
  const ours = found.rewards;
  if (!ours) return html`<p class="hint">The texts of this group are not in the log; choose another one.</p>`;
  const { control } = found;
  return html`<section class="card" aria-label="the group">
    <h2>${`Group ${group.value + 1}: ${ours.question}`}</h2>
    <p>Expected: <strong>${ours.expected}</strong></p>
    <div class="controls">
      <${Select} label="Colour of tokens" value=${colour} options=${COLOURS} />
      <${Toggle} label="best rewarded first" value=${bestFirst} />
      ${logs.control && html`<${Toggle} label="control beside" value=${withControl} />`}
    </div>
    <${Legend} colour=${colour.value} />
    <${Answers} log="rewards" found=${ours} head=${logs.rewards} />
    ${withControl.value && logs.control && html`<h3>The control at the same step: coin flips for rewards</h3>
      ${control ? html`${control.question !== ours.question && html`<p class="hint">Its problem here is another one: ${control.question}</p>`}
        <${Answers} log="control" found=${control} head=${logs.control} />` : html`<p class="hint">The control’s log lacks this group.</p>`}`}
  </section>`;
}

/** @param {{log: string, found: import("./state.js").Group, head: import("./state.js").Head | undefined}} props */
function Answers({ log, found, head }) {
  if (!head) return null;
  const g = found.group;
  const order = found.answers.map((_, k) => k);
  if (bestFirst.value) order.sort((a, b) => (head.rewards[g][b] ?? -Infinity) - (head.rewards[g][a] ?? -Infinity));
  return html`<ol class="answers">${order.map((k) => {
    const answer = found.answers[k];
    const advantage = head.advantages[g][k];
    const sign = advantage === null || advantage === 0 ? "even" : advantage > 0 ? "up" : "down";
    return html`<li key=${k} id=${`${log}-${k}`} class=${`answer ${log === "rewards" && bin.value >= 0 && binOf(head.rewards[g][k]) === bin.value ? "in-bin" : ""}`}>
      <h4>${`Answer ${k + 1}`}</h4>
      <p class="facts"><span>reward <b>${brief(head.rewards[g][k])}</b></span> <span class=${`advantage ${sign}`}>advantage <b>${{ up: "▲", down: "▼", even: "■" }[sign]} ${brief(advantage)}</b></span>
        <span><b>${head.lengths[g][k]}</b> tokens${head.cut[g][k] ? ", cut off" : ""}</span>${answer.calls !== undefined && html` <span><b>${answer.calls}</b> calls</span>`}</p>
      <${Tokens} answer=${answer} colour=${colour.value} label=${`answer ${k + 1}${log === "control" ? " of the control" : ""}`} />
      ${!answer.entropies && colour.value === "entropy" && html`<p class="hint">Its entropies are not known: it was not learned from.</p>`}</li>`;
  })}</ol>`;
}
