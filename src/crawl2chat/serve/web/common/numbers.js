/** Numbers as text: as short as they can be without misleading. */

const UNITS = [[1e18, "E"], [1e15, "P"], [1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]];

/**
 * A number with about four digits: 0.0123, 3.142, 1,234, 12.3 k, 4.56 M.
 * @param {number | null | undefined} value
 * @returns {string}
 */
export function brief(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (value === 0) return "0";
  const size = Math.abs(value);
  const sign = value < 0 ? "−" : "";
  if (size < 1e-3) return sign + size.toExponential(1).replace("e-", "e−");
  if (size < 1e4) return sign + Number(size.toPrecision(4)).toLocaleString("en", { maximumFractionDigits: 6 });
  for (const [unit, name] of UNITS) {
    if (size >= Number(unit)) return `${sign}${Number((size / Number(unit)).toPrecision(3))} ${name}`;
  }
  return sign + size;
}

/**
 * A time as hours, minutes and seconds.
 * @param {number} seconds
 * @returns {string}
 */
export function duration(seconds) {
  if (seconds < 60) return `${Number(seconds.toPrecision(2))} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${Math.round(seconds % 60)} s`;
  return `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, "0")} min`;
}

/** Among how many equal choices one would be as unsure. @param {number} nats @returns {string} */
export function choices(nats) {
  const n = Math.exp(nats);
  return n < 100 ? n.toFixed(1) : Math.round(n).toLocaleString("en");
}
