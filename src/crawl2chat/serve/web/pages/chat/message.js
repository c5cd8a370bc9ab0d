/** One message of a conversation, as it is shown. */

import { html } from "htm/preact";
import { effect, signal } from "@preact/signals";
import { useEffect, useRef, useState } from "preact/hooks";
import { modelNamed } from "../../common/about.js";
import { Button } from "../../common/ui.js";
import { edit, goOn, isCut, isWriting, regenerate } from "./act.js";
import { live } from "./ask.js";
import { AsRead } from "./as_read.js";
import { Sources } from "./sources.js";
import { changed, changes, setup, showsTokens } from "./state.js";
import { Tokens } from "./tokens.js";
import { children, choose } from "./tree.js";

/** @typedef {import("./tree.js").Node} Node */
/** @typedef {import("./tree.js").Thread} Thread */

const NEAR = 160; // pixels from the end of the page, within which it is scrolled with what is written

/** The user's message that is being edited. */
export const edited = signal("");

/** @param {{thread: Thread, node: Node}} props */
export function Message({ thread, node }) {
  if (node.role === "user") return html`<${Question} thread=${thread} node=${node} />`;
  if (node.role === "assistant") return html`<${Answer} thread=${thread} node=${node} />`;
  if (node.role === "tool") return html`<${ToolResult} node=${node} />`;
  return html`<article class="message system"><h3>System message</h3><p class="said">${node.text}</p></article>`;
}

/** ‹1/3›: which of a message's versions is shown. @param {{thread: Thread, node: Node, what: string}} props */
function Versions({ thread, node, what }) {
  const versions = children(thread, node.parent);
  if (versions.length < 2) return null;
  const at = versions.indexOf(node);
  const turn = (/** @type {number} */ by) => {
    choose(thread, node, by);
    changed();
  };
  return html`<span class="versions" role="group" aria-label=${`versions of this ${what}`}>
    <${Button} kind="quiet" label=${`previous version of this ${what}`} disabled=${at === 0} onClick=${() => turn(-1)}>‹<//>
    <span>${at + 1}/${versions.length}</span>
    <${Button} kind="quiet" label=${`next version of this ${what}`} disabled=${at === versions.length - 1} onClick=${() => turn(1)}>›<//>
  </span>`;
}

/** @param {{thread: Thread, node: Node}} props */
function Question({ thread, node }) {
  changes.value; // the node itself stays the same object
  const box = useRef(/** @type {HTMLTextAreaElement | null} */ (null));
  const editing = edited.value === node.id;
  useEffect(() => {
    if (editing) box.current?.focus();
  }, [editing]);
  const send = () => {
    edit(thread, node, box.current?.value ?? "");
    edited.value = "";
  };
  /** @param {KeyboardEvent} event */
  const keys = (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      event.stopPropagation(); // with Ctrl it would also regenerate
      send();
    } else if (event.key === "Escape") {
      event.stopPropagation();
      edited.value = "";
    }
  };
  return html`<article class="message question">
    <h3>You</h3>
    ${editing
      ? html`<textarea aria-label="edit the question" ref=${box} rows="3" onKeyDown=${keys}>${node.text}</textarea>
        <div class="acts"><${Button} kind="main" onClick=${send}>Ask this instead<//>
          <${Button} kind="quiet" onClick=${() => (edited.value = "")}>Cancel<//></div>`
      : html`<p class="said">${node.text}</p>
        <div class="acts">
          <${Button} kind="quiet" disabled=${isWriting(thread)} onClick=${() => (edited.value = node.id)}>Edit<//>
          <${Versions} thread=${thread} node=${node} what="question" />
        </div>`}
  </article>`;
}

/** @param {{thread: Thread, node: Node}} props */
function Answer({ thread, node }) {
  changes.value;
  const [view, setView] = useState(/** @type {"" | "sources" | "read"} */ (""));
  const writing = live.value.get(node.id);
  const model = modelNamed(node.made?.model ?? "");
  const flip = (/** @type {"sources" | "read"} */ other) => setView(view === other ? "" : other);
  const isCall = Boolean(node.calls?.length) && children(thread, node.id).length > 0; // what comes of it follows
  const isTokens = showsTokens.value && !writing && Boolean(node.tokens?.length);
  return html`<article class="message answer" aria-busy=${Boolean(writing)}>
    <h3>${speaker(node, model)}</h3>
    ${writing ? html`<${Growing} node=${node} text=${writing.text} />`
      : isTokens ? html`<${Tokens} tokens=${node.tokens} />`
      : node.text ? html`<p class="said">${node.text}</p>` : null}
    ${node.calls?.map((call) => html`<${ToolCall} key=${call.id} call=${call} />`)}
    ${!writing && !node.text && !node.calls?.length && !isTokens && html`<p class="hint">(no text)</p>`}
    ${node.made?.error && html`<p class="error" role="alert">${node.made.error}</p>`}
    <p class="made">${writing ? writing.words : describe(node)}</p>
    ${!writing && html`<div class="acts">
      ${!isCall && html`<${Button} kind="quiet" onClick=${() => regenerate(thread, node)} disabled=${isWriting(thread)}>Regenerate<//>`}
      ${isCut(thread, node) && html`<${Button} kind="quiet" onClick=${() => goOn(thread, node)} disabled=${isWriting(thread)}>Continue<//>`}
      ${node.text && setup.value && html`<${Button} kind="quiet" pressed=${view === "sources"} onClick=${() => flip("sources")}>Where is this from?<//>`}
      ${node.promptIds && html`<${Button} kind="quiet" pressed=${view === "read"} onClick=${() => flip("read")}>As the model reads it<//>`}
      <${Versions} thread=${thread} node=${node} what="answer" />
    </div>`}
    ${view === "sources" && !writing && html`<${Sources} key=${node.id} node=${node} />`}
    ${view === "read" && !writing && html`<${AsRead} key=${node.id} node=${node} />`}
  </article>`;
}

/** @param {Node} node @param {import("../../common/about.js").ModelAbout | undefined} model */
function speaker(node, model) {
  const name = !node.made ? "Answer" : model?.stage === "pretrain" ? "base" : (model?.stage ?? model?.name ?? node.made.model);
  return node.made?.text ? `${name}, going on with the text` : name;
}

/**
 * Text as it arrives: what is new is appended to one text node, and nothing else on the page is drawn again.
 * @param {{node: Node, text: import("@preact/signals").Signal<string>}} props
 */
function Growing({ node, text }) {
  const place = useRef(/** @type {HTMLElement | null} */ (null));
  useEffect(() => {
    const grown = document.createTextNode("");
    place.current?.replaceChildren(grown);
    return effect(() => {
      const follows = innerHeight + scrollY > document.documentElement.scrollHeight - NEAR;
      grown.appendData(text.value.slice(grown.length));
      if (follows) scrollTo({ top: document.documentElement.scrollHeight });
    });
  }, [node.id]);
  return html`<p class="said growing" ref=${place}></p>`;
}

/** @param {Node} node */
function describe(node) {
  const made = node.made;
  if (!made) return "";
  const rate = made.seconds && (made.written ?? 0) > 1 ? Math.round(((made.written ?? 0) - 1) / made.seconds) : 0;
  /** @type {Record<string, string>} */
  const endings = {
    length: "cut off at the maximum length",
    context: "cut off where the context is full",
    stopped: "stopped",
    rounds: "ended after too many calls of tools",
    error: "failed",
  };
  return [
    made.leftOut ? `the oldest ${made.leftOut} messages no longer fit and were left out` : "",
    endings[made.ended ?? ""] ?? "",
    made.written ? `${made.written} token${made.written === 1 ? "" : "s"}` : "",
    rate ? `${rate.toLocaleString("en")} tokens/s` : "",
    made.temperature ? `temperature ${made.temperature}, seed ${made.seed}` : "",
  ].filter(Boolean).join(" · ");
}

/** @param {{call: import("./tree.js").Call}} props */
function ToolCall({ call }) {
  return html`<div class="tool call"><h4>calls the tool <code>${call.name}</code></h4>
    <pre>${call.arguments === "{}" ? "(with the question itself)" : call.arguments}</pre></div>`;
}

/** @param {{node: Node}} props */
function ToolResult({ node }) {
  return html`<article class="tool result"><h4>the tool’s answer, which the model reads</h4>
    <pre>${node.text}</pre>
    ${node.page && html`<p class="hint">Page ${node.page} is <code>${node.address ?? "unknown"}</code></p>`}</article>`;
}
