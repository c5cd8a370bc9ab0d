/** The tree of everything that was tried after this prompt. */

import { html } from "htm/preact";
import { useEffect, useRef } from "preact/hooks";
import { Button, TokenText, percent } from "../../common/ui.js";
import { error, line, loadTexts, prompt, promptPart, show, texts, textsKnown } from "./state.js";
import * as tree from "./tree.js";

const MOST_SHOWN = 400;

export function Branches() {
  const file = useRef(/** @type {HTMLInputElement | null} */ (null));
  tree.version.value; // subscribes
  textsKnown.value;
  const ids = prompt.value?.ids ?? [];
  /** @type {number[]} */
  const tops = [];
  for (let n = 1; n <= ids.length; n++) {
    const here = tree.find(ids.slice(0, n));
    if (here < 0) break;
    tops.push(...tree.node(here).children.filter((child) => tree.node(child).how !== "prompt"
      && !(n < ids.length && tree.node(child).id === ids[n])));
  }
  /** @type {number[]} */
  const met = [];
  const left = { n: MOST_SHOWN };
  const items = tops.map((top) => segment(top, met, left));
  useEffect(() => void loadTexts(met));
  return html`<section class="card" aria-label="tree of continuations">
    <h2>Everything tried here</h2>
    ${tops.length ? html`<ul class="branches">${items}</ul>` : html`<p class="hint">Take a token or go on: each way you try stays here.</p>`}
    ${left.n <= 0 && html`<p class="hint">Only the first ${MOST_SHOWN} stretches are shown; all are kept and exported.</p>`}
    ${tree.notKept.value && html`<p class="error" role="alert">${tree.notKept.value}</p>`}
    <p class="hint">In the text above, <kbd>←</kbd> goes to the parent, <kbd>→</kbd> to the child, <kbd>↑</kbd> <kbd>↓</kbd> to siblings.</p>
    <div class="controls">
      <${Button} onClick=${download}>Export the tree<//>
      <${Button} onClick=${() => file.current?.click()}>Import a tree<//>
      <input ref=${file} type="file" accept=".json,application/json" hidden aria-label="a tree to import" onChange=${upload} />
    </div>
  </section>`;
}

/**
 * A stretch without a fork, and what follows it.
 * @param {number} start @param {number[]} met ids that are shown @param {{n: number}} left how many more to show
 * @returns {any}
 */
function segment(start, met, left) {
  if (left.n-- <= 0) return null;
  const chain = [start];
  for (let node = tree.node(start); node.children.length === 1; node = tree.node(chain[chain.length - 1])) chain.push(node.children[0]);
  const end = chain[chain.length - 1];
  const first = tree.node(start);
  const path = tree.pathTo(start);
  const current = path.every((id, i) => line.value[i] === id);
  const open = () => {
    const ids = tree.pathTo(end);
    show(ids, promptPart(ids));
  };
  return html`<li key=${start}><button type="button" class="stretch" aria-current=${current ? "true" : undefined} onClick=${open}>
    <span class="how">${current ? "● " : ""}${first.how}${first.p === null ? "" : ` ${percent(Math.exp(first.p))}`}</span>
    ${chain.map((index) => {
      const { id } = tree.node(index);
      met.push(id);
      return html`<${TokenText} key=${index} ...${texts.get(id) ?? { text: "…" }} />`;
    })}</button>
    ${tree.node(end).children.length > 0 && html`<ul>${tree.node(end).children.map((child) => segment(child, met, left))}</ul>`}</li>`;
}

function download() {
  const address = URL.createObjectURL(new Blob([JSON.stringify(tree.exported())], { type: "application/json" }));
  const link = Object.assign(document.createElement("a"), { href: address, download: "sampling-tree.json" });
  link.click();
  URL.revokeObjectURL(address);
}

/** @param {any} event */
async function upload(event) {
  const [chosen] = event.currentTarget.files;
  event.currentTarget.value = "";
  if (!chosen) return;
  try {
    tree.add(JSON.parse(await chosen.text()));
    error.value = null;
  } catch {
    error.value = new Error(`${chosen.name} is not a tree of continuations that this page exported.`);
  }
}
