/** The same held-out questions before and after the stage: figures by group, what became of which answers, and the answers. */

import { html } from "htm/preact";
import { batch, useSignal } from "@preact/signals";
import { useAnswer } from "../../common/answer.js";
import { post } from "../../common/api.js";
import { urlState } from "../../common/state.js";
import { Busy, Button, ErrorNote, Select, Wide, percent } from "../../common/ui.js";
import { PAGE, Pager } from "../../common/pager.js";
import { about, askAbout, figure, groupName, shown } from "./state.js";

/**
 * @typedef {{question: string, group: string, expected: string, before: string, after: string, kinds: [string, string]}} Row
 * @typedef {{total: number, offset: number, rows: Row[], groups: string[], kinds: string[], moves: number[][]}} Answers
 */

/** @type {Record<string, string>} */
const KINDS = { right: "right", refused: "does not know", wrong: "made up" };

/** @type {import("@preact/signals").Signal<string>} */
const group = urlState("of", "");
/** @type {import("@preact/signals").Signal<string>} */
const was = urlState("was", "");
/** @type {import("@preact/signals").Signal<string>} */
const is = urlState("is", "");
/** @type {import("@preact/signals").Signal<number>} */
const offset = urlState("row", 0);

export function Before() {
  const found = useSignal(/** @type {Answers | null} */ (null));
  const body = { group: group.value, before: was.value, after: is.value, offset: offset.value, limit: PAGE };
  const failure = useAnswer(found, (signal) => post("/app/honesty/answers", body, { signal }), Object.values(body));
  if (!found.value) return html`<${ErrorNote} error=${failure} />${!failure && html`<${Busy}>reading …<//>`}`;
  const { rows, groups, moves, kinds, total } = found.value;
  const choose = (/** @type {string} */ before, /** @type {string} */ after) => batch(() => {
    const off = was.value === before && is.value === after;
    was.value = off ? "" : before;
    is.value = off ? "" : after;
    offset.value = 0;
  });
  return html`
    <p>These questions were never taught from. In brackets: the interval in which the true share lies with 95 % confidence.</p>
    <${Groups} groups=${groups} />
    <${Others} />
    <h2>What became of the answers</h2>
    <div class="controls"><${Select} label="Questions about" value=${group} options=${[{ value: "", label: "everything" }, ...groups.map((name) => ({ value: name, label: groupName(name) }))]}
      onChange=${() => (offset.value = 0)} /></div>
    <${Wide} label="what became of the answers"><table class="moves">
      <thead><tr><th>before ↓ after →</th>${kinds.map((kind) => html`<th key=${kind} scope="col">${KINDS[kind]}</th>`)}</tr></thead>
      <tbody>${kinds.map((then, i) => html`<tr key=${then}><th scope="row">${KINDS[then]}</th>${kinds.map((now, j) => html`<td key=${now}><${Button} pressed=${was.value === then && is.value === now}
        disabled=${moves[i][j] === 0} onClick=${() => choose(then, now)} label=${`${moves[i][j]} answers: before ${KINDS[then]}, after ${KINDS[now]}`}>${moves[i][j].toLocaleString("en")}<//></td>`)}</tr>`)}</tbody>
    </table><//>
    <${Pager} total=${total} offset=${offset} what="questions" />
    <${Wide} label="answers before and after"><table class="answers">
      <thead><tr><th>question</th><th>truth</th><th>before</th><th>after</th><th></th></tr></thead>
      <tbody>${rows.map((row, i) => html`<tr key=${i}><td class="says">${row.question}<br /><small>${groupName(row.group)}</small></td>
        <td class="says">${row.expected || html`<em>nobody can know</em>`}</td>
        <td class="says"><span class=${`kind ${row.kinds[0]}`}>${KINDS[row.kinds[0]]}</span> ${row.before}</td>
        <td class="says"><span class=${`kind ${row.kinds[1]}`}>${KINDS[row.kinds[1]]}</span> ${row.after}</td>
        <td><${Button} kind="quiet" onClick=${() => askAbout(row.question, row.expected.replaceAll(" or ", "\n"))} label=${`ask both now: ${row.question}`}>ask now<//></td></tr>`)}</tbody>
    </table><//>`;
}

/** @param {{groups: string[]}} props */
function Groups({ groups }) {
  return html`<${Wide} label="shares by group"><table>
    <thead><tr><th rowspan="2">questions about</th><th rowspan="2" class="number">number</th>${Object.values(KINDS).map((kind) => html`<th key=${kind} colspan="2">${kind}</th>`)}</tr>
      <tr>${Object.keys(KINDS).flatMap((kind) => ["before", "after"].map((when) => html`<th key=${`${kind} ${when}`} class="number">${when}</th>`))}</tr></thead>
    <tbody>${groups.map((name) => html`<tr key=${name}><td>${groupName(name)}</td><td class="number">${figure(`right after/${name}`)?.count ?? ""}</td>
      ${Object.keys(KINDS).flatMap((kind) => ["before", "after"].map((when) => html`<td key=${`${kind} ${when}`} class="number">${shown(figure(`${kind} ${when}/${name}`))}</td>`))}</tr>`)}</tbody>
  </table><//>`;
}

/** What cost and gain come to, and how well agreement tells right from wrong. */
function Others() {
  /** @type {[string, string][]} */
  const wanted = [
    ["refused of what was right before", "of what was right before, it now says that it does not know"],
    ["wrong before of what is refused", "of what it now does not know, it had made up before"],
    ["auroc of agreement before", "chance that a right answer has more agreement than a wrong one, before"],
    ["auroc of agreement after", "the same, after"],
  ];
  const known = wanted.filter(([name]) => figure(name));
  const curves = about.value?.coverage;
  return html`${known.length > 0 && html`<${Wide} label="what it cost and what it saved"><table><tbody>${known.map(([name, says]) => html`<tr key=${name}><td>${says}</td>
    <td class="number">${shown(figure(name))}</td></tr>`)}</tbody></table><//>`}
    ${curves && html`<${Coverage} curves=${curves} />`}`;
}

/** If it answered only where its draws agree: how many it would answer, and how many of those rightly.
 * @param {{curves: Record<string, {value: number, coverage: number, from: number}[]>}} props */
function Coverage({ curves }) {
  const at = [1, 0.8, 0.6, 0.4];
  const row = (/** @type {string} */ when, /** @type {number} */ least) => curves[when]?.filter((point) => point.from >= least - 1e-9).at(-1);
  return html`<details><summary>If it answered only where its draws agree</summary>
    <${Wide} label="accuracy against coverage"><table><thead><tr><th rowspan="2">at least this share alike</th><th colspan="2">before</th><th colspan="2">after</th></tr>
      <tr>${["before", "after"].flatMap((when) => [html`<th key=${`${when} a`} class="number">answered</th>`, html`<th key=${`${when} r`} class="number">of these right</th>`])}</tr></thead>
      <tbody>${at.map((least) => html`<tr key=${least}><td>${percent(least)}</td>${["before", "after"].flatMap((when) => {
        const point = row(when, least);
        return [html`<td key=${`${when} a`} class="number">${point ? percent(point.coverage) : "–"}</td>`, html`<td key=${`${when} r`} class="number">${point ? percent(point.value) : "–"}</td>`];
      })}</tr>`)}</tbody></table><//></details>`;
}
