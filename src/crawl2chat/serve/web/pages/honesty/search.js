/** Looking things up: what a search finds, what the model reads of it, and what it answers. */

import { html } from "htm/preact";
import { signal, useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { about as server } from "../../common/about.js";
import { useAnswer } from "../../common/answer.js";
import { post, stream } from "../../common/api.js";
import { urlState } from "../../common/state.js";
import { Busy, Button, ErrorNote, Field, ModelPicker } from "../../common/ui.js";
import { figure, groupName, about, shown } from "./state.js";

/**
 * @typedef {{page: number, title: string, text: string, url: string}} Passage
 * @typedef {{calls?: {name: string, arguments: any}[], result?: string}} Step
 * @typedef {{text: string, steps: Step[], passages: string, done: boolean}} LookedUp
 */

/** @type {import("@preact/signals").Signal<string>} */
const query = urlState("query", "");
/** @type {import("@preact/signals").Signal<string>} */
const model = urlState("model", "");
const answer = signal(/** @type {LookedUp | null} */ (null));
const trouble = signal(/** @type {Error | null} */ (null));
let asking = new AbortController();

async function lookUp() {
  asking.abort();
  const mine = (asking = new AbortController());
  trouble.value = null;
  answer.value = { text: "", steps: [], passages: "", done: false };
  try {
    await stream("/app/honesty/look-up", { question: query.value.trim(), ...(model.value ? { model: model.value } : {}) }, {
      signal: mine.signal,
      onEvent: (event) => {
        const now = answer.value;
        if (now) answer.value = { ...now, ...event, text: now.text + event.text, done: Boolean(event.steps) };
      },
    });
  } catch (problem) {
    if (mine.signal.aborted) return;
    answer.value = null;
    trouble.value = /** @type {Error} */ (problem);
  }
}

export function Search() {
  const found = useSignal(/** @type {{reads: string | null, passages: Passage[]} | null} */ (null));
  useEffect(() => () => asking.abort(), []);
  const failure = useAnswer(found, async (signal) => (query.value.trim() ? post("/app/honesty/search", { query: query.value.trim() }, { signal }) : null), [query.value]);
  const send = (/** @type {any} */ event) => {
    event.preventDefault();
    answer.value = null;
    query.value = new FormData(event.currentTarget).get("query")?.toString() ?? "";
  };
  const right = (about.value?.figures ?? []).filter((one) => one.name.startsWith("right with search/"));
  return html`
    <p>What a model does not know it can look up. It writes a query; the best passage of the documents is put into its context; and
      it answers from that. So the answer is in its working memory, and not in its weights.</p>
    ${right.length > 0 && html`<details><summary>What the run measured: right with search</summary><ul>${right.map((one) => html`<li key=${one.name}>${groupName(one.name.split("/")[1])}:${" "}
      ${shown(one)} with search, ${shown(figure(`right after/${one.name.split("/")[1]}`))} without</li>`)}</ul></details>`}
    <form class="controls" role="search" onSubmit=${send}>
      <${Field} label="Question or words to search for">${(/** @type {string} */ id) => html`<input id=${id} name="query" type="search" maxlength="4000" size="40" value=${query.value} />`}<//>
      <button class="button main">Search</button>
    </form>
    <${ErrorNote} error=${failure} />
    ${query.value.trim() && !found.value && !failure && html`<${Busy}>searching …<//>`}
    ${found.value && html`
      <div class="beside">
        <section><h2>What is found</h2>
          ${found.value.passages.length ? html`<ol class="passages">${found.value.passages.map((passage, i) => html`<li key=${i} class="card"><span class="hint url">page ${passage.page}, ${passage.url}</span>
            <p class="says">${passage.title ? html`<strong>${passage.title}</strong>: ` : ""}${passage.text}</p></li>`)}</ol>` : html`<p class="hint">Nothing: no document has that name.</p>`}</section>
        <section><h2>What a model reads and answers</h2>
          ${found.value.reads !== null && html`<p class="hint">This is put into the context of a model that searches for these words:</p><pre class="says reads">${found.value.reads}</pre>`}
          <div class="controls"><${ModelPicker} value=${model} chatOnly=${true} onChange=${() => (answer.value = null)} />
            <${Button} kind="main" onClick=${lookUp} disabled=${!server.value}>Ask it, with search<//></div>
          <${ErrorNote} error=${trouble.value} />
          ${answer.value && html`<${Way} answer=${answer.value} />`}</section>
      </div>`}`;
}

/** @param {{answer: LookedUp}} props */
function Way({ answer: { text, steps, passages, done } }) {
  return html`<ol class="turns">
    ${passages && html`<li><span class="tag">put next to the question</span> <span class="says">${passages}</span></li>`}
    ${steps.flatMap((step, i) => step.calls
      ? step.calls.map((call, j) => html`<li key=${`${i} ${j}`}><span class="tag">the model calls ${call.name}</span> <code>${typeof call.arguments === "string" ? call.arguments : JSON.stringify(call.arguments)}</code></li>`)
      : [html`<li key=${i}><span class="tag">it reads</span> <span class="says">${step.result}</span></li>`])}
    <li><span class="tag">it answers</span> <span class="says">${text}</span>${!done && html` <${Busy} />`}${done && !steps.length && !passages && html` <span class="hint">(it did not search)</span>`}</li>
  </ol>`;
}
