/** Shares with their intervals over a few named points: drawn small, told apart by colour and by form, and as a table. */

import { html } from "htm/preact";
import { Wide } from "../../common/ui.js";

/** level: what a line across all points is called. @typedef {{x: string, value: number, interval: [number, number] | null, count: number | null, text: string, level: string | null}} Point */
/** @typedef {{title: string, x: string, y: string, series: {name: string, points: Point[]}[]}} Curves */

const WIDTH = 360, TOP = 10, LEFT = 42, RIGHT = 10, HEIGHT = 160; // as wide as a phone, so that letters are legible there
const STYLES = 6;
const ROOM = 36; // characters next to each other below the axis
const SHIFT = 4; // between series, so that their intervals lie side by side

/** @param {{curves: Curves}} props */
export function Chart({ curves }) {
  const { title, series } = curves;
  const names = [...new Set(series.flatMap((one) => one.points.filter((point) => !point.level).map((point) => point.x)))];
  const slanted = names.join(" ").length > ROOM;
  const bottom = slanted ? 78 : 38;
  const step = (WIDTH - LEFT - RIGHT) / Math.max(1, names.length);
  const across = (/** @type {string} */ name, /** @type {number} */ i) => LEFT + step * (names.indexOf(name) + 0.5) + (i - (series.length - 1) / 2) * SHIFT;
  const up = (/** @type {number} */ value) => TOP + (1 - Math.min(1, Math.max(0, value))) * HEIGHT;
  const base = TOP + HEIGHT;
  return html`<figure class="chart">
    <figcaption>${title}</figcaption>
    <ul class="legend">${series.map((one, i) => html`<li key=${one.name} class=${`tone-${i % STYLES}`}>
      <svg class="sample" viewBox="0 0 24 12" aria-hidden="true"><path class="line" d="M0 6H24" /><${Sign} x=${12} y=${6} i=${i} /></svg> ${one.name}</li>`)}
      ${levelsOf(curves).map((level) => html`<li key=${level}><svg class="sample" viewBox="0 0 24 12" aria-hidden="true"><path class="level" d="M0 6H24" /></svg> ${level}</li>`)}</ul>
    <svg viewBox=${`0 0 ${WIDTH} ${base + bottom}`} role="img" aria-label=${`${title}: ${curves.y}, by ${curves.x || "kind"}; the values are in the table below`}>
      ${[0, 0.25, 0.5, 0.75, 1].map((value) => html`<path key=${value} class="grid" d=${`M${LEFT} ${up(value)}H${WIDTH - RIGHT}`} />
        <text x=${LEFT - 5} y=${up(value) + 4} text-anchor="end">${100 * value} %</text>`)}
      ${names.map((name) => html`<text key=${name} text-anchor=${slanted ? "end" : "middle"}
        transform=${`translate(${across(name, (series.length - 1) / 2)} ${base + 15})${slanted ? " rotate(-35)" : ""}`}>${name}</text>`)}
      <text class="axis" x=${(LEFT + WIDTH - RIGHT) / 2} y=${base + bottom - 5} text-anchor="middle">${curves.x}</text>
      ${series.map((one, i) => html`<${Line} key=${one.name} points=${one.points} i=${i} across=${across} up=${up} />`)}
    </svg>
    <details><summary>As a table</summary><${Wide} label=${`${title}, as a table`}><table>
      <thead><tr><th>${curves.x || "kind"}</th>${series.map((one) => html`<th key=${one.name} class="number">${one.name}</th>`)}</tr></thead>
      <tbody>${[...names, ...new Set(series.flatMap((one) => one.points.filter((point) => point.level).map((point) => point.x)))].map((name) => html`<tr key=${name}><td>${name}</td>
        ${series.map((one) => {
          const point = one.points.find((found) => found.x === name);
          return html`<td key=${one.name} class="number">${point ? html`${point.text}${point.count && html` <small>of ${point.count.toLocaleString("en")}</small>`}` : "–"}</td>`;
        })}</tr>`)}</tbody>
    </table><//></details>
  </figure>`;
}

/** @param {Curves} curves */
function levelsOf({ series }) {
  return [...new Set(series.flatMap((one) => one.points.flatMap((point) => point.level ?? [])))];
}

/**
 * @param {{points: Point[], i: number, across: (name: string, i: number) => number, up: (value: number) => number}} props
 */
function Line({ points, i, across, up }) {
  const shown = points.filter((point) => !point.level);
  const ordered = shown.every((point) => /^\d/.test(point.x)); // names in no order are not joined
  const path = shown.map((point, k) => `${k ? "L" : "M"}${across(point.x, i)} ${up(point.value)}`).join("");
  return html`<g class=${`tone-${i % STYLES}`}>
    ${ordered && html`<path class="line" d=${path} />`}
    ${points.filter((point) => point.level).map((point) => html`<path key=${point.x} class="level" d=${`M${LEFT} ${up(point.value)}H${WIDTH - RIGHT}`} />`)}
    ${shown.map((point) => html`<g key=${point.x}><title>${`${point.x}: ${point.text}`}</title>
      ${point.interval && html`<path class="whisker" d=${`M${across(point.x, i)} ${up(point.interval[0])}V${up(point.interval[1])}`} />`}
      <${Sign} x=${across(point.x, i)} y=${up(point.value)} i=${i} /></g>`)}
  </g>`;
}

/** A point in the form of its series. @param {{x: number, y: number, i: number}} props */
function Sign({ x, y, i }) {
  const forms = ["M-4 0A4 4 0 1 0 4 0A4 4 0 1 0 -4 0Z", "M-3.5 -3.5H3.5V3.5H-3.5Z", "M0 -4.5L4.5 3.5H-4.5Z", "M0 -5L4.5 0L0 5L-4.5 0Z", "M-4.5 -3.5H4.5L0 4.5Z", "M-1.5 -4.5H1.5V4.5H-1.5Z"];
  return html`<path class="sign" transform=${`translate(${x} ${y})`} d=${forms[i % STYLES]} />`;
}

/**
 * Lengths next to each other, with their values as text. length: from 0 to 1.
 * @param {{label: string, bars: {what: string, text: string, length: number, ours?: boolean}[]}} props
 */
export function Bars({ label, bars }) {
  return html`<dl class="bars" aria-label=${label}>${bars.map((bar) => html`<div key=${bar.what} class=${bar.ours ? "ours" : ""}>
    <dt>${bar.what}</dt><dd><span class="track" aria-hidden="true"><span class="fill" style=${{ width: `${100 * Math.min(1, bar.length)}%` }}></span></span><span class="value">${bar.text}</span></dd></div>`)}</dl>`;
}
