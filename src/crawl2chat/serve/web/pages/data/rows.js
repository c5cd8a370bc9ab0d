/** A list of any length of which only the rows on the screen are asked for and drawn; arrow keys choose a row. */

import { html } from "htm/preact";
import { useEffect, useId, useRef, useState } from "preact/hooks";
import { Busy, ErrorNote } from "../../common/ui.js";

/** @typedef {{row: number} & Record<string, any>} Row */
/** @typedef {{total: number, offset: number, rows: Row[]}} Part */

const BLOCK = 50; // rows that are asked for together
const MAX_HEIGHT = 8_000_000; // pixels; browsers draw no taller elements, so a longer list scrolls in larger steps
const PAUSE = 60; // milliseconds without scrolling before rows are asked for

/**
 * @param {{label: string, source: string, ask: (offset: number, limit: number, signal: AbortSignal) => Promise<Part>,
 *   render: (row: Row) => any, chosen: number, onChoose: (row: Row) => void, onTotal?: (total: number) => void,
 *   height?: number}} props
 *   source: names what is listed; another one begins another list. chosen: number of the row that is shown, -1 for none.
 *   height: of a row, in rem
 */
export function RowList({ label, source, ask, render, chosen, onChoose, onTotal, height = 3.4 }) {
  const box = useRef(/** @type {HTMLDivElement | null} */ (null));
  const blocks = useRef({ source: "", rows: /** @type {Map<number, Row[]>} */ (new Map()) });
  const [total, setTotal] = useState(-1);
  const [place, setPlace] = useState({ top: 0, seen: 600 });
  const [failure, setFailure] = useState(/** @type {Error | null} */ (null));
  const [, redraw] = useState(0);
  const id = useId();
  if (blocks.current.source !== source) blocks.current = { source, rows: new Map() };

  const rem = parseFloat(getComputedStyle(document.documentElement).fontSize);
  const step = height * rem;
  const whole = Math.max(0, total) * step;
  const drawn = Math.min(whole, MAX_HEIGHT);
  const shown = Math.ceil(place.seen / step) + 1;
  const last = Math.max(0, total - Math.floor(place.seen / step));
  const room = Math.max(1, drawn - place.seen);
  const first = whole > MAX_HEIGHT
    ? Math.min(last, Math.round((place.top / room) * last)) : Math.max(0, Math.floor(place.top / step));
  const until = Math.min(Math.max(total, 0), first + shown);

  useEffect(() => {
    setTotal(-1);
    setFailure(null);
    if (box.current) box.current.scrollTop = 0;
    setPlace({ top: 0, seen: box.current?.clientHeight || 600 });
  }, [source]);

  useEffect(() => {
    const wanted = new Set(total < 0 ? [0] : [first, until - 1].map((row) => Math.floor(Math.max(0, row) / BLOCK)));
    const missing = [...wanted].filter((block) => !blocks.current.rows.has(block));
    if (!missing.length) return;
    const asking = new AbortController();
    const mine = blocks.current;
    const timer = setTimeout(async () => {
      try {
        for (const block of missing) {
          const part = await ask(block * BLOCK, BLOCK, asking.signal);
          if (asking.signal.aborted) return;
          mine.rows.set(block, part.rows);
          if (part.total !== total) {
            setTotal(part.total);
            onTotal?.(part.total);
          }
        }
        setFailure(null);
        redraw((n) => n + 1);
      } catch (error) {
        if (!asking.signal.aborted) setFailure(/** @type {Error} */ (error));
      }
    }, total < 0 ? 0 : PAUSE);
    return () => {
      clearTimeout(timer);
      asking.abort();
    };
  }, [source, total, first, until]);

  /** @param {number} index @returns {Row | undefined} */
  const at = (index) => blocks.current.rows.get(Math.floor(index / BLOCK))?.[index % BLOCK];
  const indexOf = () => {
    for (const [block, rows] of blocks.current.rows) {
      const found = rows.findIndex((row) => row.row === chosen);
      if (found >= 0) return block * BLOCK + found;
    }
    return -1;
  };
  /** @param {number} index */
  const reveal = (index) => {
    const element = box.current;
    if (!element) return;
    if (whole > MAX_HEIGHT) {
      if (index < first || index >= first + shown - 2) element.scrollTop = (Math.min(index, last) / Math.max(1, last)) * room;
    } else if (index * step < element.scrollTop) element.scrollTop = index * step;
    else if ((index + 1) * step > element.scrollTop + element.clientHeight) element.scrollTop = (index + 1) * step - element.clientHeight;
  };
  /** @param {KeyboardEvent} event */
  const move = (event) => {
    const here = indexOf();
    const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const index = event.key === "Home" ? 0 : event.key === "End" ? total - 1 : by && (here < 0 ? first : here + by);
    if (index === undefined || index < 0 || index >= total) return;
    event.preventDefault();
    reveal(index);
    const row = at(index);
    if (row) onChoose(row);
    else if (box.current) { // it will be there when it has been asked for
      ask(index, 1, new AbortController().signal).then((part) => part.rows[0] && onChoose(part.rows[0]), setFailure);
    }
  };
  const rows = [];
  for (let index = first; index < until; index++) {
    const row = at(index);
    const top = whole > MAX_HEIGHT ? place.top + (index - first) * step : index * step;
    rows.push(html`<div key=${index} id=${`${id}-${index}`} role="option" class="row" aria-selected=${row !== undefined && row.row === chosen}
      aria-setsize=${total} aria-posinset=${index + 1} style=${{ top: `${top / rem}rem`, height: `${height}rem` }}
      onClick=${() => row && onChoose(row)}>${row ? render(row) : html`<span class="hint">…</span>`}</div>`);
  }
  const here = indexOf();
  return html`
    <${ErrorNote} error=${failure} />
    ${total < 0 && !failure && html`<${Busy}>reading …<//>`}
    ${total === 0 && html`<p class="hint">There is none.</p>`}
    <div class="rows" role="listbox" aria-label=${label} aria-busy=${total < 0} tabindex="0" ref=${box} hidden=${total <= 0}
      aria-activedescendant=${here >= first && here < until ? `${id}-${here}` : undefined} onKeyDown=${move}
      onScroll=${(/** @type {any} */ event) => setPlace({ top: event.currentTarget.scrollTop, seen: event.currentTarget.clientHeight })}>
      <div role="presentation" style=${{ height: `${drawn / rem}rem` }}>${rows}</div>
    </div>`;
}
