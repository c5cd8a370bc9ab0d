/** How rewards are spread over a step's answers, and the answers with one of them. */

import { html } from "htm/preact";
import { brief } from "../../common/numbers.js";
import { Button, Wide } from "../../common/ui.js";
import { bin, binOf, bins, group, heads, withControl } from "./state.js";

const LISTED = 60;

export function Histogram() {
  const logs = heads.value?.logs ?? {};
  const all = bins.value;
  const count = (/** @type {import("./state.js").Head | undefined} */ head) => {
    const counts = new Array(all.length).fill(0);
    for (const reward of head?.rewards.flat() ?? []) if (binOf(reward) >= 0) counts[binOf(reward)]++;
    return counts;
  };
  const [ours, controls] = [count(logs.rewards), withControl.value && logs.control ? count(logs.control) : null];
  const most = Math.max(1, ...ours, ...(controls ?? []));
  const total = ours.reduce((sum, n) => sum + n, 0);
  return html`<section class="card" aria-label="rewards of this step">
    <h2>Rewards of this step’s ${total.toLocaleString("en")} answers</h2>
    <ol class="histogram">${all.map((one, i) => html`<li key=${i}><button type="button" class="bin" aria-pressed=${bin.value === i}
      onClick=${() => (bin.value = bin.value === i ? -1 : i)}>
      <span class="bin-name">${one.low === one.high ? brief(one.low) : `${brief(one.low)} to ${brief(one.high)}`}</span>
      <span class="bars-of"><${Bar} n=${ours[i]} most=${most} />${controls && html`<${Bar} n=${controls[i]} most=${most} control=${true} />`}</span>
    </button></li>`)}</ol>
    <p class="hint">${controls && html`<span class="key-ours"></span> this training, <span class="key-control"></span> the control, whose rewards are coin flips, on the same problems. `}
      Choose a reward to list the answers that earned it.</p>
    ${bin.value >= 0 && bin.value < all.length && html`<${Chosen} head=${logs.rewards} />`}
  </section>`;
}

/** @param {{n: number, most: number, control?: boolean}} props */
function Bar({ n, most, control = false }) {
  return html`<span class=${`of-bin ${control ? "control" : ""}`}><span class="length" style=${{ width: `${(100 * n) / most}%` }}></span><span class="n">${n.toLocaleString("en")}</span></span>`;
}

/** @param {{head: import("./state.js").Head | undefined}} props */
function Chosen({ head }) {
  if (!head) return null;
  const found = head.rewards.flatMap((rewards, g) => rewards.flatMap((reward, k) => (binOf(reward) === bin.value ? [[g, k]] : [])));
  return html`<${Wide} label="answers with this reward"><table class="chosen">
    <thead><tr><th>problem</th><th class="number">answer</th><th class="number">reward</th><th class="number">advantage</th><th class="number">tokens</th><th></th></tr></thead>
    <tbody>${found.slice(0, LISTED).map(([g, k]) => html`<tr key=${`${g} ${k}`}><td>${head.questions[g]}</td><td class="number">${k + 1}</td>
      <td class="number">${brief(head.rewards[g][k])}</td><td class="number">${brief(head.advantages[g][k])}</td>
      <td class="number">${head.lengths[g][k]}${head.cut[g][k] ? ", cut off" : ""}</td>
      <td>${g < head.n_shown ? html`<${Button} kind="quiet" onClick=${() => show(g, k)} label=${`show group ${g + 1}, answer ${k + 1}`}>show<//>`
        : html`<span class="hint">text not logged</span>`}</td></tr>`)}</tbody>
  </table><//>
  ${found.length > LISTED && html`<p class="hint">${found.length - LISTED} more have this reward.</p>`}`;
}

/** @param {number} g @param {number} k */
function show(g, k) {
  group.value = g;
  setTimeout(() => document.getElementById(`rewards-${k}`)?.scrollIntoView({ block: "nearest" }), 300);
}
