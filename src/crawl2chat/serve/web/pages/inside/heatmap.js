/** Heat maps: numbers as pixels on a canvas, with a cell that the pointer shows, a click locks, and arrow keys move. */

import { html } from "htm/preact";
import { useEffect, useRef } from "preact/hooks";
import { dark } from "../../common/theme.js";
import { gradient, greatest, paint } from "./colours.js";

/** @typedef {[number, number]} Cell row and column */

/**
 * @param {{numbers: ArrayLike<number>, columns: number, scale: import("./colours.js").Scale, label: string,
 *   most?: number, cell?: Cell | null, pointed?: Cell | null, onLock?: (cell: Cell | null) => void,
 *   onPoint?: (cell: Cell | null) => void, width?: string, ratio?: number, hatched?: boolean, row?: number,
 *   describedby?: string}} props
 *   numbers: row by row, NaN where there is none; most: what has the strongest colour (the greatest number);
 *   ratio: width to height of the map (columns to rows); hatched: shade what has no number; row: one to mark
 */
export function Heatmap(props) {
  const { numbers, columns, scale, label, cell = null, pointed = null, onLock, onPoint, width = "100%" } = props;
  const rows = Math.max(1, Math.floor(numbers.length / columns));
  const most = props.most ?? greatest(numbers);
  const canvas = useRef(/** @type {HTMLCanvasElement | null} */ (null));
  const isDark = dark.value;
  useEffect(() => {
    if (canvas.current) paint(canvas.current, numbers, columns, scale, most);
  }, [numbers, columns, scale, most, isDark]);

  /** @param {MouseEvent & {currentTarget: HTMLElement}} event @returns {Cell} */
  const under = (event) => {
    const box = event.currentTarget.getBoundingClientRect();
    const place = (/** @type {number} */ offset, /** @type {number} */ size, /** @type {number} */ n) =>
      Math.max(0, Math.min(n - 1, Math.floor((offset / size) * n)));
    return [place(event.clientY - box.top, box.height, rows), place(event.clientX - box.left, box.width, columns)];
  };
  /** @param {KeyboardEvent} event */
  const move = (event) => {
    const step = STEPS[event.key];
    if (event.key === "Escape" && cell) onLock?.(null);
    else if (step || event.key === "Enter" || event.key === " ") {
      const [row, column] = cell ?? pointed ?? [props.row ?? 0, 0];
      const by = event.shiftKey ? 10 : 1;
      const [down, right] = cell ? (step ?? [0, 0]) : [0, 0]; // the first key only shows where one is
      onLock?.([wrap(row + by * down, rows), wrap(column + by * right, columns)]);
    } else return;
    event.preventDefault();
    event.stopPropagation();
  };
  const box = (/** @type {number} */ row, /** @type {number} */ column, /** @type {number} */ wide = 1) => ({
    top: `${(100 * row) / rows}%`, height: `${100 / rows}%`, left: `${(100 * column) / columns}%`,
    width: `${(100 * wide) / columns}%`,
  });
  return html`<div class=${`heat ${props.hatched ? "hatched" : ""}`} tabindex="0" role="application"
    aria-roledescription="heat map" aria-label=${`${label}, ${rows} rows, ${columns} columns; arrow keys move a cell`}
    style=${{ width, aspectRatio: String(props.ratio ?? columns / rows) }} onKeyDown=${move}
    onPointerMove=${(/** @type {any} */ event) => event.pointerType !== "touch" && onPoint?.(under(event))}
    onPointerLeave=${() => onPoint?.(null)}
    onClick=${(/** @type {any} */ event) => {
      const [row, column] = under(event);
      onLock?.(cell && cell[0] === row && cell[1] === column ? null : [row, column]);
    }}>
    <canvas ref=${canvas} aria-hidden="true"></canvas>
    ${props.row !== undefined && html`<i class="mark-row" style=${box(props.row, 0, columns)}></i>`}
    ${pointed && !cell && html`<i class="mark-pointed" style=${box(...pointed)}></i>`}
    ${cell && html`<i class="mark-cell" style=${box(...cell)}></i>`}
  </div>`;
}

/** @type {Record<string, Cell>} */
const STEPS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

/** @param {number} value @param {number} n */
const wrap = (value, n) => Math.max(0, Math.min(n - 1, value));

/**
 * What the colours mean.
 * @param {{scale: import("./colours.js").Scale, most: number, least?: number}} props
 */
export function Legend({ scale, most, least = scale === "signed" ? -most : 0 }) {
  return html`<span class="legend"><span>${short(least)}</span>
    <i style=${{ backgroundImage: gradient(scale) }}></i><span>${short(most)}</span></span>`;
}

/**
 * A number with three digits that tell something.
 * @param {number} value
 * @returns {string}
 */
export function short(value) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  const told = size >= 1000 || size < 0.001 ? value.toExponential(1) : value.toPrecision(3);
  return told.replace("-", "−");
}

/**
 * A small picture of attention, for buttons that lead to it.
 * @param {{bytes: ArrayLike<number>, columns: number}} props
 */
export function Thumbnail({ bytes, columns }) {
  const canvas = useRef(/** @type {HTMLCanvasElement | null} */ (null));
  const isDark = dark.value;
  useEffect(() => {
    if (canvas.current) paint(canvas.current, bytes, columns, "share", 255);
  }, [bytes, columns, isDark]);
  return html`<canvas class="thumbnail" ref=${canvas} aria-hidden="true"></canvas>`;
}
