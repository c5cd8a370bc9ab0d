/** Recitation: by number of copies, and each passage with what the model went on with, then and now. */

import { html } from "htm/preact";
import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { useAnswer } from "../../common/answer.js";
import { post } from "../../common/api.js";
import { Pager } from "../../common/pager.js";
import { urlState } from "../../common/state.js";
import { Busy, ErrorNote, Select, Wide } from "../../common/ui.js";
import { Measured } from "./figures.js";
import { AskNow, useNow } from "./now.js";
import { about } from "./state.js";

/** @typedef {{row: number, copies: number, of: string, words: number, words_right: number, begins: string}} Line */
/** @typedef {{total: number, rows: Line[], of: string[], copies: {copies: number, passages: number, whole: number}[]}} Passages */
/** @typedef {{row: number, copies: number, before: string, given: string, rest: string, continuation: string, words: number, words_right: number, departs: number | null}} Passage */

/** @type {import("@preact/signals").Signal<string>} */
const copies = urlState("copies", "");
/** How the passages were prompted. @type {import("@preact/signals").Signal<string>} */
const given = urlState("given", "beginning");
/** @type {import("@preact/signals").Signal<number>} */
const offset = urlState("row", 0);
/** The row of the passage that is shown; −1 for none. @type {import("@preact/signals").Signal<number>} */
const chosen = urlState("passage", -1);

export function Recitation() {
  return html`<${Measured} view="recitation">${about.value?.has.recitation && html`<${Passages} />`}<//>`;
}

function Passages() {
  const found = useSignal(/** @type {Passages | null} */ (null));
  const detail = useRef(/** @type {HTMLElement | null} */ (null));
  const n = copies.value === "" ? null : Number(copies.value);
  const body = { of: given.value, offset: offset.value, copies: n !== null && Number.isInteger(n) && n >= 0 ? n : null };
  const failure = useAnswer(found, (signal) => post("/app/base/passages", body, { signal }), Object.values(body));
  const begin = () => {
    offset.value = 0;
    chosen.value = -1;
  };
  const open = (/** @type {number} */ row) => {
    chosen.value = row;
    requestAnimationFrame(() => detail.current?.scrollIntoView({ block: "nearest" }));
  };
  const { rows = [], total = 0, copies: levels = [], of = [] } = found.value ?? {};
  return html`
    <h2>The passages</h2>
    <p>Each passage was on the given number of pages. The model read its first tokens and went on with the most probable ones. It recites
      a passage if every word to its end is right. Click one to see where it departs.</p>
    <div class="controls">
      <${Select} label="Copies in the training text" value=${copies} onChange=${begin}
        options=${[{ value: "", label: "any number" }, ...levels.map((one) => ({ value: String(one.copies), label: `${one.copies > 2 ? "about " : ""}${one.copies.toLocaleString("en")}: ${one.whole} of ${one.passages} recited` }))]} />
      ${of.length > 1 && html`<${Select} label="Prompted with" value=${given} onChange=${begin}
        options=${of.map((name) => ({ value: name, label: name === "beginning" ? "its beginning, 16 tokens" : `${name} tokens before its 33rd` }))} />`}
    </div>
    <${ErrorNote} error=${failure} />
    ${!found.value && !failure && html`<${Busy}>reading …<//>`}
    ${found.value && html`<div class="look">
      <section class="list" aria-label="Passages"><${Pager} total=${total} offset=${offset} what="passages" />
        <${Wide} label="passages"><table>
          <thead><tr><th class="number">copies</th><th>passage</th><th class="number">words right</th></tr></thead>
          <tbody>${rows.map((line) => html`<tr key=${line.row}><td class="number">${line.copies.toLocaleString("en")}</td>
            <td><button type="button" class="open" aria-pressed=${chosen.value === line.row} onClick=${() => open(line.row)}>${line.begins}…</button></td>
            <td class="number">${line.words_right === line.words ? html`<strong class="good">✓ all ${line.words}</strong>` : `${line.words_right} of ${line.words}`}</td></tr>`)}</tbody>
        </table><//></section>
      <section class="detail" aria-label="One passage" ref=${detail}>
        ${chosen.value < 0 ? html`<p class="hint">Choose a passage from the list.</p>` : html`<${One} key=${chosen.value} row=${chosen.value} />`}</section>
    </div>`}`;
}

/** @param {{row: number}} props */
function One({ row }) {
  const found = useSignal(/** @type {Passage | null} */ (null));
  const failure = useAnswer(found, (signal) => post("/app/base/passage", { row }, { signal }), [row]);
  const { now, ask, stop, clear } = useNow();
  useEffect(() => clear, [row]);
  const passage = found.value;
  if (!passage) return html`<${ErrorNote} error=${failure} />${!failure && html`<${Busy}>reading …<//>`}`;
  return html`
    <p>${passage.copies === 1 ? "One copy" : `${passage.copies.toLocaleString("en")} copies`} in the training text.${" "}
      ${passage.departs === null ? html`<strong class="good">The model recited it to its end</strong>, ${passage.words} words.`
        : html`The model went on rightly for <strong>${passage.words_right} of ${passage.words} words</strong>.`}</p>
    <${Text} title="The true passage" passage=${passage} said=${passage.rest} departs=${passage.departs} />
    <${Text} title="What the model wrote" passage=${passage} said=${passage.continuation} departs=${passage.departs} />
    <h3>And now</h3>
    <${AskNow} label="Let it go on" now=${now} onStop=${stop} onModel=${clear} onAsk=${() => ask("/app/base/go-on", { row })} />
    ${now.text && html`<${Text} title="What it writes now" passage=${passage} said=${now.end?.whole ?? now.text} departs=${now.end ? now.end.departs : null} />`}
    ${now.end && html`<p class="answer" role="status">${now.end.departs === null ? html`<strong class="good">All ${now.end.words} words are right.</strong>`
      : html`<strong>${now.end.words_right} of ${now.end.words} words</strong> are right.`}</p>`}`;
}

/**
 * A text after what was given, with the first word marked that departs.
 * @param {{title: string, passage: Passage, said: string, departs: number | null}} props
 */
function Text({ title, passage, said, departs }) {
  const place = departs ?? said.length;
  const word = said.slice(place).match(/^\s*\S+/)?.[0] ?? "";
  return html`<h3>${title}</h3>
    <p class="says passage"><span class="before">${passage.before}</span><span class="given" title="what the model was given">${passage.given}</span>${said.slice(0, place)}${departs !== null
      && (word ? html`<mark>${word}</mark>` : html`<em class="hint"> (it ends here)</em>`)}<span class="after">${said.slice(place + word.length)}</span></p>`;
}
