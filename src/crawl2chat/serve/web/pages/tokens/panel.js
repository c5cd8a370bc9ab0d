/** One encoding: its tokens as coloured text, their ids below, and what both are where one points. */

import { html } from "htm/preact";
import { useComputed } from "@preact/signals";
import { useEffect, useId, useRef, useState } from "preact/hooks";
import { above, asBytes, blanks, cuts, decode, hot, pinned, readable, spaced, spanOf, titleOf, tokensIn, visibleWhole } from "./state.js";

/** @typedef {import("./state.js").Cut} Cut */

const CHUNK = 120; // groups that are drawn, or not, together
const COLOURS = 5;

/** @param {{cut: Cut}} props */
export function Panel({ cut }) {
  const most = Math.max(1, ...cuts.value.map((other) => other.ids.length));
  const n = cut.ids.length;
  return html`<section class="card encoding" aria-label=${titleOf(cut.name)}>
    <header>
      <h2>${titleOf(cut.name)}</h2>
      <p><strong class="count">${n.toLocaleString("en")}</strong> ${n === 1 ? "token, " : "tokens, "}
        <strong>${(cut.bytes.length / Math.max(1, n)).toFixed(2)}</strong> bytes per token</p>
      <div class="bar" aria-hidden="true"><div class="moves" style=${{ width: `${(100 * n) / most}%` }}></div></div>
    </header>
    <${Box} cut=${cut} kind="text" /><${Box} cut=${cut} kind="ids" /><${Detail} cut=${cut} />
  </section>`;
}

/**
 * A list of tokens in which arrow keys move; as one stop of the Tab key.
 * @param {{cut: Cut, kind: "text" | "ids"}} props
 */
function Box({ cut, kind }) {
  const id = useId();
  const box = useRef(/** @type {HTMLElement | null} */ (null));
  const active = useComputed(() => (hot.value ? tokensIn(cut, hot.value).first : -1));
  const starts = [];
  for (let group = 0; group < cut.groups.length; group += CHUNK) starts.push(group);

  /** @param {number} token @param {boolean} stays */
  const look = (token, stays) => {
    if (token < 0 || token >= cut.ids.length) return;
    hot.value = kind === "text" ? groupSpan(cut, groupOf(cut, token)) : spanOf(cut, token);
    pinned.value = stays;
  };
  /** @param {Event} event */
  const at = (event) => {
    const found = event.target instanceof Element ? event.target.closest("[data-token]") : null;
    return found ? Number(found.getAttribute("data-token")) : -1;
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
    requestAnimationFrame(() => box.current?.querySelector(`[data-token="${active.value}"]`)?.scrollIntoView({ block: "nearest" }));
  };
  return html`<div ref=${box} id=${id} class=${`tokens ${kind}`} role="listbox" tabindex="0"
    aria-label=${`${kind === "text" ? "text" : "ids"} of ${titleOf(cut.name)}; arrow keys move from token to token`}
    aria-activedescendant=${active.value >= 0 ? `${id}-${active.value}` : undefined}
    onPointerOver=${over} onPointerLeave=${leave} onClick=${click} onKeyDown=${press}>
    ${starts.map((from, i) => html`<${Chunk} key=${i} cut=${cut} kind=${kind} from=${from} box=${id} />`)}
  </div>`;
}

function release() {
  hot.value = null;
  pinned.value = false;
}

/**
 * Some of the tokens. Far from what is seen they are plain text, so that long texts cost little.
 * @param {{cut: Cut, kind: "text" | "ids", from: number, box: string}} props
 */
function Chunk({ cut, kind, from, box }) {
  const place = useRef(/** @type {HTMLElement | null} */ (null));
  const [near, setNear] = useState(from === 0);
  useEffect(() => {
    const observer = new IntersectionObserver((entries) => setNear(entries[entries.length - 1].isIntersecting), {
      root: place.current?.parentElement, rootMargin: "200px",
    });
    if (place.current) observer.observe(place.current);
    return () => observer.disconnect();
  }, []);
  const to = Math.min(cut.groups.length, from + CHUNK);
  const first = groupFirst(cut, from);
  const last = cut.groups[to - 1];
  const lit = useComputed(() => {
    if (!hot.value) return "";
    const { first: begin, last: end } = tokensIn(cut, hot.value);
    return end > first && begin < last ? `${begin} ${end}` : "";
  });
  const [begin, end] = lit.value ? lit.value.split(" ").map(Number) : [-1, -1];
  const content = !near ? plain(cut, kind, first, last) : kind === "text"
    ? groups(cut, from, to, begin, end, box) : ids(cut, first, last, begin, end, box);
  return html`<span ref=${place}>${content}</span>`;
}

/** @param {Cut} cut @param {"text" | "ids"} kind @param {number} first @param {number} last */
function plain(cut, kind, first, last) {
  if (kind === "ids") return Array.from(cut.ids.subarray(first, last)).join("  ");
  return decode(cut.bytes.subarray(spanOf(cut, first).begin, cut.ends[last - 1]));
}

/** @param {Cut} cut @param {number} from @param {number} to @param {number} begin @param {number} end @param {string} box */
function groups(cut, from, to, begin, end, box) {
  const drawn = [];
  for (let group = from; group < to; group += 1) {
    const first = groupFirst(cut, group);
    const last = cut.groups[group];
    const { begin: start, end: stop } = groupSpan(cut, group);
    const text = decode(cut.bytes.subarray(start, stop));
    const isHot = end > first && begin < last;
    drawn.push(html`<span key=${group} id=${`${box}-${first}`} role="option" aria-selected=${isHot} data-token=${first}
      class=${`token colour-${first % COLOURS}${isHot ? " hot" : ""}`}>${shown(text)}${last - first > 1
        && html`<sup title=${`${last - first} tokens share these characters`}>${last - first}</sup>`}</span>`);
  }
  return drawn;
}

/** Lines end where the text's do. @param {string} text @returns {string} */
function shown(text) {
  return blanks.value ? visibleWhole(text).replaceAll("⏎", "⏎\n") : text;
}

/** @param {Cut} cut @param {number} first @param {number} last @param {number} begin @param {number} end @param {string} box */
function ids(cut, first, last, begin, end, box) {
  const drawn = [];
  for (let token = first; token < last; token += 1) {
    const isHot = begin <= token && token < end;
    const { begin: start, end: stop } = spanOf(cut, token);
    const bytes = asBytes.value && spaced(cut.bytes.subarray(start, stop));
    drawn.push(html`<span key=${token} id=${`${box}-${token}`} role="option" aria-selected=${isHot} data-token=${token}
      class=${`token colour-${token % COLOURS}${isHot ? " hot" : ""}`}>${cut.ids[token]}${bytes && html`<small>${bytes}</small>`}</span> `);
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
