/** What of an answer is in the training documents word for word, and in the conversations that the model learned from. */

import { html } from "htm/preact";
import { useEffect, useState } from "preact/hooks";
import { stream } from "../../common/api.js";
import { Busy, Button, ErrorNote, Slider } from "../../common/ui.js";
import { minWords, setup } from "./state.js";

/**
 * @typedef {{number: number, words: number, copies: number, document: string, url: string, beginning: string,
 *   before: string, quoted: string, after: string}} Match
 * @typedef {{read: number, covered: number, words: number, pieces: [string, number | null][], matches: Match[]}} Found
 */

/** @param {{node: import("./tree.js").Node}} props */
export function Sources({ node }) {
  const [state, setState] = useState(/** @type {{progress?: string, found?: {documents: Found, conversations: Found | null}, error?: Error}} */ ({}));
  const [again, setAgain] = useState(0);
  const searchable = Boolean(setup.value?.documents);
  useEffect(() => {
    if (!searchable) return;
    const stop = new AbortController();
    /** @param {any} event */
    const onEvent = (event) => {
      if (event.found) setState({ found: event.found });
      else if (event.waiting) setState({ progress: "waiting for another search to end …" });
      else setState({ progress: `${event.read.toLocaleString("en")} ${event.of} read …` });
    };
    setState({ progress: "reading the training documents …" });
    const body = { model: node.made?.model || undefined, text: node.text, min_words: minWords.peek() };
    stream("/app/chat/trace", body, { signal: stop.signal, onEvent }).catch((error) => stop.signal.aborted || setState({ error }));
    return () => stop.abort();
  }, [node.id, again]);
  const { found, progress, error } = state;
  if (!searchable) {
    return html`<p class="panel">There are no training documents to look in: this server has a model without the
      documents that it was trained on. Serve a run’s folder, with its folder <code>refine</code>, to see what of an answer is from there.</p>`;
  }
  return html`<div class="panel sources">
    <${ErrorNote} error=${error ?? null} />
    ${progress && html`<${Busy}>${progress}<//>`}
    ${found && html`<${Part} found=${found.documents} of="training documents" least=${minWords.value} />`}
    ${found?.conversations && html`<${Part} found=${found.conversations} of="answers that it was taught" least=${minWords.value} />`}
    <div class="controls">
      <${Slider} label="Shortest match, in words" value=${minWords} min=${2} max=${30} step=${1} />
      <${Button} onClick=${() => setAgain(again + 1)} disabled=${Boolean(progress)}>Look again<//>
    </div>
  </div>`;
}

/** @param {{found: Found, of: string, least: number}} props */
function Part({ found, of, least }) {
  const { read, covered, words, pieces, matches } = found;
  return html`<section>
    <h4>In the ${of}</h4>
    <p class="hint">${words < least
      ? `The answer has ${words} words, too few for a match of at least ${least}.`
      : `${covered} of its ${words} words are in matches of at least ${least} words. ${read.toLocaleString("en")} ${of} were read.`}</p>
    ${matches.length > 0 && html`
      <p class="said">${pieces.map(([text, number], i) => number === null ? text
        : html`<mark key=${i}>${text}<sup>${number}</sup></mark>`)}</p>
      <ol class="matches">${matches.map((match) => html`<${Where} key=${match.number} match=${match} of=${of} />`)}</ol>`}
  </section>`;
}

/** @param {{match: Match, of: string}} props */
function Where({ match, of }) {
  const times = match.copies === 1 ? "only here" : `${match.copies.toLocaleString("en")} times, first here`;
  return html`<li value=${match.number}>
    <details>
      <summary><strong>${match.words} words</strong>, ${times}: <code>${match.url || match.document}</code></summary>
      <blockquote>… ${match.before}<mark>${match.quoted}</mark>${match.after} …</blockquote>
      ${of === "training documents" && html`<p class="hint">The document begins:</p><blockquote>${match.beginning} …</blockquote>`}
    </details>
  </li>`;
}
