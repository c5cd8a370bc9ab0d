/** Knowledge: facts by how often they were stated, and a sentence for the model to complete. */

import { html } from "htm/preact";
import { useSignal } from "@preact/signals";
import { useAnswer } from "../../common/answer.js";
import { post, wellFormed } from "../../common/api.js";
import { urlState } from "../../common/state.js";
import { ErrorNote, Field, Select, percent } from "../../common/ui.js";
import { Measured } from "./figures.js";
import { AskNow, Mark, useNow } from "./now.js";
import { about } from "./state.js";

/** @typedef {{id: number, name: string, exposures: number, bucket: string}} Person */
/** @typedef {{relation: string, text: string, value: string, n_values: number}} Sentence */

const LISTED = 100; // people in the menu

/** @type {import("@preact/signals").Signal<string>} */
const sentence = urlState("sentence", "");
/** What should follow it. @type {import("@preact/signals").Signal<string>} */
const truth = urlState("truth", "");
/** How many values there are to guess from, 0 if that is not known. @type {import("@preact/signals").Signal<number>} */
const values = urlState("values", 0);
/** @type {import("@preact/signals").Signal<string>} */
const pages = urlState("pages", "100+");

export function Knowledge() {
  return html`<${Measured} view="knowledge"><${Complete} /><//>`;
}

function Complete() {
  const { now, ask, stop, clear } = useNow();
  const change = (/** @type {import("@preact/signals").Signal<string>} */ state, /** @type {string} */ value) => {
    state.value = value;
    values.value = 0;
    clear();
  };
  const end = now.end;
  return html`<section aria-label="complete a sentence now">
    <h2>A fact to complete, now</h2>
    <p>A model has no table of facts. What it read often about somebody has made the right word probable at the end of such a sentence; what it
      read once has hardly moved it, and then it ends the sentence with a word that fits just as well.</p>
    ${about.value?.has.people && html`<${Choose} onChoose=${clear} />`}
    <${AskNow} label="Complete" now=${now} onStop=${stop} onModel=${clear} disabled=${!sentence.value.trim()}
      onAsk=${() => ask("/app/base/complete", { text: wellFormed(sentence.value.trim()), expected: wellFormed(truth.value.trim()) })}>
      <div class="two">
        <${Field} label="Sentence, up to where the fact follows">${(/** @type {string} */ id) => html`<input id=${id} maxlength="4000" value=${sentence.value}
          onInput=${(/** @type {any} */ event) => change(sentence, event.currentTarget.value)} />`}<//>
        <${Field} label="The truth, if you know it">${(/** @type {string} */ id) => html`<input id=${id} maxlength="200" value=${truth.value}
          onInput=${(/** @type {any} */ event) => change(truth, event.currentTarget.value)} />`}<//>
      </div>
    <//>
    ${(now.text || end) && html`<p class="says answer" role="status"><span class="given">${sentence.value}</span><strong>${end?.whole ?? now.text}</strong> ${end && html`<${Mark} right=${end.right} />`}</p>`}
    ${end?.probability != null && html`<p>Probability of “${truth.value.trim()}” here: <strong>${percent(end.probability)}</strong>${values.value > 0
      && html`; a guess among all ${values.value} values that somebody has would give it ${percent(1 / values.value)}`}.</p>`}
  </section>`;
}

/** Somebody of the made-up web, and a sentence about them. @param {{onChoose: () => void}} props */
function Choose({ onChoose }) {
  const people = useSignal(/** @type {{buckets: Record<string, number>, total: number, rows: Person[]} | null} */ (null));
  const person = useSignal("");
  const found = useSignal(/** @type {{name: string, exposures: number, sentences: Sentence[]} | null} */ (null));
  const picked = useSignal("");
  const failure = useAnswer(people, (signal) => post("/app/base/people", { bucket: pages.value, limit: LISTED }, { signal }), [pages.value]);
  const lost = useAnswer(found, async (signal) => (person.value ? post("/app/base/person", { row: Number(person.value) }, { signal }) : null), [person.value]);
  const { buckets = {}, rows = [], total = 0 } = people.value ?? {};
  const named = Object.keys(buckets).reverse();
  const forget = () => {
    person.value = "";
    picked.value = "";
  };
  const take = (/** @type {string} */ number) => {
    const one = found.value?.sentences[Number(number)];
    if (!one || number === "") return;
    sentence.value = one.text;
    truth.value = one.value;
    values.value = one.n_values;
    onChoose();
  };
  return html`<div class="controls">
      <${Select} label="People on" value=${pages} onChange=${forget} options=${[...(named.includes(pages.value) ? [] : [{ value: pages.value, label: "…" }]),
        ...named.map((name) => ({ value: name, label: `${name.replace("-", " to ").replace("+", " or more")} ${name === "1" ? "page" : "pages"} (${buckets[name]} people)` }))]} />
      <${Select} label="Person" value=${person} onChange=${() => (picked.value = "")} hint=${total > rows.length ? `the first ${rows.length} of ${total.toLocaleString("en")}` : undefined}
        options=${[{ value: "", label: "choose …" }, ...rows.map((one) => ({ value: String(one.id), label: `${one.name} (${one.exposures})` }))]} />
      ${found.value && person.value && html`<${Select} label="Sentence" value=${picked} onChange=${take}
        options=${[{ value: "", label: "choose …" }, ...found.value.sentences.map((one, i) => ({ value: String(i), label: `${one.text} …` }))]} />`}
    </div>
    <${ErrorNote} error=${failure ?? lost} />`;
}
