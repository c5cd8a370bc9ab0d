/** Conversations in and out: as files that `sft` reads, and those that this browser keeps. */

import { html } from "htm/preact";
import { useId, useRef, useState } from "preact/hooks";
import { download } from "../../common/answer.js";
import { post } from "../../common/api.js";
import { about } from "../../common/about.js";
import { Button } from "../../common/ui.js";
import { asMessage } from "./ask.js";
import { begin, changed, conversation, forget, kept, note, openConversation, setup, stored, system, trouble } from "./state.js";
import { branches, graft, path } from "./tree.js";

const MOST_IMPORTED = 500; // conversations that become branches

/** @typedef {import("./tree.js").Node} Node */

export function Files() {
  const file = useRef(/** @type {HTMLInputElement | null} */ (null));
  const id = useId();
  return html`<details class="menu"><summary class="button quiet">Export and import</summary>
    <div class="card">
      <p class="hint">One conversation per line, in JavaScript Object Notation (JSON lines), as the stage <code>sft</code> reads them.</p>
      <${Button} onClick=${() => save(shownBranches())}>Export what is shown<//>
      <${Button} onClick=${() => save(allBranches())}>Export all branches<//>
      <label for=${id}>Import a file</label>
      <input id=${id} ref=${file} type="file" accept=".jsonl,.json,.ndjson,application/json" onChange=${() => {
        const chosen = file.current?.files?.[0];
        if (chosen) void read(chosen);
        if (file.current) file.current.value = "";
      }} />
    </div></details>`;
}

/** What is shown of each column; the same only once. */
function shownBranches() {
  return conversation.value.threads.map((thread) => ({ nodes: path(thread), tools: thread.who.tools }));
}

function allBranches() {
  return conversation.value.threads.flatMap((thread) => branches(thread).map((nodes) => ({ nodes, tools: thread.who.tools })));
}

/** @param {{nodes: Node[], tools: boolean}[]} found */
async function save(found) {
  trouble.value = null;
  /** @type {Map<string, any>} */
  const rows = new Map();
  for (const { nodes, tools } of found) {
    const answered = nodes.slice(0, nodes.findLastIndex((node) => node.role === "assistant" && (node.text || node.calls?.length)) + 1);
    if (!answered.length) continue;
    const first = system.value.trim() && answered[0].role !== "system" ? [{ role: "system", content: system.value.trim() }] : [];
    const row = { messages: [...first, ...answered.map(asMessage)], ...(tools ? { tools: setup.value?.tools } : {}) };
    rows.set(JSON.stringify(row, (name, value) => (name === "id" ? undefined : value)), row);
  }
  if (!rows.size) {
    trouble.value = new Error("There is nothing to export yet: no question was answered.");
    return;
  }
  try {
    const { content } = await post("/app/chat/export", { conversations: [...rows.values()] });
    download(`${about.value?.name ?? "chat"}-conversations.jsonl`, content);
    note.value = `${rows.size} conversation${rows.size === 1 ? "" : "s"} exported.`;
  } catch (error) {
    trouble.value = /** @type {Error} */ (error);
  }
}

/** Read a file into a new conversation, each of the file's as a branch. @param {File} file */
async function read(file) {
  trouble.value = null;
  try {
    const found = await post("/app/chat/import", { name: file.name, content: await file.text() });
    begin();
    const thread = conversation.value.threads[0];
    for (const messages of found.conversations.slice(0, MOST_IMPORTED)) graft(thread, messages.map(asNode).filter(Boolean));
    conversation.value.threads = [thread];
    conversation.value.title = file.name.slice(0, 60);
    const n = found.conversations.length;
    const cut = n > MOST_IMPORTED ? `; the first ${MOST_IMPORTED} are shown` : "";
    note.value = [`${n.toLocaleString("en")} conversation${n === 1 ? "" : "s"} read from ${file.name}${cut}.`, ...found.remarks].join(" ");
    changed();
  } catch (error) {
    trouble.value = /** @type {Error} */ (error);
  }
}

/** @param {any} message @returns {Omit<Node, "id" | "parent"> | null} */
function asNode(message) {
  if (message.role === "system" && !message.content) return null; // only there to offer tools
  const calls = message.tool_calls?.map((/** @type {any} */ call, /** @type {number} */ i) => ({
    id: `call_${i}`, name: call.function.name, arguments: JSON.stringify(call.function.arguments),
  }));
  return { role: message.role, text: message.content, ...(calls ? { calls } : {}) };
}

/** The conversations that this browser keeps. */
export function Kept() {
  stored.value;
  const [open, setOpen] = useState(false);
  const all = open ? kept() : [];
  return html`<details class="menu" onToggle=${(/** @type {Event & {currentTarget: HTMLDetailsElement}} */ event) => setOpen(event.currentTarget.open)}>
    <summary class="button quiet">Earlier conversations</summary>
    <div class="card">
      <p class="hint">Kept by this browser alone, on this machine.</p>
      ${open && !all.length && html`<p>None yet.</p>`}
      <ul>${all.map(({ id, title, created }) => html`<li key=${id}>
        <button type="button" class="button quiet" aria-current=${id === conversation.value.id ? "true" : undefined} onClick=${() => openConversation(id)}>
          ${title || "(no title)"} <small>${new Date(created).toLocaleString()}</small></button>
        <${Button} kind="quiet" label=${`delete ${title}`} title="delete" onClick=${() => forget(id)}>✕<//></li>`)}</ul>
    </div></details>`;
}
