/** The order that somebody is making of answers: pure functions from one state to the next. */

/**
 * @typedef {{order: number[], tied: boolean[], placed: number, last: number}} Order
 *   order: answers, by their numbers from 0, best first; tied: of each place, whether it is as good as the one before;
 *   placed: how many from the top have been put where they are; last: the place that was changed last, or -1
 */

/** As the answers are shown, nothing placed. @param {number} k @returns {Order} */
export function untouched(k) {
  return { order: Array.from({ length: k }, (_, answer) => answer), tied: Array(k).fill(false), placed: 0, last: -1 };
}

/** Whether every answer has been put somewhere. @param {Order} state */
export function complete(state) {
  return state.placed === state.order.length;
}

/**
 * Put an answer behind those that are placed; when one is left, its place is clear.
 * @param {Order} state @param {number} answer @returns {Order} the same one if it is placed already
 */
export function place(state, answer) {
  const at = state.order.indexOf(answer);
  if (at < state.placed) return state;
  const order = state.order.filter((other) => other !== answer);
  order.splice(state.placed, 0, answer);
  const placed = state.placed + 1 === order.length - 1 ? order.length : state.placed + 1;
  return { order, tied: state.tied, placed, last: state.placed };
}

/** Take the last placed answer out again. @param {Order} state @returns {Order} */
export function unplace(state) {
  if (!state.placed) return state;
  const placed = complete(state) ? Math.max(0, state.order.length - 2) : state.placed - 1;
  const tied = state.tied.map((value, at) => value && at < placed);
  return { order: state.order, tied, placed, last: placed - 1 };
}

/**
 * Move what is at one place to another, all others keeping their order; then the whole order is one that was made.
 * It is tied there only if it comes between two that are tied with each other.
 * @param {Order} state @param {number} from @param {number} to @returns {Order}
 */
export function move(state, from, to) {
  if (from === to || to < 0 || to >= state.order.length) return state;
  const order = [...state.order];
  const tied = [...state.tied];
  const [answer] = order.splice(from, 1);
  const [was] = tied.splice(from, 1);
  if (from < tied.length) tied[from] &&= was; // it was tied with what has gone, and is now with what that was tied with
  order.splice(to, 0, answer);
  tied.splice(to, 0, to < tied.length && to > 0 && tied[to]);
  tied[0] = false;
  return { order, tied, placed: order.length, last: to };
}

/**
 * Tie what is at a place with the one before it, or untie them; at the top, with the one behind it.
 * @param {Order} state @param {number} at @returns {Order}
 */
export function tie(state, at) {
  const second = Math.max(1, at);
  if (at < 0 || second >= Math.max(state.placed, 1)) return state;
  const tied = state.tied.map((value, i) => (i === second ? !value : value));
  return { ...state, tied };
}

/** What is sent: answers, best first, tied ones together. @param {Order} state @returns {number[][]} */
export function groups(state) {
  /** @type {number[][]} */
  const found = [];
  state.order.forEach((answer, at) => {
    if (state.tied[at]) found[found.length - 1].push(answer);
    else found.push([answer]);
  });
  return found;
}

/**
 * In words where something stands: "1st", or "1st, tied".
 * @param {Order} state @param {number} at
 */
export function placeName(state, at) {
  if (at >= state.placed) return "not placed";
  let first = at;
  while (state.tied[first]) first -= 1;
  const shared = first < at || (at + 1 < state.placed && state.tied[at + 1]);
  return ordinal(first + 1) + (shared ? ", tied" : "");
}

/** @param {number} n @returns {string} */
function ordinal(n) {
  return `${n}${{ 1: "st", 2: "nd", 3: "rd" }[n] ?? "th"}`;
}
