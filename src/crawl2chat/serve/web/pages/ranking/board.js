/** The answers to one question, side by side, best first, and the ways to put them in order. */

import { html } from "htm/preact";
import { signal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { about } from "../../common/about.js";
import { Button } from "../../common/ui.js";
import { beginDrag, drag } from "./drag.js";
import { complete, move, place, placeName, tie, unplace } from "./order.js";
import { authors, busy, judge, keysAct, next, order, said, shown, undo } from "./session.js";

/** @typedef {import("./order.js").Order} Order */

/** The order before a card was picked up with the space bar; null while none is. */
const before = signal(/** @type {Order | null} */ (null));

/** Change the order and say what that did. @param {Order} changed @param {number} answer @param {string} [nothing] */
function change(changed, answer, nothing = "") {
  if (changed === order.value) {
    said.value = nothing;
    return;
  }
  order.value = changed;
  const at = changed.order.indexOf(answer);
  said.value = `Answer ${answer + 1}: ${placeName(changed, at)} of ${changed.order.length}.`;
  if (complete(changed)) said.value += " All answers are placed; Enter stores the order.";
}

/** @param {number} answer */
function placeNext(answer) {
  if (answer >= order.value.order.length) return;
  change(place(order.value, answer), answer, `Answer ${answer + 1} is placed already; Backspace takes the last one out.`);
}

/** @param {number} at */
function toggleTie(at) {
  change(tie(order.value, at), order.value.order[at] ?? 0, "Place two answers first; then = ties them.");
}

function takeOut() {
  const taken = unplace(order.value);
  change(taken, order.value.order[taken.placed] ?? 0, "No answer is placed.");
}

export function Board() {
  const list = useRef(/** @type {HTMLElement | null} */ (null));
  const state = order.value;
  const assignment = shown.value;
  const judged = authors.value !== null;

  useEffect(() => {
    before.value = null;
    focusHandle(0);
  }, [assignment?.id]);
  useEffect(() => {
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  }, []);

  /** @param {number} at */
  const focusHandle = (at) => {
    const handle = list.current?.children[at]?.querySelector(".handle");
    if (handle instanceof HTMLElement) handle.focus({ preventScroll: before.value === null });
  };

  /** @param {number} from @param {number} to */
  const moveTo = (from, to) => {
    const answer = order.value.order[from];
    change(move(order.value, from, to), answer);
  };

  /** @param {KeyboardEvent} event */
  const onKey = (event) => {
    if (!keysAct.value && event.key.length === 1 && event.key !== " ") return;
    const target = event.target instanceof Element ? event.target : document.body;
    if (event.ctrlKey || event.metaKey || event.altKey || target.closest("input, textarea, select, summary, [role=tab]")) return;
    const handle = target.closest(".handle");
    const at = handle ? Number(handle.getAttribute("data-at")) : -1;
    if (act(event.key, at, target)) event.preventDefault();
  };

  /** @param {string} key @param {number} at the place of the card whose handle has the focus, or -1 @param {Element} target */
  const act = (key, at, target) => {
    if (authors.value) {
      if (key === "Enter" && !target.closest("button:not(.handle), a")) next();
      else if (key === "u") undo();
      else return false;
      return true;
    }
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[key];
    if (step && at >= 0) {
      const to = Math.min(order.value.order.length - 1, Math.max(0, at + step));
      if (before.value) moveTo(at, to);
      setTimeout(() => focusHandle(to)); // once it is drawn
      return true;
    }
    if (key === " " && at >= 0) {
      const answer = order.value.order[at];
      said.value = before.value ? `Answer ${answer + 1} put down.` : `Answer ${answer + 1} picked up. Arrows move it.`;
      before.value = before.value ? null : order.value;
      return true;
    }
    if (key === "Escape" && before.value) {
      order.value = before.value;
      before.value = null;
      said.value = "As it was before.";
      return true;
    }
    if (/^[1-9]$/.test(key)) placeNext(Number(key) - 1);
    else if (key === "=") toggleTie(at >= 0 && at < order.value.placed ? at : order.value.last);
    else if (key === "Backspace") takeOut();
    else if (key === "b") judge("all_bad");
    else if (key === "s") judge("skipped");
    else if (key === "u") undo();
    else if (key === "Enter" && !target.closest("button:not(.handle), a")) {
      before.value = null;
      judge("ranked");
    } else return false;
    return true;
  };

  if (!assignment) return null;
  return html`
    <ol class="answers" ref=${list} aria-label="The answers, best first" aria-busy=${busy.value}>
      ${state.order.map((answer, at) => html`<${Card} key=${`${assignment.id} ${answer}`} answer=${answer} at=${at}
        onGrab=${(/** @type {any} */ event) => !judged && list.current && beginDrag(event, at, list.current, moveTo)} />`)}
    </ol>
    <div class="verdicts">
      ${judged
        ? html`<${Button} kind="main" onClick=${next} disabled=${busy.value}>Next<span class="more"> question</span> <kbd>Enter</kbd><//>`
        : html`<${Button} kind="main" onClick=${() => judge("ranked")} disabled=${busy.value || !complete(state)}>
            Confirm<span class="more"> the order</span> <kbd>Enter</kbd><//>
          <${Button} onClick=${() => judge("all_bad")} disabled=${busy.value}>All bad <kbd>b</kbd><//>
          <${Button} onClick=${() => judge("skipped")} disabled=${busy.value}>Skip <kbd>s</kbd><//>`}
      <${Button} onClick=${undo} disabled=${busy.value}>Undo <kbd>u</kbd><//>
      <span class="hint said" role="status">${said.value}</span>
    </div>`;
}

/** @param {{answer: number, at: number, onGrab: (event: PointerEvent) => void}} props */
function Card({ answer, at, onGrab }) {
  const { text, ended } = /** @type {import("./session.js").Assignment} */ (shown.value).answers[answer];
  const state = order.value;
  const k = state.order.length;
  const placed = at < state.placed;
  const author = authors.value?.[answer];
  const held = drag.value;
  const dragged = held?.from === at;
  const target = held && held.to === at && !dragged ? (held.to < held.from ? "before" : "after") : "";
  const picked = before.value !== null && state.last === at;
  const title = about.value?.models.find((model) => model.name === author?.author)?.title;
  return html`<li class=${`answer card ${placed ? "placed" : ""} ${state.tied[at] && placed ? "tied" : ""} ${dragged ? "dragged" : ""} ${target}`}
      style=${dragged ? { transform: `translate(${held.x}px, ${held.y}px)` } : {}}>
    <div class="head">
      <button type="button" class="handle" data-at=${at} onPointerDown=${onGrab} aria-pressed=${picked}
        disabled=${authors.value !== null}
        aria-label=${`Move answer ${answer + 1}, now ${placeName(state, at)} of ${k}`}
        title="drag; or space picks up, arrows move">⠿</button>
      <button type="button" class="button number" onClick=${() => placeNext(answer)} disabled=${placed || authors.value !== null}
        aria-label=${`Place answer ${answer + 1} next`} title="place it behind those that are placed"><kbd>${answer + 1}</kbd></button>
      <strong class=${placed ? "place set" : "place"}>${placeName(state, at)}</strong>
      ${at > 0 && placed && !authors.value && html`<${Button} kind="quiet" pressed=${state.tied[at]} onClick=${() => toggleTie(at)}
        label=${`Answer ${answer + 1} is as good as answer ${state.order[at - 1] + 1}`} title="tie it with the one before">= tie<//>`}
    </div>
    ${author && html`<p class="author">by <strong>${author.stage ?? author.author}</strong>${title && title !== author.stage && ` (${title})`}</p>`}
    <div class="text" tabindex="0" role="region" aria-label=${`Text of answer ${answer + 1}`}>${text ||
      html`<em class="hint">an empty answer</em>`}${!ended && html`<span class="tag cut" title="it reached the limit of its length">… cut off</span>`}</div>
  </li>`;
}
