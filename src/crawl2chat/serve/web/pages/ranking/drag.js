/** Dragging a card by its handle, with a mouse, a pen or a finger. Nothing moves in the page until it is let go. */

import { signal } from "@preact/signals";

const EDGE = 70; // pixels from the window's edge at which the page scrolls
const SPEED = 12; // pixels per frame

/** @typedef {{from: number, to: number, x: number, y: number}} Drag x, y: pixels from where it began */

/** @type {import("@preact/signals").Signal<Drag | null>} */
export const drag = signal(null);

/**
 * Follow a pointer that went down on a handle.
 * @param {PointerEvent & {currentTarget: HTMLElement}} event
 * @param {number} from the card's place
 * @param {HTMLElement} list whose children are the cards
 * @param {(from: number, to: number) => void} drop
 */
export function beginDrag(event, from, list, drop) {
  if (event.button || !event.isPrimary) return;
  const handle = event.currentTarget;
  const boxes = Array.from(list.children, (card) => inPage(card.getBoundingClientRect()));
  const began = { x: event.pageX, y: event.pageY };
  let at = { x: event.clientX, y: event.clientY };
  let frame = 0;
  handle.setPointerCapture(event.pointerId);

  const follow = () => {
    const x = at.x + scrollX;
    const y = at.y + scrollY;
    if (!drag.value && Math.hypot(x - began.x, y - began.y) < 4) return; // a click
    drag.value = { from, to: nearest(boxes, x, y), x: x - began.x, y: y - began.y };
  };
  const scroll = () => {
    const by = at.y < EDGE ? -SPEED : at.y > innerHeight - EDGE ? SPEED : 0;
    if (drag.value && by) {
      scrollBy(0, by);
      follow();
    }
    frame = requestAnimationFrame(scroll);
  };
  /** @param {PointerEvent} moved */
  const onMove = (moved) => {
    at = { x: moved.clientX, y: moved.clientY };
    follow();
  };
  const end = () => {
    cancelAnimationFrame(frame);
    handle.removeEventListener("pointermove", onMove);
    handle.removeEventListener("pointerup", onUp);
    handle.removeEventListener("pointercancel", end);
    removeEventListener("keydown", onKey, true);
    drag.value = null;
  };
  const onUp = () => {
    const done = drag.value;
    end();
    if (done && done.to !== done.from) drop(done.from, done.to);
  };
  /** @param {KeyboardEvent} key */
  const onKey = (key) => {
    if (key.key === "Escape") end();
    key.stopPropagation();
  };
  handle.addEventListener("pointermove", onMove);
  handle.addEventListener("pointerup", onUp);
  handle.addEventListener("pointercancel", end);
  addEventListener("keydown", onKey, true);
  frame = requestAnimationFrame(scroll);
}

/** @param {DOMRect} box */
function inPage(box) {
  return { left: box.left + scrollX, right: box.right + scrollX, top: box.top + scrollY, bottom: box.bottom + scrollY };
}

/**
 * Which box the point is in, or else the one it is closest to.
 * @param {{left: number, right: number, top: number, bottom: number}[]} boxes @param {number} x @param {number} y
 */
function nearest(boxes, x, y) {
  const away = boxes.map((box) =>
    Math.hypot(Math.max(box.left - x, 0, x - box.right), Math.max(box.top - y, 0, y - box.bottom)));
  return away.indexOf(Math.min(...away));
}
