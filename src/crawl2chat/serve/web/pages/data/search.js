/** Search in the documents. */

import { html } from "htm/preact";
import { useSignal } from "@preact/signals";
import { useAnswer } from "../../common/answer.js";
import { post } from "../../common/api.js";
import { urlState } from "../../common/state.js";
import { Busy, Button, ErrorNote, Field } from "../../common/ui.js";
import { about, openPage } from "./state.js";

/** @typedef {{text: string, title: string, url: string, row: number | null}} Passage */

const LARGE = 20_000; // documents, whose index takes more than a moment

/** @type {import("@preact/signals").Signal<string>} */
const query = urlState("query", "");

export function Search() {
  const found = useSignal(/** @type {{asked: string, passages: Passage[]} | null} */ (null));
  const failure = useAnswer(found, async (signal) => {
    const asked = query.value.trim();
    return asked ? { asked, ...(await post("/app/data/search", { query: asked }, { signal })) } : null;
  }, [query.value]);
  const send = (/** @type {any} */ event) => {
    event.preventDefault();
    query.value = new FormData(event.currentTarget).get("query")?.toString() ?? "";
  };
  const waiting = query.value.trim() !== "" && found.value?.asked !== query.value.trim() && !failure;
  return html`
    <p>The documents in passages, ranked by how often they hold the words that are rare elsewhere (BM25). Passages with the rarest
      name of a question come first.</p>
    <form class="controls" role="search" onSubmit=${send}>
      <${Field} label="Search for">${(/** @type {string} */ id) => html`<input id=${id} name="query" type="search" maxlength="1000" value=${query.value} />`}<//>
      <button class="button main">Search</button>
      ${waiting && html`<${Busy}>${(about.value?.kept ?? 0) > LARGE ? "searching; the first time an index is built, which takes a minute for 100,000 documents …" : "searching …"}<//>`}
    </form>
    <${ErrorNote} error=${failure} />
    ${found.value && !waiting && html`
      <p class="hint" role="status">${found.value.passages.length ? `the ${found.value.passages.length} best passages` : "Nothing was found; a question for a name that no document has finds nothing."}</p>
      <ol class="passages">${found.value.passages.map((passage, i) => html`<li key=${i} class="card">
        <h3 class="url">${passage.title || passage.url}</h3><p class="hint url">${passage.url}</p>
        <p class="says">${passage.text}</p>
        ${passage.row !== null && html`<${Button} onClick=${() => openPage("kept", /** @type {number} */ (passage.row))}>Show its page<//>`}</li>`)}</ol>`}`;
}
