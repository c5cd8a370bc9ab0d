/** A column: who answers in it, and its conversation. */

import { html } from "htm/preact";
import { signal } from "@preact/signals";
import { about, modelNamed } from "../../common/about.js";
import { Button, ModelPicker, Toggle } from "../../common/ui.js";
import { isWriting, removeColumn } from "./act.js";
import { Message } from "./message.js";
import { changed, changes, conversation, setup } from "./state.js";
import { path, whoText } from "./tree.js";

/** @param {{thread: import("./tree.js").Thread}} props */
export function Column({ thread }) {
  changes.value; // the thread itself stays the same object
  const { who } = thread;
  const model = modelNamed(who.model);
  const shown = path(thread);
  const alone = conversation.value.threads.length === 1;
  const take = (/** @type {Partial<import("./tree.js").Who>} */ change) => {
    thread.who = { ...who, ...change };
    const now = modelNamed(thread.who.model);
    if (!now?.calls_tools) thread.who.tools = false;
    if (!now?.base) thread.who.text = false;
    changed();
  };
  const picked = model?.name === about.value?.default ? "" : (model?.stage ?? model?.name ?? "");
  const names = setup.value?.tools.map((tool) => tool.function.name).join(" and ");
  return html`<section class="column" aria-label=${`conversation with ${whoText(who) || model?.name}`}>
    <header>
      <${ModelPicker} value=${asSignal(picked)} label=${alone ? "Model" : "Stage"} onChange=${(/** @type {string} */ name) => take({ model: name })} />
      ${model?.base
        ? html`<${Toggle} label="as bare text" value=${asSignal(who.text)} onChange=${() => take({ text: !who.text })} />`
        : html`<${Toggle} label=${model?.calls_tools ? "tools" : "tools (it was not taught any)"} disabled=${!model?.calls_tools}
            value=${asSignal(who.tools)} onChange=${() => take({ tools: !who.tools })} />`}
      ${!alone && html`<${Button} kind="quiet" label=${`remove the column ${whoText(who)}`} title="remove this column"
        disabled=${isWriting(thread)} onClick=${() => removeColumn(thread)}>✕<//>`}
      <${Gauge} thread=${thread} context=${model?.context ?? 0} />
    </header>
    ${shown.length === 0 && html`<p class="hint">${explain(model?.base ?? false, who, names)}</p>`}
    ${shown.map((node) => html`<${Message} key=${node.id} thread=${thread} node=${node} />`)}
  </section>`;
}

/** @param {boolean} base @param {import("./tree.js").Who} who @param {string | undefined} tools */
function explain(base, who, tools) {
  if (who.text) return "This base model goes on with the text itself, as it would with the beginning of any page.";
  if (base) return "A base model has never seen a conversation. It is shown a page on which a helper answers, and goes on with it to the end of the line.";
  return who.tools ? `It may call ${tools}. Calls are carried out by the server, and what comes back goes into the context.` : "Ask a question below, or take one from above.";
}

/** How full the context was after the last answer. @param {{thread: import("./tree.js").Thread, context: number}} props */
function Gauge({ thread, context }) {
  const made = path(thread).findLast((node) => node.made?.read)?.made;
  if (!made || !context) return null;
  const used = (made.read ?? 0) + (made.written ?? 0);
  return html`<span class="gauge" title="how much of what the model can read at a time (its context) the conversation takes">
    <meter min="0" max=${context} high=${context * 0.8} value=${used} aria-label="context used"></meter>
    <span>${used} of ${context.toLocaleString("en")} tokens of context</span></span>`;
}

/** The shell's controls take signals; a column's settings are plain values. @param {any} value */
function asSignal(value) {
  return signal(value);
}
