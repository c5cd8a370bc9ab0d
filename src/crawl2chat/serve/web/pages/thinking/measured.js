/** What the run measured: the three ways by difficulty, what tokens bought, and what reinforcement learning changed. */

import { html } from "htm/preact";
import { signal } from "@preact/signals";
import { useMemo } from "preact/hooks";
import { useAnswer } from "../../common/answer.js";
import { get } from "../../common/api.js";
import { Plot, STYLES, Swatch } from "../../common/plot.js";
import { urlState } from "../../common/state.js";
import { Busy, ErrorNote, Select, Wide, percent } from "../../common/ui.js";
import { STYLE, TITLES } from "./state.js";

/**
 * @typedef {{value: number, unit: string, interval: [number, number] | null, count: number | null}} Figure
 * @typedef {Figure & {group: string, way: import("./state.js").Way, tokens: number | null}} Row
 * @typedef {{stages: {stage: string, title: string, rows: Row[]}[], checked: {title: string, shares: Record<string, Figure>}[],
 *   reinforced: {what: string, group: string, figures: [Figure, Figure]}[], problem: string | null}} Measured
 */

/** @type {import("@preact/signals").Signal<Measured | null>} */
const found = signal(null);
/** @type {import("@preact/signals").Signal<string>} */
const stage = urlState("stage", "");

export function ByDifficulty() {
  const failure = useAnswer(found, (signal) => get("/app/thinking/measured", { signal }), []);
  if (!found.value) return html`<${ErrorNote} error=${failure} />${!failure && html`<${Busy}>reading …<//>`}`;
  const { stages, checked, reinforced, problem } = found.value;
  if (problem) return html`<p class="card">${problem}</p>`;
  const shown = stages.find((one) => one.stage === stage.value) ?? stages[stages.length - 1];
  return html`
    ${shown && html`
      <p>Problems that the model never learned from, each asked in every way and answered with its most probable tokens. A whisker is the interval in
        which the true share lies with 95 % confidence: few problems make it long.</p>
      ${stages.length > 1 && html`<div class="controls"><${Select} label="Measured on" value=${{ get value() { return shown.stage; }, set value(name) { stage.value = name; } }}
        options=${stages.map((one) => ({ value: one.stage, label: `${one.stage}: ${one.title}` }))} /></div>`}
      <${Shares} rows=${shown.rows} />
      ${shown.rows.some((row) => row.tokens !== null) && html`<${Bought} key=${shown.stage} rows=${shown.rows} />`}`}
    ${checked.length > 0 && html`<${Checked} checked=${checked} />`}
    ${reinforced.length > 0 && html`<${Reinforced} rows=${reinforced} />`}`;
}

/** @param {Figure | undefined} figure */
function told(figure) {
  if (!figure) return "–";
  const shares = figure.unit === "share";
  const as = (/** @type {number} */ value) => (shares ? (100 * value).toFixed(0) : value.toPrecision(3));
  return `${shares ? percent(figure.value) : figure.value.toPrecision(3)}${figure.interval ? ` [${as(figure.interval[0])}, ${as(figure.interval[1])}]` : ""}`;
}

/** @param {{rows: Row[]}} props */
function Shares({ rows }) {
  const groups = [...new Set(rows.map((row) => row.group))].sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
  return html`<section class="card"><h2>Right answers by difficulty</h2>
    <div class="shares">${groups.map((group) => html`<div key=${group} role="group" aria-label=${group}><h3>${group}</h3>
      <dl>${rows.filter((row) => row.group === group).map((row) => html`<div key=${row.way}>
        <dt><${Swatch} style=${STYLE[row.way]} />${TITLES[row.way].toLowerCase()}</dt>
        <dd><span class="track" aria-hidden="true"><span class=${`fill style-${STYLE[row.way] % STYLES}`} style=${{ width: `${100 * row.value}%` }}></span>
          ${row.interval && html`<span class="whisker" style=${{ left: `${100 * row.interval[0]}%`, width: `${100 * (row.interval[1] - row.interval[0])}%` }}></span>`}</span>
          <span class="value">${told(row)} <small>of ${row.count?.toLocaleString("en")}${row.tokens !== null && `, ${row.tokens} tokens`}</small></span></dd>
      </div>`)}</dl></div>`)}</div></section>`;
}

/** Tokens against shares: each point is a group of problems asked in one way. @param {{rows: Row[]}} props */
function Bought({ rows }) {
  const [x, curves] = useMemo(() => {
    const counted = rows.filter((row) => row.tokens !== null);
    const places = [...new Set(counted.map((row) => row.tokens ?? 0))].sort((a, b) => a - b);
    const ways = [...new Set(counted.map((row) => row.way))];
    const line = (/** @type {string} */ way, /** @type {(row: Row) => number} */ read) => Float32Array.from(places, (tokens) => {
      const row = counted.find((one) => one.way === way && one.tokens === tokens);
      return row ? read(row) : NaN;
    });
    return [Float64Array.from(places), ways.map((way) => ({
      label: TITLES[way].toLowerCase(), style: STYLE[way], points: true, smooth: line(way, (row) => row.value),
      low: line(way, (row) => row.interval?.[0] ?? row.value), high: line(way, (row) => row.interval?.[1] ?? row.value),
    }))];
  }, [rows]);
  return html`<section class="card"><${Plot} title="Share right by tokens spent on an answer" x=${x} curves=${curves} xName="tokens per answer"
    xText=${(/** @type {number} */ n) => String(Number(n.toFixed(1)))} />
    <p class="hint">Each point is one group of problems asked in one way; the bands are the intervals. Tokens of calls count, those of the calculator’s results do not.</p></section>`;
}

/** @param {{checked: Measured["checked"]}} props */
function Checked({ checked }) {
  const ways = [...new Set(checked.flatMap((one) => Object.keys(one.shares)))];
  return html`<section class="card"><h2>The same problems after each stage</h2>
    <p>The hardest group where the problems are the fictional web’s sums, all of them otherwise. Asked plainly, without a word on how to answer, the model itself decides whether to work or to guess.</p>
    <${Wide} label="right answers after each stage"><table><thead><tr><th></th>${ways.map((way) => html`<th key=${way} class="number">${way}</th>`)}</tr></thead>
      <tbody>${checked.map((one) => html`<tr key=${one.title}><th scope="row">${one.title}</th>${ways.map((way) => html`<td key=${way} class="number">${told(one.shares[way])}</td>`)}</tr>`)}</tbody>
    </table><//></section>`;
}

/** @param {{rows: Measured["reinforced"]}} props */
function Reinforced({ rows }) {
  return html`<section class="card"><h2>Before and after reinforcement learning</h2>
    <p>Nobody asks for longer answers: right ones are rewarded, and thinking longer is right more often. <a href="/rollouts">Rollouts</a> has the answers.</p>
    <${Wide} label="before and after reinforcement learning"><table><thead><tr><th></th><th class="number">before</th><th class="number">after</th></tr></thead>
      <tbody>${rows.map((row) => html`<tr key=${`${row.what} ${row.group}`}><th scope="row">${row.what}${row.group && `: ${row.group}`}</th>
        ${row.figures.map((figure, i) => html`<td key=${i} class="number">${told(figure)}</td>`)}</tr>`)}</tbody>
    </table><//></section>`;
}
