/**
 * Curves on a canvas: raw values faint, smoothed ones on top, marks, a cursor that several plots share.
 * All that the canvas shows can also be had by keys and as text.
 */

import { html } from "htm/preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import uPlot from "uplot";
import { brief } from "./numbers.js";
import { cssColour, dark } from "./theme.js";
import { Wide } from "./ui.js";

document.head.append(Object.assign(document.createElement("link"), { rel: "stylesheet", href: "/web/vendor/uPlot-1.6.32.min.css" }));

/**
 * A curve. smooth: the line; low, high: the range of raw values about it, if that is shown; points: mark each value;
 * faint: as one of several that a stronger line summarises. Arrays have a value, or NaN, for each x.
 * @typedef {{label: string, smooth: Float32Array, low?: Float32Array, high?: Float32Array, points?: boolean,
 *   faint?: boolean, style: number}} Curve
 */
/**
 * @typedef {{title: string, x: Float64Array, curves: Curve[], marks?: ArrayLike<number>, logX?: boolean, logY?: boolean,
 *   xName: string, xText?: (x: number) => string, sync?: string, at?: number, onZoom?: (begin: number, end: number) => void,
 *   onUnzoom?: () => void, onPick?: (x: number) => void}} PlotProps
 *   at: an x to mark, such as the step that is looked at
 */

export const STYLES = 6; // colours with their dashes, so that colour alone tells nothing
const DASHES = [[], [8, 4], [2, 3], [10, 3, 2, 3], [5, 2], [14, 4]];
const HEIGHT = 230;
const ROWS = 12; // of the table

/** @param {PlotProps} props */
export function Plot(props) {
  const { title, x, curves, logX = false, logY = false, xName, xText = brief, sync, onZoom, onUnzoom, onPick } = props;
  const box = useRef(/** @type {HTMLDivElement | null} */ (null));
  const plot = useRef(/** @type {uPlot | null} */ (null));
  const shown = useRef(props);
  shown.current = props;
  const [cursor, setCursor] = useState(/** @type {number | null} */ (null));
  const shape = curves.map((curve) => `${curve.style}${curve.points}${curve.faint}${raw(curve).length}${isSingle(curve)}`).join();
  const isDark = dark.value;

  useEffect(() => {
    const holder = /** @type {HTMLDivElement} */ (box.current);
    const made = new uPlot(options(holder.clientWidth), dataOf(shown.current), holder);
    plot.current = made;
    const resized = new ResizeObserver(() => made.setSize({ width: holder.clientWidth, height: HEIGHT }));
    resized.observe(holder);
    return () => {
      resized.disconnect();
      made.destroy();
      plot.current = null;
    };
  }, [shape, logX, logY, sync, isDark]);
  useEffect(() => plot.current?.setData(dataOf(shown.current)), [x, curves, props.marks]);
  useEffect(() => {
    if (plot.current?.status) plot.current.redraw(false, false); // else it is about to be drawn for the first time
  }, [props.at]);

  /** @param {number} width @returns {uPlot.Options} */
  function options(width) {
    const [ink, line, bad, main] = ["--faint", "--line", "--bad", "--main"].map(cssColour);
    const axis = { stroke: ink, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1 }, font: "12px sans-serif" };
    const series = /** @type {uPlot.Series[]} */ ([{}]);
    const bands = /** @type {uPlot.Band[]} */ ([]);
    for (const curve of shown.current.curves) {
      const colour = cssColour(`--curve-${curve.style % STYLES}`);
      for (const _ of raw(curve)) series.push({ stroke: withAlpha(colour, 0.35), width: 1, spanGaps: true, points: { show: false } });
      if (raw(curve).length > 1) bands.push({ series: [series.length - 1, series.length - 2], fill: withAlpha(colour, 0.2) });
      series.push({
        stroke: curve.faint ? withAlpha(colour, 0.6) : colour, width: curve.faint ? 1 : 2, spanGaps: true,
        dash: DASHES[curve.style % STYLES], points: { show: curve.points ?? false, size: isSingle(curve) ? 12 : 6, fill: colour },
      });
    }
    return {
      width, height: HEIGHT, series, bands, legend: { show: false }, padding: [8, 20, 0, 0],
      scales: { x: { time: false, distr: logX ? 3 : 1 }, y: { distr: logY ? 3 : 1 } },
      axes: [
        { ...axis, values: (_, ticks) => ticks.map((tick) => (tick === null ? "" : (shown.current.xText ?? brief)(tick))), space: 60, size: 32 },
        { ...axis, values: (_, ticks) => ticks.map((tick) => (tick === null ? "" : brief(tick))), size: 58 },
      ],
      cursor: {
        sync: sync ? { key: sync } : undefined, drag: { x: Boolean(onZoom), y: false, setScale: false },
        points: { show: false },
      },
      hooks: {
        setCursor: [(made) => setCursor(made.cursor.idx ?? null)],
        setSelect: [(made) => {
          const { left, width: wide } = made.select;
          if (wide > 2) shown.current.onZoom?.(made.posToVal(left, "x"), made.posToVal(left + wide, "x"));
          made.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
        }],
        draw: [(made) => {
          for (const mark of Array.from(shown.current.marks ?? [])) tick(made, mark, bad, 1, 10);
          if (shown.current.at !== undefined) tick(made, shown.current.at, main, 2);
        }],
      },
    };
  }

  /** @param {number} place */
  const moveTo = (place) => {
    const made = plot.current;
    if (!made || !x.length) return;
    const index = Math.max(0, Math.min(x.length - 1, place));
    /** @type {any} */ (made).setCursor({ left: made.valToPos(x[index], "x"), top: 10 }, true, true); // in all that share it
  };
  /** @param {KeyboardEvent} event */
  const keys = (event) => {
    const by = event.shiftKey ? Math.max(1, Math.round(x.length / 20)) : 1;
    const now = cursor ?? x.length - 1;
    if (event.key === "ArrowLeft") moveTo(now - (cursor === null ? 0 : by));
    else if (event.key === "ArrowRight") moveTo(now + (cursor === null ? 0 : by));
    else if (event.key === "Home") moveTo(0);
    else if (event.key === "End") moveTo(x.length - 1);
    else if (event.key === "Enter" && onPick && cursor !== null) onPick(x[cursor]);
    else if ((event.key === "+" || event.key === "=") && onZoom && x.length > 4) {
      const reach = Math.max(2, Math.round(x.length / 4));
      onZoom(x[Math.max(0, now - reach)], x[Math.min(x.length - 1, now + reach)]);
    } else if ((event.key === "-" || event.key === "Escape") && onUnzoom) onUnzoom();
    else return;
    event.preventDefault();
  };
  const click = () => cursor !== null && onPick?.(x[cursor]);
  const last = x.length - 1;
  const place = cursor !== null && cursor <= last ? cursor : null;
  const help = `arrow keys move a cursor${onZoom ? ", plus and minus zoom" : ""}${onPick ? ", Enter chooses" : ""}`;
  return html`<figure class="plot">
    <figcaption><strong>${title}</strong></figcaption>
    <div class="plot-box" ref=${box} tabindex="0" role="application" aria-roledescription="plot" onKeyDown=${keys} onClick=${click}
      aria-label=${`${title}, by ${xName}; ${help}`}></div>
    <p class="plot-values" aria-live="off"><span class="plot-x">${place === null ? "at the end" : `${xName}: ${xText(x[place])}`}</span>
      ${curves.filter((curve) => curve.label).map((curve) => html`${" "}<span key=${curve.label} class="plot-value"><${Swatch} style=${curve.style} />
        ${curves.length > 1 ? `${curve.label} ` : ""}<b>${brief(nearest(curve.smooth, place ?? last))}</b></span>`)}</p>
    <${Table} x=${x} curves=${curves} xName=${xName} xText=${xText} title=${title} />
  </figure>`;
}

/** The line as the plot draws it. @param {{style: number}} props */
export function Swatch({ style }) {
  const dash = DASHES[style % STYLES].join(" ");
  return html`<svg class=${`swatch style-${style % STYLES}`} viewBox="0 0 28 8" aria-hidden="true"><line x1="0" y1="4" x2="28" y2="4" stroke-dasharray=${dash} /></svg>`;
}

/**
 * A few of the values, for those who do not see the plot.
 * @param {{x: Float64Array, curves: Curve[], xName: string, xText: (x: number) => string, title: string}} props
 */
function Table({ x, curves, xName, xText, title }) {
  const [open, setOpen] = useState(false);
  const places = useMemo(() => {
    const n = Math.min(ROWS, x.length);
    return Array.from({ length: n }, (_, i) => Math.round((i * (x.length - 1)) / Math.max(1, n - 1)));
  }, [x]);
  const named = curves.filter((curve) => curve.label);
  return html`<details onToggle=${(/** @type {any} */ event) => setOpen(event.currentTarget.open)}>
    <summary>As a table</summary>
    ${open && html`<${Wide} label=${`${title}, as a table`}><table>
      <thead><tr><th class="number">${xName}</th>${named.map((curve) => html`<th key=${curve.label} class="number">${curve.label}</th>`)}</tr></thead>
      <tbody>${places.map((place) => html`<tr key=${place}><td class="number">${xText(x[place])}</td>
        ${named.map((curve) => html`<td key=${curve.label} class="number">${brief(nearest(curve.smooth, place))}</td>`)}</tr>`)}</tbody>
    </table><//>`}
  </details>`;
}

/**
 * The value there, or the last one before.
 * @param {Float32Array} values @param {number} place
 */
function nearest(values, place) {
  for (let i = place; i >= 0; i--) if (!Number.isNaN(values[i])) return values[i];
  return undefined;
}

/** @param {PlotProps} props @returns {uPlot.AlignedData} */
function dataOf({ x, curves }) {
  const lines = curves.flatMap((curve) => [...raw(curve), curve.smooth]);
  // uPlot knows gaps as null, which arrays of floats can't hold
  const gaps = (/** @type {Float32Array} */ line) => Array.from(line, (value) => (Number.isNaN(value) ? null : value));
  return /** @type {any} */ ([Array.from(x), ...lines.map(gaps)]);
}

/** Whether it is only a place to be pointed out. @param {Curve} curve */
function isSingle({ points, smooth }) {
  return points && smooth.filter((value) => !Number.isNaN(value)).length === 1;
}

/**
 * The lines of a curve's raw values: one where each column of pixels has one value, two with a band between otherwise.
 * @param {Curve} curve
 */
function raw({ low, high, smooth }) {
  if (!low || !high) return [];
  const same = (/** @type {Float32Array} */ a, /** @type {Float32Array} */ b) => a.every((value, i) => value === b[i] || (value !== value && b[i] !== b[i]));
  if (!same(low, high)) return [low, high];
  return same(low, smooth) ? [] : [low];
}

/**
 * A vertical line.
 * @param {uPlot} made @param {number} x @param {string} colour @param {number} width
 * @param {number} [height] at the bottom, in pixels; all of the plot by default
 */
function tick(made, x, colour, width, height) {
  const { ctx, bbox } = made;
  const left = made.valToPos(x, "x", true);
  if (!(left >= bbox.left && left <= bbox.left + bbox.width)) return;
  ctx.save();
  ctx.strokeStyle = colour;
  ctx.lineWidth = width * devicePixelRatio;
  ctx.beginPath();
  ctx.moveTo(left, bbox.top + bbox.height);
  ctx.lineTo(left, height ? bbox.top + bbox.height - height * devicePixelRatio : bbox.top);
  ctx.stroke();
  ctx.restore();
}

/** @param {string} colour as `cssColour` gives it @param {number} alpha */
function withAlpha(colour, alpha) {
  const parts = colour.match(/[\d.]+/g)?.slice(0, 3) ?? ["128", "128", "128"];
  return colour.startsWith("rgb") ? `rgba(${parts.join(",")},${alpha})` : colour;
}
