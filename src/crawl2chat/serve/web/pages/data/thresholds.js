/** What a rule found on the documents and on the pages that it dropped, and what another threshold would keep. */

import { html } from "htm/preact";
import { batch, signal } from "@preact/signals";
import { useAnswer } from "../../common/answer.js";
import { post } from "../../common/api.js";
import { urlState } from "../../common/state.js";
import { Busy, Button, ErrorNote, Select, percent } from "../../common/ui.js";
import { about, measured, openPage } from "./state.js";

/**
 * @typedef {{reason: string, name: string, says: string, at_least: boolean, threshold: number, kept: number, measured: number,
 *   dropped: number, pages: number}} Header
 * @typedef {{rows: number[], values: number[]}} Found
 * @typedef {{header: Header, kept: Found, dropped: Found}} Values
 */

const BINS = 48;
const STEPS = 400; // of the slider
const NEAREST = 8;

/** @type {import("@preact/signals").Signal<string>} */
const reason = urlState("rule", "too_few_words");
/** The threshold that is tried; empty for the run's own. @type {import("@preact/signals").Signal<string>} */
const tried = urlState("at", "");
const values = signal(/** @type {Values | null} */ (null));

/** @param {string} wanted */
export function chooseRule(wanted) {
  batch(() => {
    reason.value = wanted;
    tried.value = "";
  });
}

export function Thresholds() {
  const rules = about.value?.rules ?? [];
  const chosen = rules.find((rule) => rule.reason === reason.value)?.reason ?? rules[0]?.reason;
  const failure = useAnswer(values, async (signal) => {
    values.value = null;
    if (!chosen) return null;
    const { header, arrays } = await post("/app/data/values", { reason: chosen }, { signal });
    return { header, kept: { rows: [...arrays.kept_rows.data], values: [...arrays.kept_values.data] },
      dropped: { rows: [...arrays.dropped_rows.data], values: [...arrays.dropped_values.data] } };
  }, [chosen]);
  if (!chosen) return html`<p class="card">In this run all rules with a threshold were switched off, as one does with documents of one’s own.</p>`;
  const options = rules.map((rule) => ({ value: rule.reason, label: `${rule.says} (${rule.name})` }));
  return html`
    <p>A rule measures something on a page and holds it against a threshold. Move the threshold and see which pages would change
      sides. The rule’s values on documents are measured now${(values.value?.header.measured ?? 0) < (values.value?.header.kept ?? 0) ? ", on a sample" : ""},
      on the text as it was kept; those of dropped pages are the run’s own.</p>
    <div class="controls"><${Select} label="Rule" value=${reason} options=${options} onChange=${() => (tried.value = "")} /></div>
    <${ErrorNote} error=${failure} />
    ${values.value ? html`<${Histogram} found=${values.value} />` : !failure && html`<${Busy}>measuring …<//>`}`;
}

/** @param {{found: Values}} props */
function Histogram({ found }) {
  const { header, kept, dropped } = found;
  const given = Number(tried.value);
  const threshold = tried.value !== "" && Number.isFinite(given) ? given : header.threshold;
  const scale = scaleOf(found, threshold);
  const up = bins(kept.values, scale), down = bins(dropped.values, scale);
  const most = Math.max(1, ...up), mostDown = Math.max(1, ...down);
  const at = 100 * scale.share(threshold);
  const move = (/** @type {any} */ event) => (tried.value = String(Number(scale.value(event.currentTarget.valueAsNumber / STEPS).toPrecision(3))));
  const type = (/** @type {any} */ event) => {
    if (Number.isFinite(event.currentTarget.valueAsNumber)) tried.value = String(event.currentTarget.valueAsNumber);
  };
  const bar = (/** @type {number} */ i) => `${scale.label(i / BINS)} to ${scale.label((i + 1) / BINS)}`;
  return html`
    <div class="histogram" role="img" aria-label=${`histogram of ${header.says}: ${kept.values.length} documents above the line, ${dropped.values.length} dropped pages below it`}>
      <span class="axis-name">documents</span>
      <div class="up">${up.map((count, i) => html`<span key=${i} class="bin" title=${`${bar(i)}: ${count} documents`} style=${{ height: `${(100 * count) / most}%` }}></span>`)}</div>
      <span class="axis-name">dropped by this rule</span>
      <div class="down">${down.map((count, i) => html`<span key=${i} class="bin" title=${`${bar(i)}: ${count} dropped pages`} style=${{ height: `${(100 * count) / mostDown}%` }}></span>`)}</div>
      <div class="overlay"><span class="line" style=${{ left: `${at}%` }}></span></div>
      <div class="ticks">${[0, 0.25, 0.5, 0.75, 1].map((share) => html`<span key=${share}>${scale.label(share)}</span>`)}</div>
    </div>
    <div class="field slider threshold">
      <label for="threshold">Threshold: ${header.at_least ? "at least" : "at most"} ${measured(threshold, header.says)}, ${header.says}</label>
      <span class="pair"><input id="threshold" type="range" min="0" max=${STEPS} step="1" value=${Math.round(STEPS * scale.share(threshold))} onInput=${move}
        aria-valuetext=${measured(threshold, header.says)} />
      <input type="number" step="any" value=${threshold} onChange=${type} aria-label="threshold, as a number" />
      <${Button} onClick=${() => (tried.value = "")} disabled=${tried.value === ""}>The run’s own<//></span>
    </div>
    <${Outcome} found=${found} threshold=${threshold} />`;
}

/** @param {{found: Values, threshold: number}} props */
function Outcome({ found, threshold }) {
  const { header, kept, dropped } = found;
  const passes = (/** @type {number} */ value) => (header.at_least ? value >= threshold : value <= threshold);
  const lost = kept.values.filter((value) => !passes(value)).length;
  const won = dropped.values.filter(passes).length;
  const [low, high] = wilson(lost, kept.values.length);
  const isSample = header.measured < header.kept;
  const many = (/** @type {number} */ share) => Math.round(share * header.kept).toLocaleString("en");
  const wonAll = dropped.values.length ? Math.round((won / dropped.values.length) * header.dropped) : 0;
  return html`
    <p role="status">With this threshold the rule would drop <strong>${isSample ? `about ${many(lost / Math.max(1, header.measured))}` : lost.toLocaleString("en")}</strong> of the${" "}
      ${header.kept.toLocaleString("en")} documents (${percent(lost / Math.max(1, kept.values.length))}${isSample ? `; 95 % interval ${many(low)} to ${many(high)}, from a sample of ${header.measured.toLocaleString("en")}` : ""}),
      and let pass <strong>${wonAll.toLocaleString("en")}</strong> of the ${header.dropped.toLocaleString("en")} pages that it dropped; later steps may still drop those.</p>
    ${threshold === header.threshold && lost > 0 && html`<p class="hint">Some documents are on the other side of the run’s own threshold: the rule saw their
      text before later steps removed lines from it${(about.value?.languages.length ?? 0) === 1 ? "" : ", and languages other than English have thresholds of their own"}.</p>`}
    <div class="changing">
      <${Nearest} title="Documents that would go" table="kept" found=${kept} header=${header} threshold=${threshold} chosen=${(/** @type {number} */ value) => !passes(value)} />
      <${Nearest} title="Dropped pages that would pass" table="dropped" found=${dropped} header=${header} threshold=${threshold} chosen=${passes} />
    </div>`;
}

/**
 * The pages that change sides, those nearest to the threshold first.
 * @param {{title: string, table: string, found: Found, header: Header, threshold: number, chosen: (value: number) => boolean}} props
 */
function Nearest({ title, table, found, header, threshold, chosen }) {
  const order = found.values.map((_, i) => i).filter((i) => chosen(found.values[i]))
    .sort((a, b) => Math.abs(found.values[a] - threshold) - Math.abs(found.values[b] - threshold)).slice(0, NEAREST);
  return html`<section><h3>${title}</h3>
    ${order.length ? html`<ul>${order.map((i) => html`<li key=${i}><${Button} kind="quiet" onClick=${() => openPage(table, found.rows[i])}>${table === "kept" ? "document" : "dropped page"}${" "}
      ${(found.rows[i] + 1).toLocaleString("en")}: ${measured(found.values[i], header.says)}<//></li>`)}</ul>` : html`<p class="hint">None.</p>`}</section>`;
}

/**
 * From values to places on the axis: logarithmic where they differ by orders of magnitude.
 * @param {Values} found @param {number} threshold
 */
function scaleOf({ header, kept, dropped }, threshold) {
  const sorted = [...kept.values, ...dropped.values].sort((a, b) => a - b);
  const quantile = (/** @type {number} */ share) => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? header.threshold;
  const ends = [quantile(0.002), quantile(0.998), header.threshold, threshold];
  let low = Math.min(...ends), high = Math.max(...ends);
  const isLog = low >= 1 && high / low > 100;
  if (low === high) [low, high] = [low - 1, high + 1];
  else if (!isLog) [low, high] = [low - 0.03 * (high - low), high + 0.03 * (high - low)];
  low = Math.max(low, 0); // nothing that is measured is negative, and no share is above 1
  if (header.says.startsWith("share")) high = Math.min(high, 1);
  const share = (/** @type {number} */ value) => {
    const place = isLog ? Math.log(Math.max(value, low) / low) / Math.log(high / low) : (value - low) / (high - low);
    return Math.min(1, Math.max(0, place));
  };
  const value = (/** @type {number} */ place) => (isLog ? low * (high / low) ** place : low + place * (high - low));
  return { share, value, label: (/** @type {number} */ place) => measured(Number(value(place).toPrecision(3)), header.says) };
}

/** @param {number[]} numbers @param {ReturnType<typeof scaleOf>} scale */
function bins(numbers, scale) {
  const counts = new Array(BINS).fill(0);
  for (const number of numbers) counts[Math.min(BINS - 1, Math.floor(scale.share(number) * BINS))]++;
  return counts;
}

/** 95 % interval of a share (Wilson’s score interval). @param {number} hits @param {number} count */
function wilson(hits, count) {
  if (!count) return [0, 1];
  const z = 1.96, share = hits / count, scale = 1 + (z * z) / count;
  const centre = share + (z * z) / (2 * count);
  const spread = z * Math.sqrt((share * (1 - share)) / count + (z * z) / (4 * count * count));
  return [Math.max(0, (centre - spread) / scale), Math.min(1, (centre + spread) / scale)];
}
