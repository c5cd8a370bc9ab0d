/** Letters: how words are cut, which tasks that makes hard, and one of them asked now. */

import { html } from "htm/preact";
import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { post } from "../../common/api.js";
import { urlState } from "../../common/state.js";
import { Busy, ErrorNote, Field, ModelPicker, TokenText, percent } from "../../common/ui.js";
import { Bars } from "./chart.js";
import { Measured } from "./figures.js";
import { Mark } from "./now.js";
import { asked, model } from "./state.js";

/** @typedef {{id: number, text: string | null, bytes: string, control: boolean}} Token */
/** @typedef {{way: string, tokens: Token[], prompt: string, digits: Record<string, number> | null, said: string, right: boolean}} Way */

/** @type {import("@preact/signals").Signal<string>} */
const word = urlState("word", "strawberry");
/** @type {import("@preact/signals").Signal<string>} */
const letter = urlState("letter", "r");

export function Letters() {
  return html`<${Measured} view="letters"><${Count} /><//>`;
}

function Count() {
  const found = useSignal(/** @type {{word: string, letter: string, expected: number, ways: Way[]} | null} */ (null));
  const busy = useSignal(false);
  const failure = useSignal(/** @type {Error | null} */ (null));
  const asking = useRef(new AbortController());
  useEffect(() => () => asking.current.abort(), []);
  const ask = async () => {
    asking.current.abort();
    const { signal } = (asking.current = new AbortController());
    const body = { word: word.value.trim(), letter: letter.value.trim() };
    busy.value = true;
    failure.value = null;
    try {
      found.value = { ...body, ...(await post("/app/base/count", { ...asked(), ...body }, { signal })) };
    } catch (problem) {
      if (signal.aborted) return;
      found.value = null;
      failure.value = /** @type {Error} */ (problem);
    }
    busy.value = false;
  };
  const take = (/** @type {import("@preact/signals").Signal<string>} */ state) => (/** @type {any} */ event) => {
    state.value = event.currentTarget.value;
    found.value = null;
  };
  const send = (/** @type {Event} */ event) => {
    event.preventDefault();
    ask();
  };
  return html`<section aria-label="count letters now">
    <h2>How many are in it? Now</h2>
    <p>A model sees no letters: a word is one token or a few, and each token is a number to it. Spelled out, with spaces, the letters are tokens of their own.</p>
    <form class="controls" onSubmit=${send}>
      <${Field} label="Letter">${(/** @type {string} */ id) => html`<input id=${id} class="letter" required maxlength="1" value=${letter.value} onInput=${take(letter)} />`}<//>
      <${Field} label="Word">${(/** @type {string} */ id) => html`<input id=${id} required maxlength="60" spellcheck=${false} value=${word.value} onInput=${take(word)} />`}<//>
      <${ModelPicker} value=${model} onChange=${() => (found.value = null)} />
      <button class="button main">How many?</button>
    </form>
    <${ErrorNote} error=${failure.value} />
    ${busy.value && html`<${Busy}>asking …<//>`}
    ${found.value && html`<p role="status">${found.value.word} has ${found.value.expected} × ${found.value.letter}.</p>
      <div class="ways">${found.value.ways.map((way) => html`<${Shown} key=${way.way} way=${way} />`)}</div>`}
  </section>`;
}

/** @param {{way: Way}} props */
function Shown({ way }) {
  const digits = Object.entries(way.digits ?? {});
  const most = Math.max(1e-9, ...digits.map(([, p]) => p));
  return html`<section class="card" aria-label=${`the word given ${way.way}`}>
    <h3>Given ${way.way}</h3>
    <p class="cut">${way.tokens.map((token, i) => html`<span key=${i} class=${`piece piece-${i % 5}`} title=${`token ${token.id}`}><${TokenText} ...${token} /></span>`)}${" "}
      <span class="hint">${way.tokens.length === 1 ? "one token" : `${way.tokens.length} tokens`}</span></p>
    <p>The model says <strong>${way.said || "(nothing)"}</strong> <${Mark} right=${way.right} /></p>
    ${digits.length > 0 && html`<${Bars} label="probability of each digit" bars=${digits.map(([digit, p]) => ({ what: digit, text: percent(p), length: p / most, ours: digit === way.said }))} />
      <p class="hint">Probability of each digit as the next token; the most probable digit counts as the answer. One right answer may be
        luck: try other letters.</p>`}
    <details><summary>What it was asked</summary><pre class="says">${way.prompt}</pre></details>
  </section>`;
}
