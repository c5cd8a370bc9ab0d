/** The tree of continuations: every token that was ever taken after a prompt. Nodes are only added, never removed. */

import { signal } from "@preact/signals";

/**
 * @typedef {{parent: number, id: number, how: string, p: number | null, children: number[]}} Node
 *   how: "prompt", "taken", "drawn" or "greedy"; p: the model's log-probability when it was added
 */

const MOST_NODES = 50_000;

/** @type {Node[]} the first one is before all tokens */
let nodes = [empty()];
let place = "";
let saving = 0;

/** Rises when the tree grows. */
export const version = signal(0);
/** What could not be kept, in words. */
export const notKept = signal("");

/** @returns {Node} */
function empty() {
  return { parent: -1, id: -1, how: "prompt", p: null, children: [] };
}

/** @param {number} index @returns {Node} */
export function node(index) {
  return nodes[index];
}

/** Read the tree of this vocabulary from the browser's storage. @param {string} name */
export function open(name) {
  if (name === place) return;
  place = name;
  nodes = [empty()];
  try {
    const kept = localStorage.getItem(name);
    if (kept) add(JSON.parse(kept));
  } catch {
    notKept.value = "The tree that this browser kept can't be read.";
  }
  version.value++;
}

/**
 * The node at the end of these tokens, or −1.
 * @param {number[]} ids
 * @returns {number}
 */
export function find(ids) {
  let at = 0;
  for (const id of ids) {
    const next = nodes[at].children.find((child) => nodes[child].id === id);
    if (next === undefined) return -1;
    at = next;
  }
  return at;
}

/**
 * Add a path; what is there already stays. Returns the node at its end.
 * @param {number[]} ids
 * @param {number} nPrompt how many of them are the prompt's
 * @param {string} how the last one came
 * @param {number | null} p its log-probability
 * @returns {number}
 */
export function insert(ids, nPrompt, how, p) {
  let at = 0;
  const before = nodes.length;
  ids.forEach((id, i) => {
    let next = nodes[at].children.find((child) => nodes[child].id === id) ?? -1;
    const last = i === ids.length - 1;
    if (next < 0) {
      next = nodes.length;
      nodes.push({ parent: at, id, how: i < nPrompt ? "prompt" : last ? how : "taken", p: last ? p : null, children: [] });
      nodes[at].children.push(next);
    } else if (i >= nPrompt && nodes[next].how === "prompt") {
      Object.assign(nodes[next], { how: last ? how : "taken", p: last ? p : null }); // first of a prompt, now an answer
    }
    at = next;
  });
  if (nodes.length > before) changed();
  return at;
}

/** The tokens on the way to a node. @param {number} index @returns {number[]} */
export function pathTo(index) {
  const ids = [];
  for (let at = index; at > 0; at = nodes[at].parent) ids.push(nodes[at].id);
  return ids.reverse();
}

/** From a node along the first children to the end. @param {number} index @returns {number} */
export function leafOf(index) {
  let at = index;
  while (nodes[at].children.length) at = nodes[at].children[0];
  return at;
}

/** All of it, as it is stored and exported. @returns {{format: string, nodes: (number | string | null)[][]}} */
export function exported() {
  return { format: "crawl2chat sampling tree 1", nodes: nodes.slice(1).map((n) => [n.parent, n.id, n.how, n.p]) };
}

/** Add an exported tree to this one. Throws an Error for what is not one. @param {any} data */
export function add(data) {
  const rows = data?.nodes;
  const sound = Array.isArray(rows) && rows.length <= MOST_NODES && rows.every((row, i) =>
    Array.isArray(row) && Number.isInteger(row[0]) && row[0] >= 0 && row[0] <= i && Number.isInteger(row[1]) && row[1] >= 0);
  if (!sound) throw new Error("This file is not a tree of continuations that this page exported.");
  /** @type {number[]} */
  const now = [0];
  for (const [parent, id, how, p] of rows) {
    const at = now[parent];
    let next = nodes[at].children.find((child) => nodes[child].id === id) ?? -1;
    if (next < 0) {
      next = nodes.length;
      nodes.push({ parent: at, id, how: String(how), p: typeof p === "number" ? p : null, children: [] });
      nodes[at].children.push(next);
    }
    now.push(next);
  }
  changed();
}

function changed() {
  version.value++;
  clearTimeout(saving);
  saving = setTimeout(save, 200);
}

/** Write it to the browser's storage now. */
export function save() {
  clearTimeout(saving);
  if (!place) return;
  try {
    localStorage.setItem(place, JSON.stringify(exported()));
    notKept.value = nodes.length > MOST_NODES ? "The tree is very large; export it before you close this page." : "";
  } catch {
    notKept.value = "The tree has outgrown this browser's storage; export it before you close this page.";
  }
}
