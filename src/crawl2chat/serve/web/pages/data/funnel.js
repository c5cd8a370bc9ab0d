/** The funnel: how many pages each step left, and why it dropped the others. */

import { html } from "htm/preact";
import { batch } from "@preact/signals";
import { percent } from "../../common/ui.js";
import { about, openRandom, stepName, table, view, why, row } from "./state.js";

export function Funnel() {
  const known = about.value;
  if (!known) return null;
  const total = Math.max(1, known.pages + known.faults);
  const steps = [...new Set(known.rows.map((line) => line.step))];
  const others = Object.entries(known.other_records);
  return html`
    <p><strong>${known.pages.toLocaleString("en")}</strong> pages were crawled, <strong>${known.kept.toLocaleString("en")}</strong>${" "}
      (${percent(known.kept / total)}) became documents, with ${known.characters_kept.toLocaleString("en")} characters in all.
      Click a reason to see the pages that were dropped for it.</p>
    <ol class="funnel">
      ${steps.map((step) => html`<${Step} key=${step} step=${step} total=${total} />`)}
      <li class="step end"><span class="what">documents</span>
        <button type="button" class="bar-line" onClick=${() => openRandom("kept")}><${Bar} share=${known.kept / total} /><span class="count">${known.kept.toLocaleString("en")} kept:
          show one of them</span></button></li>
    </ol>
    <${Notes} masked=${known.masked} lines=${known.lines_dropped} others=${others} />`;
}

/** @param {{step: string, total: number}} props */
function Step({ step, total }) {
  const lines = (about.value?.rows ?? []).filter((line) => line.step === step);
  const left = lines[lines.length - 1].left;
  const reasons = lines.filter((line) => line.pages);
  /** @param {string} reason */
  const show = (reason) => batch(() => {
    history.pushState(history.state, "", location.href);
    table.value = "dropped";
    why.value = `${step}/${reason}`;
    row.value = -1;
    view.value = "pages";
  });
  return html`<li class="step">
    <span class="what">${stepName(step)}</span>
    <span class="bar-line"><${Bar} share=${left / total} /><span class="count">${left.toLocaleString("en")} left</span></span>
    ${reasons.length > 0 && html`<ul class="reasons" aria-label=${`dropped by ${stepName(step)}`}>${reasons.map((line) => html`<li key=${line.reason}>
      <button type="button" class="button quiet" onClick=${() => show(line.reason)}>
        <strong>−${line.pages.toLocaleString("en")}</strong> <code>${line.reason}</code> <small>${percent(line.share)}</small></button></li>`)}</ul>`}
  </li>`;
}

/** @param {{share: number}} props */
function Bar({ share }) {
  return html`<span class="track"><span class="fill" style=${{ width: `${100 * share}%` }}></span></span>`;
}

/** @param {{masked: Record<string, number>, lines: number, others: [string, number][]}} props */
function Notes({ masked, lines, others }) {
  const said = Object.entries(masked).map(([what, count]) => `${count.toLocaleString("en")} ${what}`).join(", ");
  return html`<p class="hint">
    ${said ? `Personal data replaced in the documents: ${said}. ` : ""}
    ${lines ? `${lines.toLocaleString("en")} lines were removed because earlier documents have them. ` : ""}
    ${others.length ? `The crawl files also hold records that are not pages: ${others.map(([kind, count]) => `${count.toLocaleString("en")} ${kind}`).join(", ")}.` : ""}</p>`;
}
