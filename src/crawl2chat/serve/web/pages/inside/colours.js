/** Colours for numbers. Both scales change in lightness all the way, so that they can be read without colour vision. */

import { dark } from "../../common/theme.js";

/** @typedef {"share" | "signed"} Scale share: from 0 up; signed: below and above 0 */

/** @type {Record<"light" | "dark", Record<Scale, string[]>>} */
const ANCHORS = {
  light: {
    share: ["#fbfbf4", "#c7e6b8", "#46b3c3", "#2160a8", "#0a1f5c"],
    signed: ["#124f96", "#7fb5dc", "#f7f7f6", "#f7ad5e", "#9c4600"],
  },
  dark: {
    share: ["#191c20", "#253e66", "#2b7c8f", "#45bb77", "#f8e645"],
    signed: ["#7fc0ff", "#2d6396", "#20242a", "#97601f", "#ffbd6b"],
  },
};
const STEPS = 256;

/** @param {Scale} scale */
export const gradient = (scale) => `linear-gradient(to right, ${ANCHORS[dark.value ? "dark" : "light"][scale].join(", ")})`;

/** @type {Map<string, Uint8ClampedArray>} */
const tables = new Map();

/**
 * The scale's 256 colours, each of four bytes.
 * @param {Scale} scale @param {boolean} isDark
 * @returns {Uint8ClampedArray}
 */
export function table(scale, isDark) {
  const key = `${scale} ${isDark}`;
  const known = tables.get(key);
  if (known) return known;
  const anchors = ANCHORS[isDark ? "dark" : "light"][scale].map(
    (colour) => [1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16)),
  );
  const bytes = new Uint8ClampedArray(4 * STEPS).fill(255);
  for (let step = 0; step < STEPS; step++) {
    const place = (step / (STEPS - 1)) * (anchors.length - 1);
    const below = Math.min(Math.floor(place), anchors.length - 2);
    for (let channel = 0; channel < 3; channel++) {
      const [from, to] = [anchors[below][channel], anchors[below + 1][channel]];
      bytes[4 * step + channel] = from + (to - from) * (place - below);
    }
  }
  tables.set(key, bytes);
  return bytes;
}

/**
 * Paint numbers, row by row; what is not a number stays transparent.
 * @param {HTMLCanvasElement} canvas
 * @param {ArrayLike<number>} numbers
 * @param {number} columns
 * @param {Scale} scale
 * @param {number} most what has the scale's last colour
 */
export function paint(canvas, numbers, columns, scale, most) {
  const rows = Math.max(1, Math.floor(numbers.length / columns));
  canvas.width = columns;
  canvas.height = rows;
  const context = canvas.getContext("2d");
  if (!context) return;
  const image = context.createImageData(columns, rows);
  const colours = table(scale, dark.value);
  for (let i = 0; i < rows * columns; i++) {
    if (Number.isNaN(numbers[i])) continue;
    const share = most > 0 ? numbers[i] / most : 0;
    const place = Math.round((scale === "signed" ? (share + 1) / 2 : share) * (STEPS - 1));
    const step = 4 * Math.max(0, Math.min(STEPS - 1, place));
    for (let channel = 0; channel < 4; channel++) image.data[4 * i + channel] = colours[step + channel];
  }
  context.putImageData(image, 0, 0);
}

/**
 * Square roots that keep their sign, for colours in which the small numbers beside a few great ones can be seen.
 * @param {ArrayLike<number>} numbers
 */
export const roots = (numbers) => Float32Array.from(numbers, (number) => Math.sign(number) * Math.sqrt(Math.abs(number)));

/** The greatest magnitude, for a scale that fits. @param {ArrayLike<number>} numbers */
export function greatest(numbers) {
  let most = 0;
  for (let i = 0; i < numbers.length; i++) if (Math.abs(numbers[i]) > most) most = Math.abs(numbers[i]);
  return most;
}
