/** One encoding: its tokens as coloured text, their ids below, and what both are where one points. */

import { html } from "htm/preact";
import { useComputed } from "@preact/signals";
import { useEffect, useId, useMemo, useRef, useState } from "preact/hooks";
import { above, asBytes, blanks, cuts, decode, hot, pinned, readable, spaced, spanOf, titleOf, tokensIn, visibleWhole } from "./state.js";

/**
 * Groups of a cut that are drawn, or not, together: from the first to behind the last, likewise their tokens, and their
 * ids as text. The key stays while tokens elsewhere come and go.
 * @typedef {import("./state.js").Cut} Cut
 * @typedef {{key: number, from: number, to: number, first: number, last: number, content: string}} Chunk
 */

const MIN_CHUNK = 60; // groups
const MAX_CHUNK = 180;
const COLOURS = 5;
let nextKey = 0;

/** @param {{cut: Cut}} props */
export function Panel({ cut }) {
  const most = Math.max(1, ...cuts.value.map((other) => other.ids.length));
  const n = cut.ids.length;
  const before = useRef(/** @type {Chunk[]} */ ([]));
  const chunks = useMemo(() => (before.current = chunksOf(cut, before.current)), [cut]);
  return html`<section class="card encoding" aria-label=${titleOf(cut.name)}>
    <header>
      <h2>${titleOf(cut.name)}</h2>
      <p><strong class="count">${n.toLocaleString("en")}</strong> ${n === 1 ? "token, " : "tokens, "}
        <strong>${(cut.bytes.length / Math.max(1, n)).toFixed(2)}</strong> bytes per token</p>
      <div class="bar" aria-hidden="true"><div class="moves" style=${{ width: `${(100 * n) / most}%` }}></div></div>
    </header>
    <${Box} cut=${cut} chunks=${chunks} kind="text" /><${Box} cut=${cut} chunks=${chunks} kind="ids" /><${Detail} cut=${cut} />
  </section>`;
}

/**
 * Cut where the ids themselves say, and keep the keys of chunks before and after those that changed: then a keystroke
 * draws the chunk that it is in, and not all that follow.
 * @param {Cut} cut @param {Chunk[]} before @returns {Chunk[]}
 */
function chunksOf(cut, before) {
  /** @type {Chunk[]} */
  const chunks = [];
  for (let from = 0; from < cut.groups.length; from = chunks[chunks.length - 1].to) {
    let to = Math.min(cut.groups.length, from + MAX_CHUNK);
    if (to < cut.groups.length) {
      let lowest = Infinity;
      for (let group = from + MIN_CHUNK; group <= from + MAX_CHUNK; group += 1) {
        const hash = Math.imul(cut.ids[groupFirst(cut, group)], 0x9e3779b1) >>> 0;
        if (hash < lowest) [lowest, to] = [hash, group];
      }
    }
    const first = groupFirst(cut, from);
    const last = cut.groups[to - 1];
    chunks.push({ key: -1, from, to, first, last, content: cut.ids.subarray(first, last).join(" ") });
  }
  const most = Math.min(chunks.length, before.length);
  let head = 0;
  while (head < most && chunks[head].content === before[head].content) head += 1;
  let tail = 0;
  while (tail < most - head && chunks[chunks.length - 1 - tail].content === before[before.length - 1 - tail].content) tail += 1;
  chunks.forEach((chunk, i) => {
    const old = i < chunks.length - tail ? (i < before.length - tail ? before[i] : null) : before[before.length - chunks.length + i];
    chunk.key = old ? old.key : nextKey++;
  });
  return chunks;
}

/**
 * A list of tokens in which arrow keys move; as one stop of the Tab key.
 * @param {{cut: Cut, chunks: Chunk[], kind: "text" | "ids"}} props
 */
function Box({ cut, chunks, kind }) {
  const id = useId();
  const box = useRef(/** @type {HTMLElement | null} */ (null));
  const active = useComputed(() => (hot.value ? tokensIn(cut, hot.value).first : -1));
  const activeId = () => {
    const chunk = chunks.find((one) => active.value < one.last);
    return active.value >= 0 && chunk ? `${id}-${chunk.key}-${active.value - chunk.first}` : undefined;
  };

  /** @param {number} token @param {boolean} stays */
  const look = (token, stays) => {
    if (token < 0 || token >= cut.ids.length) return;
    hot.value = kind === "text" ? groupSpan(cut, groupOf(cut, token)) : spanOf(cut, token);
    pinned.value = stays;
  };
  /** @param {Event} event */
  const at = (event) => {
    const found = event.target instanceof Element ? event.target.closest("[data-token]") : null;
    const chunk = found?.closest("[data-first]");
    return found && chunk ? Number(chunk.getAttribute("data-first")) + Number(found.getAttribute("data-token")) : -1;
  };
  /** @param {Event} event */
  const over = (event) => {
    if (!pinned.value && at(event) >= 0) look(at(event), false);
  };
  const leave = () => {
    if (!pinned.value) hot.value = null;
  };
  /** @param {Event} event */
  const click = (event) => {
    const token = at(event);
    const same = pinned.value && token === active.value;
    if (token < 0 || same) release();
    else look(token, true);
  };
  /** @param {KeyboardEvent} event */
  const press = (event) => {
    const now = active.value;
    const last = cut.ids.length - 1;
    const next = step(cut, kind, now);
    const back = kind === "text" && now > 0 ? groupFirst(cut, Math.max(0, groupOf(cut, now) - 1)) : Math.max(0, now - 1);
    const to = { ArrowRight: next, ArrowDown: next, ArrowLeft: back, ArrowUp: back, Home: 0, End: last }[event.key];
    if (event.key === "Escape") release();
    if (to === undefined || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    look(to, true);
    requestAnimationFrame(() => document.getElementById(activeId() ?? "")?.scrollIntoView({ block: "nearest" }));
  };
  return html`<div ref=${box} id=${id} class=${`tokens ${kind}`} role="listbox" tabindex="0"
    aria-label=${`${kind === "text" ? "text" : "ids"} of ${titleOf(cut.name)}; arrow keys move from token to token`}
    aria-activedescendant=${activeId()}
    onPointerOver=${over} onPointerLeave=${leave} onClick=${click} onKeyDown=${press}>
    ${chunks.map((chunk) => html`<${ChunkOf} key=${chunk.key} cut=${cut} kind=${kind} chunk=${chunk} box=${id} />`)}
  </div>`;
}

function release() {
  hot.value = null;
  pinned.value = false;
}

/**
 * Some of the tokens. Far from what is seen they are plain text, so that long texts cost little.
 * @param {{cut: Cut, kind: "text" | "ids", chunk: Chunk, box: string}} props
 */
function ChunkOf({ cut, kind, chunk, box }) {
  const place = useRef(/** @type {HTMLElement | null} */ (null));
  const [near, setNear] = useState(chunk.from === 0);
  useEffect(() => {
    const observer = new IntersectionObserver((entries) => setNear(entries[entries.length - 1].isIntersecting), {
      root: place.current?.parentElement, rootMargin: "200px",
    });
    if (place.current) observer.observe(place.current);
    return () => observer.disconnect();
  }, []);
  const { first, last } = chunk;
  const lit = useComputed(() => {
    if (!hot.value) return "";
    const { first: begin, last: end } = tokensIn(cut, hot.value);
    return end > first && begin < last ? `${begin - first} ${end - first}` : "";
  });
  // what is drawn counts from the chunk's beginning, and so stays as it is when tokens before it come or go
  const content = useMemo(() => {
    if (!near) return plain(cut, kind, first, last);
    const [begin, end] = lit.value ? lit.value.split(" ").map((at) => first + Number(at)) : [-1, -1];
    return kind === "text" ? groups(cut, chunk, begin, end, box) : ids(cut, chunk, begin, end, box);
  }, [chunk.content, near, lit.value, blanks.value, asBytes.value]);
  return html`<span ref=${place} data-first=${first}>${content}</span>`;
}

/** @param {Cut} cut @param {"text" | "ids"} kind @param {number} first @param {number} last */
function plain(cut, kind, first, last) {
  if (kind === "ids") return Array.from(cut.ids.subarray(first, last), (id) => `${id}  `).join("");
  return decode(cut.bytes.subarray(spanOf(cut, first).begin, cut.ends[last - 1]));
}

/** @param {Cut} cut @param {Chunk} chunk @param {number} begin @param {number} end @param {string} box */
function groups(cut, chunk, begin, end, box) {
  const drawn = [];
  for (let group = chunk.from; group < chunk.to; group += 1) {
    const first = groupFirst(cut, group);
    const last = cut.groups[group];
    const { begin: start, end: stop } = groupSpan(cut, group);
    const text = decode(cut.bytes.subarray(start, stop));
    const isHot = end > first && begin < last;
    const at = first - chunk.first;
    drawn.push(html`<span key=${at} id=${`${box}-${chunk.key}-${at}`} role="option" aria-selected=${isHot} data-token=${at}
      class=${`token ${colour(chunk, first, last)}${isHot ? " hot" : ""}`}>${shown(text)}${last - first > 1
        && html`<sup title=${`${last - first} tokens share these characters`}>${last - first}</sup>`}</span>`);
  }
  return drawn;
}

/** Another one than that of both neighbours; a chunk begins with the first. @param {Chunk} chunk @param {number} first @param {number} last */
function colour(chunk, first, last) {
  const n = (first - chunk.first) % COLOURS;
  return `colour-${n === 0 && last === chunk.last && first > chunk.first ? 2 : n}`;
}

/** Lines end where the text's do. @param {string} text @returns {string} */
function shown(text) {
  return blanks.value ? visibleWhole(text).replaceAll("⏎", "⏎\n") : text;
}

/** @param {Cut} cut @param {Chunk} chunk @param {number} begin @param {number} end @param {string} box */
function ids(cut, chunk, begin, end, box) {
  const drawn = [];
  for (let token = chunk.first; token < chunk.last; token += 1) {
    const isHot = begin <= token && token < end;
    const { begin: start, end: stop } = spanOf(cut, token);
    const bytes = asBytes.value && spaced(cut.bytes.subarray(start, stop));
    const at = token - chunk.first;
    drawn.push(html`<span key=${at} id=${`${box}-${chunk.key}-${at}`} role="option" aria-selected=${isHot} data-token=${at}
      class=${`token ${colour(chunk, token, token + 1)}${isHot ? " hot" : ""}`}>${cut.ids[token]}${bytes && html`<small>${bytes}</small>`}</span> `);
  }
  return drawn;
}

/** What is pointed at, as this encoding has it. @param {{cut: Cut}} props */
function Detail({ cut }) {
  const span = hot.value;
  if (!span) return html`<p class="detail hint">point at a token, or move to one with the arrow keys</p>`;
  const { first, last } = tokensIn(cut, span);
  const tokens = [];
  for (let token = first; token < Math.min(last, first + 6); token += 1) tokens.push(token);
  return html`<p class="detail" role="status">
    ${tokens.map((token) => {
      const { begin, end } = spanOf(cut, token);
      const bytes = cut.bytes.subarray(begin, end);
      return html`<span key=${token} class="one"><strong>${cut.ids[token]}</strong><code>${readable(bytes)}</code>
        <small class="hint">${spaced(bytes)}</small></span>`;
    })}${last - first > tokens.length && html`<span class="hint">and ${last - first - tokens.length} more</span>`}</p>`;
}

/** @param {Cut} cut @param {number} group @returns {number} its first token */
function groupFirst(cut, group) {
  return group ? cut.groups[group - 1] : 0;
}

/** @param {Cut} cut @param {number} token @returns {number} */
function groupOf(cut, token) {
  return above(cut.groups, token);
}

/** @param {Cut} cut @param {number} group */
function groupSpan(cut, group) {
  return { begin: spanOf(cut, groupFirst(cut, group)).begin, end: cut.ends[cut.groups[group] - 1] };
}

/** The token that the right arrow goes to. @param {Cut} cut @param {string} kind @param {number} now */
function step(cut, kind, now) {
  if (now < 0) return 0;
  return Math.min(cut.ids.length - 1, kind === "text" ? cut.groups[groupOf(cut, now)] : now + 1);
}
