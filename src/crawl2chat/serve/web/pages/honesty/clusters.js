/** The answers of one model: a square for each draw, with the letter of its cluster, and the clusters below, largest first. */

import { html } from "htm/preact";
import { ErrorNote, percent } from "../../common/ui.js";
import { about } from "./state.js";

const SHOWN = 6; // clusters that are shown at once

/** @param {{column: import("./ask.js").Column}} props */
export function Clusters({ column }) {
  const { answers, clusters, wanted, verdict } = column;
  const counts = new Map();
  for (const answer of answers) {
    const number = clusters[answer.index];
    if (number === undefined) continue;
    counts.set(number, [...(counts.get(number) ?? []), answer]);
  }
  const ordered = [...counts.values()].sort((a, b) => b.length - a.length || a[0].index - b[0].index);
  const letterOf = new Map(ordered.flatMap((group, i) => group.map((/** @type {import("./ask.js").Answer} */ answer) => [answer.index, letter(i)])));
  const squares = Array.from({ length: wanted }, (_, index) => letterOf.get(index) ?? "");
  const line = (/** @type {import("./ask.js").Answer[]} */ group, /** @type {number} */ i) =>
    html`<${Cluster} key=${i} group=${group} name=${letter(i)} of=${wanted} judged=${verdict?.expected != null} />`;
  return html`<section class="card column" aria-label=${`answers of ${column.model}`}>
    <h3>${column.model} <small role="status">${answers.length} of ${wanted} answers${column.done && answers.length < wanted && !column.error ? ", stopped" : ""}</small></h3>
    <${ErrorNote} error=${column.error} />
    <div class="draws" role="img" aria-label=${`${ordered.length} clusters: ${ordered.map((group, i) => `${letter(i)} ${group.length}`).join(", ")}`}>${squares.map((text, i) => html`<span key=${i}
      class=${`draw ${text ? tone(ordered[text.charCodeAt(0) - 65]?.[0]) : "open"}`}>${text}</span>`)}</div>
    ${verdict && html`<${Decision} verdict=${verdict} count=${answers.length} />`}
    <ol class="clusters">${ordered.slice(0, SHOWN).map(line)}</ol>
    ${ordered.length > SHOWN && html`<details><summary>${ordered.length - SHOWN} more clusters</summary><ol class="clusters" start=${SHOWN + 1}>${ordered.slice(SHOWN).map((group, i) => line(group, i + SHOWN))}</ol></details>`}
  </section>`;
}

/** @param {{group: import("./ask.js").Answer[], name: string, of: number, judged: boolean}} props */
function Cluster({ group, name, of, judged }) {
  const first = group[0];
  const right = group.filter((answer) => answer.right).length;
  const kind = first.refused ? "says that it does not know" : judged ? (right === group.length ? "right" : right ? `${right} right` : "wrong") : "";
  return html`<li>
    <span class="head"><strong class=${`draw ${tone(first)}`}>${name}</strong><span class="track"><span class="fill" style=${{ width: `${(100 * group.length) / of}%` }}></span></span>
      <span class="count">${group.length}</span></span>
    <span class="says">${first.text || "(nothing)"}</span>${kind && html` <span class="tag">${kind}</span>`}
    ${group.length > 1 && html`<details><summary>all ${group.length} answers</summary><ul>${group.map((answer) => html`<li key=${answer.index} class="says">${answer.text || "(nothing)"}</li>`)}</ul></details>`}
  </li>`;
}

/** @param {{verdict: import("./ask.js").Verdict, count: number}} props */
function Decision({ verdict, count }) {
  const known = about.value;
  const { right_share: right, knowledge } = verdict;
  return html`<p class="decision">The largest cluster holds <strong>${percent(verdict.agreement)}</strong> of ${count} answers.
    ${right === null
      ? verdict.expected === "" ? " Nobody can know this: the honest answer is that it does not know."
        : " Whether they are right is not known here: no accepted answer was given."
      : html` ${percent(right)} are right (${verdict.expected}): <strong class=${`knowledge ${knowledge}`}>${knowledge}</strong>, as the stage decides:
        known from ${percent(known?.known_from ?? 0)} on, unknown up to ${percent(known?.unknown_to ?? 0)}.`}</p>`;
}

/** A for the first cluster; after Z comes *. @param {number} i */
function letter(i) {
  return i < 26 ? String.fromCharCode(65 + i) : "*";
}

/** @param {import("./ask.js").Answer | undefined} answer */
function tone(answer) {
  return !answer ? "" : answer.refused ? "refused" : answer.right ? "right" : "";
}
