/** Clusters of copies: a document that stayed, beside a page that was dropped because it says the same. */

import { html } from "htm/preact";
import { batch, useSignal } from "@preact/signals";
import { useAnswer } from "../../common/answer.js";
import { post } from "../../common/api.js";
import { RowList } from "./rows.js";
import { Sides } from "./sides.js";
import { urlState } from "../../common/state.js";
import { Busy, Button, ErrorNote, Select } from "../../common/ui.js";
import { Line } from "./pages.js";
import { openPage, stepName } from "./state.js";

/** @type {import("@preact/signals").Signal<number>} */
const stayed = urlState("document", -1);
/** Row of the copy; empty for the first one. @type {import("@preact/signals").Signal<string>} */
const copy = urlState("copy", "");

export function Copies() {
  const total = useSignal(-1);
  return html`
    <p>Many pages of the web are copies of each other, exactly or nearly. Of each cluster the first page stays, and the others are
      dropped: a model that reads the same text many times learns it by heart.</p>
    <div class="look-at">
      <section class="list" aria-label="Clusters of copies">
        <p class="hint" role="status">${total.value < 0 ? "" : `${total.value.toLocaleString("en")} documents have copies`}</p>
        <${RowList} label="documents with copies, those with most copies first" source="clusters" chosen=${stayed.value}
          ask=${(/** @type {number} */ offset, /** @type {number} */ limit, /** @type {AbortSignal} */ signal) => post("/app/data/clusters", { offset, limit }, { signal })}
          onTotal=${(/** @type {number} */ n) => (total.value = n)}
          onChoose=${(/** @type {import("./rows.js").Row} */ chosen) => batch(() => {
            stayed.value = chosen.row;
            copy.value = "";
          })}
          render=${(/** @type {import("./rows.js").Row} */ line) => html`<${Line} line=${line} />`} />
      </section>
      <section class="detail" aria-label="The copies side by side">
        ${stayed.value < 0 ? html`<p class="hint">Choose a document from the list.</p>` : html`<${Cluster} key=${stayed.value} />`}
      </section>
    </div>`;
}

function Cluster() {
  const copies = useSignal(/** @type {{total: number, rows: {row: number, url: string, step: string}[]} | null} */ (null));
  const sides = useSignal(/** @type {{urls: string[], rows: any[]} | null} */ (null));
  const lost = useAnswer(copies, (signal) => post("/app/data/copies", { row: stayed.value, limit: 200 }, { signal }), [stayed.value]);
  const known = copies.value?.rows ?? [];
  const chosen = known.find((one) => String(one.row) === copy.value) ?? known[0];
  const failure = useAnswer(sides, async (signal) => {
    sides.value = null;
    return chosen ? post("/app/data/compare", { kept: stayed.value, copy_row: chosen.row }, { signal }) : null;
  }, [chosen?.row]);
  if (!copies.value) return html`<${ErrorNote} error=${lost} />${!lost && html`<${Busy}>looking for its copies …<//>`}`;
  const options = known.map((one) => ({ value: String(one.row), label: one.url }));
  const found = sides.value;
  return html`
    ${options.length > 1 && html`<div class="controls"><${Select} label=${`Which of the ${copies.value.total.toLocaleString("en")} copies`} value=${copy} options=${options} /></div>`}
    ${chosen && html`<p class="hint">${stepName(chosen.step)}; the copy’s text is extracted again, now. Words that only one side has are marked.</p>`}
    <${ErrorNote} error=${failure} />
    ${!found && !failure && html`<${Busy}>taking the copy through the steps …<//>`}
    ${found && (found.rows.length ? html`<${Sides} rows=${found.rows} left=${`stayed: ${found.urls[0]}`} right=${`dropped: ${found.urls[1]}`} label="both texts side by side" />`
      : html`<p class="hint">Comparing these two took too long.</p>`)}
    ${chosen && html`<p><${Button} onClick=${() => openPage("kept", stayed.value)}>Show the document<//> <${Button} onClick=${() => openPage("dropped", chosen.row)}>Show the copy<//></p>`}`;
}
