/** Games in the prompt: pages whose rules hold on them alone, with their controls, and a page to be changed by hand. */

import { html } from "htm/preact";
import { signal, useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { useAnswer } from "../../common/answer.js";
import { post, wellFormed } from "../../common/api.js";
import { Pager } from "../../common/pager.js";
import { urlState } from "../../common/state.js";
import { Busy, Button, ErrorNote, Field, Wide } from "../../common/ui.js";
import { Measured } from "./figures.js";
import { AskNow, Mark, useNow } from "./now.js";
import { about } from "./state.js";

/** @typedef {{row: number, group: string, right: string, said: string, ends: string}} Line */
/** @typedef {{groups: {group: string, pages: number, right: number}[], controls: Record<string, string>, total: number, rows: (Line & {control?: Line})[]}} Games */
/** @typedef {{row: number, group: string, prompt: string, right: string, said: string}} Game */

/** @type {Record<string, string>} */
const KINDS = {
  glossary: "a game: each word before its meaning", definitions: "definitions in sentences", phrase_book: "a phrase book",
  glossary_absent: "a game, the word is not on the page", definitions_absent: "definitions, the word is not among them",
  glossary_shuffled: "a game, meanings swapped; right is the old meaning", phrase_book_shuffled: "a phrase book, translations shuffled",
};
const OWN_PAGE = "We say brun garden, tolk piano, vash ladder, tolk"; // where a run has no pages of its own

/** @type {import("@preact/signals").Signal<string>} */
const group = urlState("group", "glossary/8");
/** @type {import("@preact/signals").Signal<number>} */
const offset = urlState("line", 0);
/** The row of the page that is open; −1 for none. @type {import("@preact/signals").Signal<number>} */
const chosen = urlState("page", -1);
/** The page as it is being changed; empty for the one that is open, as it is. @type {import("@preact/signals").Signal<string>} */
const changed = urlState("changed", "");
/** What was answered to which page. */
const answered = signal(/** @type {{page: string, said: string, expected: string | null, right: boolean | null}[]} */ ([]));

export function Games() {
  const has = about.value?.has.games;
  return html`<${Measured} view="games">${has ? html`<${Pages} />` : html`<${Play} original=${OWN_PAGE} kind="glossary" />`}<//>`;
}

function Pages() {
  const found = useSignal(/** @type {Games | null} */ (null));
  const failure = useAnswer(found, (signal) => post("/app/base/games", { group: group.value, offset: offset.value }, { signal }), [group.value, offset.value]);
  const [kind, shots = ""] = group.value.split("/");
  const { groups = [], rows = [], total = 0, controls = {} } = found.value ?? {};
  const kinds = [...new Set(groups.map((one) => one.group.split("/")[0]))];
  const ofKind = groups.filter((one) => one.group.split("/")[0] === kind);
  const go = (/** @type {string} */ name) => {
    group.value = name;
    offset.value = 0;
    chosen.value = -1;
    changed.value = "";
  };
  const toKind = (/** @type {string} */ name) => {
    const same = groups.find((one) => one.group === `${name}/${shots}`) ?? groups.findLast((one) => one.group.split("/")[0] === name);
    if (same) go(same.group);
  };
  const open = (/** @type {number} */ row) => {
    chosen.value = row;
    changed.value = "";
  };
  const control = rows.some((row) => row.control) ? (KINDS[controls[kind]] ?? "control") : "";
  return html`
    <h2>The pages</h2>
    <p>The rule of each page holds on this page alone, so a right answer was read from it and not remembered. The control shows that: there the
      same kind of page does not say it. Click a question to open its page and to change it.</p>
    <${ErrorNote} error=${failure} />
    ${!found.value && !failure && html`<${Busy}>reading …<//>`}
    ${found.value && html`
      <div class="controls">
        <${Pick} label="Kind of page" value=${kind} onChoose=${toKind} options=${kinds.map((name) => ({ value: name, label: KINDS[name] ?? name }))} />
        <${Pick} label="Examples on the page" value=${group.value} onChoose=${go}
          options=${ofKind.map((one) => ({ value: one.group, label: `${one.group.split("/")[1]}: ${one.right} of ${one.pages} right` }))} />
      </div>
      <${Pager} total=${total} offset=${offset} what="pages" />
      <${Wide} label="pages and answers"><table class="games">
        <thead><tr><th>the page ends with</th><th>right</th><th>the model said</th>${control && html`<th>control: ${control}</th>`}</tr></thead>
        <tbody>${rows.map((line) => html`<tr key=${line.row}><td><button type="button" class="open" aria-pressed=${chosen.value === line.row} onClick=${() => open(line.row)}>… ${question(line.ends)}</button></td>
          <td class="says">${line.right}</td><td class="says">${line.said} <${Mark} right=${line.said === line.right} /></td>
          ${control && html`<td class="says">${line.control && html`${line.control.said} <${Mark} right=${line.control.said === line.control.right} /> <button type="button" class="open" aria-pressed=${chosen.value === line.control.row}
            aria-label=${`open the control’s page, which ends with ${question(line.control.ends)}`} onClick=${() => open(line.control?.row ?? -1)}>page</button>`}</td>`}</tr>`)}</tbody>
      </table><//>
      ${chosen.value >= 0 ? html`<${One} key=${chosen.value} row=${chosen.value} />` : html`<p class="hint">No page is open.</p>`}`}`;
}

/** A menu whose choice is derived. @param {{label: string, value: string, options: {value: string, label: string}[], onChoose: (value: string) => void}} props */
function Pick({ label, value, options, onChoose }) {
  return html`<${Field} label=${label}>${(/** @type {string} */ id) => html`<select id=${id} value=${value} onChange=${(/** @type {any} */ event) => onChoose(event.currentTarget.value)}>
    ${options.map((option) => html`<option key=${option.value} value=${option.value} selected=${option.value === value}>${option.label}</option>`)}</select>`}<//>`;
}

/** The last words of a page, which ask. @param {string} ends */
function question(ends) {
  const line = ends.split("\n").at(-1) ?? "";
  const sentence = line.split(/(?<=[.?,]) /).slice(-2).join(" ");
  return sentence.slice(-70);
}

/** @param {{row: number}} props */
function One({ row }) {
  const found = useSignal(/** @type {Game | null} */ (null));
  const failure = useAnswer(found, (signal) => post("/app/base/game", { row }, { signal }), [row]);
  const game = found.value;
  if (!game) return html`<${ErrorNote} error=${failure} />${!failure && html`<${Busy}>reading …<//>`}`;
  return html`<section class="card" aria-label="the open page">
    <h3>The page, as the model read it</h3>
    <p class="says passage"><span>${game.prompt}</span> <strong>${game.said || "(nothing)"}</strong> <${Mark} right=${game.said === game.right} /></p>
    <p class="hint">Counted as right: “${game.right}”. In bold, what the model went on with.</p>
    <${Play} original=${game.prompt} kind=${game.group} />
  </section>`;
}

/** Let a model answer a page that can be changed. @param {{original: string, kind: string}} props */
function Play({ original, kind }) {
  const { now, ask, stop, clear } = useNow();
  useEffect(() => {
    answered.value = [];
    return clear;
  }, [original]);
  const page = changed.value || original;
  const end = now.end;
  useEffect(() => {
    if (end) answered.value = [{ page, said: end.whole.trim(), expected: end.expected, right: end.right }, ...answered.value].slice(0, 8);
  }, [end]);
  return html`<section aria-label="answer a page now">
    <h3>Change it, and see whether the answer follows</h3>
    <p class="hint">Change a meaning, a word or the question at the end. The model reads the page as it stands here and goes on with it.</p>
    <${AskNow} label="Let it answer now" now=${now} onStop=${stop} onModel=${clear} disabled=${!page.trim()}
      onAsk=${() => ask("/app/base/play", { group: kind, text: wellFormed(page.trimEnd()) })}>
      <${Field} label="The page">${(/** @type {string} */ id) => html`<textarea id=${id} rows="5" maxlength="20000" spellcheck=${false} value=${page}
        onInput=${(/** @type {any} */ event) => {
          changed.value = event.currentTarget.value === original ? "" : event.currentTarget.value;
          clear();
        }}></textarea>`}<//>
    <//>
    ${changed.value && html`<${Button} onClick=${() => {
      changed.value = "";
      clear();
    }}>Restore the page<//>`}
    <div class="answer" role="status">${end && html`<p>The model says “<strong>${end.whole.trim()}</strong>”. ${end.expected !== null ? html`The page says “<strong>${end.expected}</strong>”. <${Mark} right=${end.right} />`
      : kind.startsWith("phrase") ? "" : "The page does not say what it asks for."}</p>`}</div>
    ${answered.value.length > 1 && html`<h4>So far</h4><ul class="so-far">${answered.value.map((one, i) => html`<li key=${answered.value.length - i}>… ${question(one.page)} → “${one.said}”${one.expected !== null && html`, the page says “${one.expected}” <${Mark} right=${one.right} />`}</li>`)}</ul>`}
  </section>`;
}
