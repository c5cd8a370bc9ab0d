/** Which token comes next: the model's distribution, what the controls make of it, and every way on from there. */

import { html } from "htm/preact";
import { effect } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { Busy, ErrorNote, TokenText } from "../../common/ui.js";
import { Bars, Doubt, Pipeline } from "./bars.js";
import { Branches } from "./branches.js";
import { Columns } from "./columns.js";
import { GoOn, Prompt, Sliders } from "./controls.js";
import { Line } from "./line.js";
import { at, chat, controlValues, error, line, loadPrompt, loadScores, loadStep, model, prompt, rows, text, texts, textsKnown, writing } from "./state.js";
import { save } from "./tree.js";

export const title = "Sampling";

export default function Page() {
  useEffect(() => {
    let typing = 0;
    const stop = [
      effect(() => {
        text.value, chat.value, model.value; // subscribes
        clearTimeout(typing);
        typing = setTimeout(loadPrompt, prompt.peek() ? 150 : 0);
      }),
      effect(() => {
        if (!prompt.value) return;
        line.value, at.value, controlValues(), rows.value;
        loadStep();
      }),
      effect(() => {
        if (!prompt.value || writing.value) return;
        line.value;
        loadScores();
      }),
    ];
    addEventListener("pagehide", save);
    return () => {
      stop.forEach((end) => end());
      clearTimeout(typing);
      removeEventListener("pagehide", save);
      writing.peek()?.abort();
      save();
    };
  }, []);
  textsKnown.value; // subscribes
  const before = line.value[at.value - 1];
  return html`
    <h1>Sampling</h1>
    <p class="lead">A language model gives every token (piece of text) in its vocabulary a probability of coming next, and one is drawn. Move the controls
      and watch the probabilities change; click any token to take it instead and go on from there.</p>
    <${ErrorNote} error=${error.value} />
    <div class="bench">
      <div class="left-side"><${Prompt} /><${Sliders} /></div>
      <div class="right-side">
        <section class="card" aria-label="the text so far">
          ${prompt.value ? html`<${Line} />` : html`<${Busy}>reading the prompt …<//>`}
          <${GoOn} />
        </section>
        <section class="card" aria-label="the next token">
          <h2>${at.value < line.value.length ? "At this place" : "The next token"}${before !== undefined && html`, after <${TokenText} ...${texts.get(before) ?? { text: "…" }} />`}</h2>
          <${Pipeline} /><${Doubt} /><${Bars} />
        </section>
      </div>
    </div>
    <${Branches} />
    <${Columns} />`;
}
