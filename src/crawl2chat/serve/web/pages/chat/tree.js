/** A conversation as a tree: each message knows the one before it, and none is ever changed into another or removed. */

/**
 * What a token was drawn with: its text as the server names it, its bytes in hexadecimal where it is no whole
 * characters, its probability by the model, and after the controls; and the most probable tokens at its place.
 * @typedef {{s: string | null, b?: string, c?: boolean, p: number, q: number, top: [string, number][]}} Token
 * @typedef {{id: string, name: string, arguments: string}} Call
 * @typedef {"stop" | "length" | "context" | "stopped" | "error" | "rounds" | "tools"} Ending
 *
 * How an answer was made.
 * @typedef {{model: string, text?: boolean, temperature: number, seed: number, how?: string, ended?: Ending, error?: string,
 *   read?: number, written?: number, first?: number, seconds?: number, leftOut?: number}} Made
 *
 * @typedef {{id: string, parent: string, role: "system" | "user" | "assistant" | "tool", text: string, calls?: Call[],
 *   weight?: number, made?: Made, tokens?: Token[], promptIds?: number[], ids?: number[],
 *   page?: number | null, address?: string | null}} Node
 *
 * Who answers in a column: a stage or a model's name, with tools or without; or going on with the bare text.
 * @typedef {{model: string, tools: boolean, text: boolean}} Who
 * @typedef {{id: string, who: Who, nodes: Record<string, Node>, chosen: Record<string, string>}} Thread
 */

export const ROOT = "";

/** @returns {string} */
export function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(6));
  return Array.from(bytes, (byte) => byte.toString(36).padStart(2, "0")).join("");
}

/** @param {Who} who @returns {Thread} */
export function newThread(who) {
  return { id: newId(), who, nodes: {}, chosen: {} };
}

/**
 * Add a message behind another one, and show it.
 * @param {Thread} thread @param {string} parent @param {Omit<Node, "id" | "parent">} fields @returns {Node}
 */
export function add(thread, parent, fields) {
  const node = { ...fields, id: newId(), parent };
  thread.nodes[node.id] = node;
  thread.chosen[parent] = node.id;
  return node;
}

/** The messages that follow one, oldest first. @param {Thread} thread @param {string} parent @returns {Node[]} */
export function children(thread, parent) {
  return Object.values(thread.nodes).filter((node) => node.parent === parent);
}

/** What is shown: from the root on, at each message the chosen one of those that follow. @param {Thread} thread */
export function path(thread) {
  const byParent = grouped(thread);
  /** @type {Node[]} */
  const shown = [];
  let at = ROOT;
  for (;;) {
    const next = byParent.get(at);
    if (!next) return shown;
    const node = next.find((child) => child.id === thread.chosen[at]) ?? next[next.length - 1];
    shown.push(node);
    at = node.id;
  }
}

/** The messages before and up to one. @param {Thread} thread @param {string} id @returns {Node[]} */
export function upTo(thread, id) {
  /** @type {Node[]} */
  const nodes = [];
  for (let at = id; at !== ROOT; at = thread.nodes[at].parent) nodes.unshift(thread.nodes[at]);
  return nodes;
}

/** The end of each branch with what led there. @param {Thread} thread @returns {Node[][]} */
export function branches(thread) {
  const byParent = grouped(thread);
  return Object.values(thread.nodes).filter((node) => !byParent.has(node.id)).map((node) => upTo(thread, node.id));
}

/** Show the next version of a message, or the one before. @param {Thread} thread @param {Node} node @param {number} by */
export function choose(thread, node, by) {
  const versions = children(thread, node.parent);
  const at = versions.findIndex((version) => version.id === node.id) + by;
  if (at >= 0 && at < versions.length) thread.chosen[node.parent] = versions[at].id;
}

/** The last message of the user's that is shown. @param {Thread} thread @returns {Node | undefined} */
export function lastQuestion(thread) {
  return path(thread).findLast((node) => node.role === "user");
}

/**
 * Add messages as a branch; what a branch has in common with those that are there is not added again.
 * @param {Thread} thread @param {Omit<Node, "id" | "parent">[]} messages
 */
export function graft(thread, messages) {
  let parent = ROOT;
  for (const message of messages) {
    const same = children(thread, parent).find((node) => node.role === message.role && node.text === message.text
      && JSON.stringify(node.calls ?? []) === JSON.stringify(message.calls ?? []));
    const node = same ?? add(thread, parent, message);
    thread.chosen[parent] = node.id;
    parent = node.id;
  }
}

/** A thread for somebody else with what is shown of this one up to its last question. @param {Thread} thread @param {Who} who */
export function questionsFor(thread, who) {
  const copy = newThread(who);
  const shown = path(thread);
  const last = shown.findLastIndex((node) => node.role === "user");
  let parent = ROOT;
  for (const { id, parent: _, ...fields } of shown.slice(0, last + 1)) parent = add(copy, parent, fields).id;
  return copy;
}

/** Both threads' messages: a page in another tab may have added some. @param {Thread} ours @param {Thread | undefined} theirs */
export function merge(ours, theirs) {
  return theirs ? { ...ours, nodes: { ...theirs.nodes, ...ours.nodes } } : ours;
}

/** @param {Thread} thread @returns {Map<string, Node[]>} */
function grouped(thread) {
  /** @type {Map<string, Node[]>} */
  const byParent = new Map();
  for (const node of Object.values(thread.nodes)) {
    const siblings = byParent.get(node.parent);
    if (siblings) siblings.push(node);
    else byParent.set(node.parent, [node]);
  }
  return byParent;
}

/** A column in the address: `honesty+tools`, `pretrain+text`, or the empty name of the default model. @param {Who} who */
export function whoText(who) {
  return who.model + (who.tools ? "+tools" : "") + (who.text ? "+text" : "");
}

/** @param {string} text @returns {Who} */
export function readWho(text) {
  const found = /^(.*?)(\+tools)?(\+text)?$/s.exec(text);
  return { model: found?.[1] ?? "", tools: Boolean(found?.[2]), text: Boolean(found?.[3]) };
}
