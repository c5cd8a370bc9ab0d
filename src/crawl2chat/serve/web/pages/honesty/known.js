/** The facts that the stage asked about many times, and what it decided of each. */

import { html } from "htm/preact";
import { useSignal } from "@preact/signals";
import { useAnswer } from "../../common/answer.js";
import { post } from "../../common/api.js";
import { urlState } from "../../common/state.js";
import { Busy, Button, ErrorNote, Select, Wide, percent } from "../../common/ui.js";
import { PAGE, Pager } from "../../common/pager.js";
import { about, askAbout, groupName } from "./state.js";

/**
 * @typedef {{question: string, expected: string, group: string, right_share: number, agreement: number, mostly: string, knowledge: string}} Probed
 * @typedef {{total: number, offset: number, rows: Probed[], groups: string[], counts: Record<string, number>, bins: Record<string, number[]>}} Probes
 */

const CLASSES = ["known", "maybe", "unknown"];

/** @type {import("@preact/signals").Signal<string>} */
const knowledge = urlState("class", "");
/** @type {import("@preact/signals").Signal<string>} */
const group = urlState("group", "");
/** @type {import("@preact/signals").Signal<number>} */
const offset = urlState("from", 0);

export function Known() {
  const found = useSignal(/** @type {Probes | null} */ (null));
  const body = { knowledge: knowledge.value, group: group.value, offset: offset.value, limit: PAGE };
  const failure = useAnswer(found, (signal) => post("/app/honesty/probes", body, { signal }), Object.values(body));
  const known = about.value;
  if (!found.value || !known) return html`<${ErrorNote} error=${failure} />${!failure && html`<${Busy}>reading …<//>`}`;
  const { counts, bins, groups, rows, total } = found.value;
  const all = CLASSES.reduce((sum, name) => sum + (counts[name] ?? 0), 0);
  const choose = (/** @type {string} */ name) => {
    knowledge.value = knowledge.value === name ? "" : name;
    offset.value = 0;
  };
  return html`
    <p>Before teaching, the stage asked about these facts, each in up to ${known.wordings} wordings, ${known.samples} times per wording,
      at temperature ${known.temperature}. A fact is <strong>known</strong> if at least ${percent(known.known_from)} of the answers are right,${" "}
      <strong>unknown</strong> if at most ${percent(known.unknown_to)} are, and <strong>maybe</strong> known in between. Known facts are taught with their answers,
      unknown ones with “I do not know”; of the others nothing is taught.</p>
    <div class="classes" role="group" aria-label="classes">${CLASSES.map((name) => html`<${Button} key=${name} pressed=${knowledge.value === name} onClick=${() => choose(name)}>
      <strong class=${`knowledge ${name}`}>${name}</strong> ${(counts[name] ?? 0).toLocaleString("en")} of ${all.toLocaleString("en")} (${percent((counts[name] ?? 0) / Math.max(1, all))})<//>`)}</div>
    <${Shares} bins=${bins} from=${known.known_from} to=${known.unknown_to} />
    <div class="controls"><${Select} label="Facts about" value=${group} options=${[{ value: "", label: "everything" }, ...groups.map((name) => ({ value: name, label: groupName(name) }))]}
      onChange=${() => (offset.value = 0)} /></div>
    <${Pager} total=${total} offset=${offset} what="facts" />
    <${Wide} label="facts"><table>
      <thead><tr><th>question</th><th>truth</th><th>mostly said</th><th class="number">right</th><th class="number">largest cluster</th><th>class</th><th></th></tr></thead>
      <tbody>${rows.map((row, i) => html`<tr key=${i}><td class="says">${row.question}</td><td class="says">${row.expected}</td><td class="says">${row.mostly}</td>
        <td class="number">${percent(row.right_share)}</td><td class="number">${percent(row.agreement)}</td><td><strong class=${`knowledge ${row.knowledge}`}>${row.knowledge}</strong></td>
        <td><${Button} kind="quiet" onClick=${() => askAbout(row.question, row.expected.replaceAll(" or ", "\n"))} label=${`ask now: ${row.question}`}>ask now<//></td></tr>`)}</tbody>
    </table><//>`;
}

/**
 * How many facts have which share of right answers, with both thresholds.
 * @param {{bins: Record<string, number[]>, from: number, to: number}} props bins: by class
 */
function Shares({ bins, from, to }) {
  const totals = bins.known.map((_, i) => CLASSES.reduce((sum, name) => sum + bins[name][i], 0));
  const most = Math.max(1, ...totals), n = totals.length;
  return html`<div class="shares" role="img" aria-label=${`histogram of facts by their share of right answers, from 0 to 100 %: ${totals.join(", ")}`}>
    <div class="bins">${totals.map((count, i) => html`<span key=${i} class="bin" title=${`${percent(i / n)} to ${percent((i + 1) / n)} right: ${count} facts`}
      style=${{ height: `${(100 * count) / most}%` }}>${CLASSES.map((name) => bins[name][i] > 0
        && html`<span key=${name} class=${name} style=${{ height: `${(100 * bins[name][i]) / count}%` }}></span>`)}</span>`)}
      <span class="line" style=${{ left: `${100 * to}%` }}></span><span class="line" style=${{ left: `${100 * from}%` }}></span></div>
    <div class="ticks"><span>0 % right</span><span>50 %</span><span>100 % right</span></div></div>`;
}
