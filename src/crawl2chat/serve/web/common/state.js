/** State that lives in the address, so that a page can be shared: `#name=value&…`, which browsers never send. */

import { effect, signal } from "@preact/signals";

/** @typedef {string | number | boolean | string[] | number[]} Value */

export const MAX_VALUE = 32_000; // characters of a value in the address; browsers and chat programs cut long links
/** The page that has a value too long for its address, and the names of those. @type {import("@preact/signals").Signal<{page: string, names: string[]}>} */
export const tooLong = signal({ page: "", names: [] });

/** @type {Map<string, {page: string, signal: import("@preact/signals").Signal<any>, initial: Value}>} */
const known = new Map();
let writing = 0;
let wrote = -1000; // when, in milliseconds

/**
 * A signal whose value stands in the address wherever it differs from its initial one.
 * It belongs to the page at whose address it was made. The same name always gives the same signal there.
 * @template {Value} T
 * @param {string} name
 * @param {T} initial also says the type: text, number, boolean or a list
 * @returns {import("@preact/signals").Signal<T>}
 */
export function urlState(name, initial) {
  const page = location.pathname;
  const key = `${page} ${name}`;
  const before = known.get(key);
  if (before) return before.signal;
  const state = signal(parse(fragment().get(name), initial));
  known.set(key, { page, signal: state, initial });
  effect(() => {
    state.value; // subscribes
    schedule();
  });
  return /** @type {import("@preact/signals").Signal<any>} */ (state);
}

/** Take over the values of the address, as after the back button or a changed link. */
export function readAddress() {
  const values = fragment();
  const { page, names } = tooLong.peek();
  for (const [name, { signal, initial }] of ofThisPage()) {
    if (page === location.pathname && names.includes(name) && !values.has(name)) continue; // the address never held it
    signal.value = parse(values.get(name), initial);
  }
}

/** Show this page's state in the address: on coming back to a page, its state is as it was left. */
export function showState() {
  clearTimeout(writing);
  write();
}

/** @returns {[string, {signal: import("@preact/signals").Signal<any>, initial: Value}][]} */
function ofThisPage() {
  const page = location.pathname;
  return [...known].filter(([, entry]) => entry.page === page).map(([key, entry]) => [key.slice(page.length + 1), entry]);
}

/** @returns {URLSearchParams} */
function fragment() {
  return new URLSearchParams(location.hash.slice(1));
}

/** Browsers limit how often the address may change, so changes that follow each other are collected for a moment. */
function schedule() {
  clearTimeout(writing);
  writing = setTimeout(write, Math.max(0, wrote + 150 - performance.now()));
}

function write() {
  wrote = performance.now();
  const values = fragment();
  const long = [];
  for (const [name, { signal, initial }] of ofThisPage()) {
    const text = format(signal.peek());
    const isLong = new URLSearchParams({ [name]: text }).toString().length > MAX_VALUE;
    if (isLong) long.push(name);
    if (isLong || text === format(initial)) values.delete(name);
    else values.set(name, text);
  }
  if (long.length || tooLong.peek().names.length) tooLong.value = { page: location.pathname, names: long };
  const hash = values.toString();
  if (hash !== location.hash.slice(1)) {
    history.replaceState(history.state, "", location.pathname + location.search + (hash ? `#${hash}` : ""));
  }
}

/** @param {Value} value @returns {string} */
function format(value) {
  return Array.isArray(value) ? JSON.stringify(value) : String(value);
}

/**
 * What the address says, or the initial value where it says nothing that can be read.
 * @param {string | null} text @param {Value} initial @returns {any}
 */
function parse(text, initial) {
  if (text === null) return initial;
  if (typeof initial === "string") return text;
  if (typeof initial === "boolean") return text === "true";
  if (typeof initial === "number") {
    const number = Number(text);
    return text.trim() !== "" && Number.isFinite(number) ? number : initial;
  }
  try {
    const list = JSON.parse(text);
    return Array.isArray(list) ? list : initial;
  } catch {
    return initial;
  }
}
