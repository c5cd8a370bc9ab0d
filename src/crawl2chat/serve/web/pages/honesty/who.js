/** Who are you? All the wordings that ask it, with the answers before and after, and those of any model now. */

import { html } from "htm/preact";
import { signal, useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { useAnswer } from "../../common/answer.js";
import { get, stream } from "../../common/api.js";
import { urlState } from "../../common/state.js";
import { Busy, Button, ErrorNote, ModelPicker, Toggle, Wide, percent } from "../../common/ui.js";
import { about, figure, shown } from "./state.js";

/**
 * @typedef {{kind: string, question: string, taught: boolean, expected: string | null, before: string | null, after: string | null,
 *   right: [boolean, boolean] | null}} Wording
 * @typedef {{text: string, right: boolean | null}} Said
 */

/** @type {import("@preact/signals").Signal<string>} */
const model = urlState("who", "");
/** @type {import("@preact/signals").Signal<boolean>} */
const taught = urlState("taught", false);
const now = signal(/** @type {Map<string, Said>} */ (new Map()));
const trouble = signal(/** @type {Error | null} */ (null));
const running = signal(false);
let asking = new AbortController();

async function ask() {
  asking.abort();
  const mine = (asking = new AbortController());
  now.value = new Map();
  trouble.value = null;
  running.value = true;
  try {
    await stream("/app/honesty/who", { taught: taught.value, ...(model.value ? { model: model.value } : {}) }, {
      signal: mine.signal,
      onEvent: (event) => (now.value = new Map([...now.value, [event.question, { text: event.text, right: event.right }]])),
    });
  } catch (problem) {
    if (!mine.signal.aborted) trouble.value = /** @type {Error} */ (problem);
  }
  if (mine === asking) running.value = false;
}

export function Who() {
  const found = useSignal(/** @type {{rows: Wording[]} | null} */ (null));
  useEffect(() => () => asking.abort(), []);
  const failure = useAnswer(found, (signal) => get("/app/honesty/identity", { signal }), []);
  const forget = () => {
    asking.abort();
    running.value = false;
    now.value = new Map();
  };
  if (!found.value) return html`<${ErrorNote} error=${failure} />${!failure && html`<${Busy}>reading …<//>`}`;
  const rows = found.value.rows.filter((row) => row.taught === taught.value);
  const card = about.value?.card;
  const measured = rows.some((row) => row.right);
  const right = rows.filter((row) => now.value.get(row.question)?.right).length;
  return html`
    <p>A model has no idea who it is but what it was taught. ${card
      ? html`This one was taught a card: it is <strong>${card.name}</strong>, a language model made by <strong>${card.maker}</strong>, and it can ${card.abilities}.`
      : "No card of this model is known here, so nothing says which answers are right."}</p>
    ${measured && !taught.value && html`<p>Right in wordings that were never taught: <strong>${shown(figure("identity before"))}</strong> before,${" "}
      <strong>${shown(figure("identity after"))}</strong> after.</p>`}
    <div class="controls"><${ModelPicker} value=${model} onChange=${forget} />
      <${Button} kind="main" onClick=${ask} disabled=${running.value}>Ask it all ${rows.length} wordings now<//>
      <${Toggle} label="the wordings that were taught instead" value=${taught} onChange=${forget} />
      ${running.value && html`<${Busy}>${now.value.size} of ${rows.length} …<//>`}</div>
    <${ErrorNote} error=${trouble.value} />
    ${now.value.size > 0 && card && html`<p role="status">${right} of ${now.value.size} right now (${percent(right / now.value.size)}).</p>`}
    <${Wide} label="wordings"><table class="answers">
      <thead><tr><th>about its</th><th>question</th>${measured && html`<th>before</th><th>after</th>`}${now.value.size > 0 && html`<th>now</th>`}</tr></thead>
      <tbody>${rows.map((row) => html`<tr key=${row.question}><td>${row.kind}</td><td class="says">${row.question}</td>
        ${measured && html`<td class="says"><${Mark} right=${row.right?.[0]} /> ${row.before}</td><td class="says"><${Mark} right=${row.right?.[1]} /> ${row.after}</td>`}
        ${now.value.size > 0 && html`<td class="says"><${Mark} right=${now.value.get(row.question)?.right} /> ${now.value.get(row.question)?.text ?? "…"}</td>`}</tr>`)}</tbody>
    </table><//>`;
}

/** @param {{right: boolean | null | undefined}} props */
function Mark({ right }) {
  if (right === null || right === undefined) return null;
  return right ? html`<span class="kind right">right</span>` : html`<span class="kind wrong">wrong</span>`;
}
