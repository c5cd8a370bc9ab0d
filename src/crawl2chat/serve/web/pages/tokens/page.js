/** Tokens: how several encodings cut a text, how they come to that, the chat template, and the vocabularies. */

import { html } from "htm/preact";
import { useEffect } from "preact/hooks";
import { ErrorNote, Tabs, Toggle } from "../../common/ui.js";
import { Conversation } from "./conversation.js";
import { Panel } from "./panel.js";
import { Replay } from "./replay.js";
import { asBytes, blanks, chosen, cuts, encodings, failure, follow, MOST, text, titleOf, view } from "./state.js";
import { Vocabulary } from "./vocabulary.js";

const TABS = [
  { id: "text", title: "Side by side" },
  { id: "merges", title: "How it got there" },
  { id: "chat", title: "A conversation" },
  { id: "vocabulary", title: "Vocabulary" },
];

export default function Page() {
  useEffect(follow, []);
  const id = TABS.some((tab) => tab.id === view.value) ? view.value : "text";
  return html`
    <h1>Tokens</h1>
    <p class="lead">A language model reads and writes tokens: pieces of text from a fixed list, each with a number, its id.
      Type something and see how it is cut, by this run’s own encoding and by those of well-known models.</p>
    <${Tabs} label="views of tokens" value=${view} tabs=${TABS} />
    ${(id === "text" || id === "merges") && html`<${Input} />`}
    <${ErrorNote} error=${failure.value} />
    ${id === "text" && html`<${SideBySide} />`}
    ${id === "merges" && html`<${Replay} />`}
    ${id === "chat" && html`<${Conversation} />`}
    ${id === "vocabulary" && html`<${Vocabulary} />`}`;
}

function Input() {
  const take = (/** @type {Event & {currentTarget: HTMLTextAreaElement}} */ event) => {
    text.value = event.currentTarget.value;
  };
  return html`<div class="field"><label for="text">Text</label>
    <textarea id="text" rows="4" spellcheck=${false} maxlength="200000" value=${text.value} onInput=${take}></textarea></div>`;
}

function SideBySide() {
  return html`
    <div class="controls">
      <fieldset class="pick"><legend>Encodings, up to ${MOST}</legend>
        ${encodings.value.map((encoding) => html`<${Choice} key=${encoding.name} name=${encoding.name} />`)}
      </fieldset>
      <${Toggle} label="show white space" value=${blanks} />
      <${Toggle} label="bytes below ids" value=${asBytes} />
    </div>
    <div class="encodings">
      ${cuts.value.map((cut) => html`<${Panel} key=${cut.name} cut=${cut} />`)}
    </div>
    <p class="hint">A number above the line: that many tokens share these characters. One character of a script that the
      encoding has seldom seen may be several tokens, each of a few of its bytes, shown in hexadecimal like ⟨e6⟩.</p>`;
}

/** @param {{name: string}} props */
function Choice({ name }) {
  const on = chosen.value.includes(name);
  const flip = () => {
    const order = encodings.value.map((encoding) => encoding.name);
    const names = on ? chosen.value.filter((other) => other !== name) : [...chosen.value, name];
    chosen.value = order.filter((other) => names.includes(other));
  };
  return html`<label class="toggle"><input type="checkbox" checked=${on} onChange=${flip}
    disabled=${!on && chosen.value.length >= MOST} />${titleOf(name)}</label>`;
}
