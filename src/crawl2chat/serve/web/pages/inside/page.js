/** Inside: a real forward pass of the model over a text, from the whole network down to a single number. */

import { html } from "htm/preact";
import { useEffect, useRef } from "preact/hooks";
import { Busy, Button, ErrorNote, Field, ModelPicker, Select, Tabs } from "../../common/ui.js";
import { Block } from "./block.js";
import { WhatIf } from "./changes.js";
import { Head } from "./head.js";
import { Lens } from "./lens.js";
import { Network } from "./network.js";
import { Neurons } from "./neurons.js";
import { Output } from "./output.js";
import { at, atShown, busy, changeTexts, failure, form, keepReading, model, pass, text, tokens, tour, view } from "./state.js";
import { Stream } from "./stream.js";
import { goTo, Tour } from "./tour.js";
import { Name } from "./words.js";

export const title = "Inside";

const VIEWS = [
  { id: "network", title: "Network", View: Network },
  { id: "block", title: "Block", View: Block },
  { id: "head", title: "Head", View: Head },
  { id: "neurons", title: "Neurons", View: Neurons },
  { id: "stream", title: "Stream", View: Stream },
  { id: "lens", title: "Logit lens", View: Lens },
  { id: "whatif", title: "What if", View: WhatIf },
];
const FORMS = [
  { value: "document", label: "as a document’s beginning" },
  { value: "chat", label: "as a question to an assistant" },
  { value: "bare", label: "as it is" },
];

export default function Page() {
  useEffect(keepReading, []);
  const of = pass.value;
  const shown = VIEWS.find(({ id }) => id === view.value) ?? VIEWS[0];
  const cut = of && of.header.n_all > of.header.tokens.length;
  return html`
    <div class="inside-head"><div><h1>Inside the network</h1>
      <p class="lead">Every number that the model computes on its way from your text to the next token. All of it is
        measured on the loaded model while you type.</p></div>
      ${tour.value === 0 && html`<${Button} kind="main" onClick=${() => goTo(1)}>Take the tour<//>`}</div>
    <${Tour} />
    <div class="inside-input">
      <${Field} label="Text">${(/** @type {string} */ id) => html`<textarea id=${id} rows="2" maxlength="20000" spellcheck=${false} value=${text.value}
        onInput=${(/** @type {any} */ event) => (text.value = event.currentTarget.value)}></textarea>`}<//>
      <div class="inside-choices">
        <${ModelPicker} value=${model} />
        <${Select} label="Read it" value=${form} options=${FORMS} />
      </div>
    </div>
    <${ErrorNote} error=${failure.value} />
    ${failure.value && changeTexts.value.length > 0 && html`<${Button} onClick=${() => (changeTexts.value = [])}>Undo all changes<//>`}
    ${!of && !failure.value && html`<${Busy}>reading the text …<//>`}
    ${of && html`
      ${cut && html`<p class="cut" role="status">The text has ${of.header.n_all} tokens; the first ${of.header.tokens.length} are
        looked at, as more would take this model too long or exceed its context.</p>`}
      <${Strip} />
      <div class=${`inside ${busy.value ? "stale" : ""}`}>
        <div class="inside-view">
          <${Tabs} label="What to look at" value=${view} tabs=${VIEWS} />
          <div class="view" role="tabpanel" aria-label=${shown.title}><${shown.View} /></div>
        </div>
        <${Output} />
      </div>`}`;
}

/** The text's tokens, one of which is looked at. */
function Strip() {
  const choose = (/** @type {number} */ position) => (atShown.value = position === tokens.value.length - 1 ? -1 : position);
  /** @param {KeyboardEvent & {currentTarget: HTMLElement}} event */
  const move = (event) => {
    const last = tokens.value.length - 1;
    const next = { ArrowLeft: at.value - 1, ArrowRight: at.value + 1, Home: 0, End: last }[event.key];
    if (next === undefined) return;
    choose(Math.max(0, Math.min(last, next)));
    event.preventDefault();
    /** @type {HTMLElement} */ (event.currentTarget.children[at.value]).focus();
  };
  const strip = useRef(/** @type {HTMLElement | null} */ (null));
  useEffect(() => {
    const chosen = strip.current?.children[at.value];
    if (chosen instanceof HTMLElement && strip.current) strip.current.scrollTop = chosen.offsetTop - strip.current.offsetTop - 40;
  }, [at.value, tokens.value]);
  return html`<div class="tokens-row">
    <span id="position-label" class="hint">${tokens.value.length} token${tokens.value.length === 1 ? "" : "s"}; the position looked at:</span>
    <div class="token-strip" ref=${strip} role="radiogroup" aria-labelledby="position-label" onKeyDown=${move}>
      ${tokens.value.map((token, position) => html`<button type="button" role="radio" key=${position}
        aria-checked=${position === at.value} tabindex=${position === at.value ? 0 : -1}
        title=${`position ${position + 1}, id ${token.id}`} onClick=${() => choose(position)}><${Name} token=${token} /></button>`)}
    </div></div>`;
}
