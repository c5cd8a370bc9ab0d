/** Any page of the run: a list that can be filtered, and the page that was chosen next to it. */

import { html } from "htm/preact";
import { useSignal } from "@preact/signals";
import { post } from "../../common/api.js";
import { RowList } from "./rows.js";
import { Button, Field, Select } from "../../common/ui.js";
import { Detail } from "./detail.js";
import { about, filter, find, openRandom, row, stepName, table, why } from "./state.js";

export function Pages() {
  const total = useSignal(-1);
  const other = () => {
    row.value = -1;
  };
  const reasons = (about.value?.rows ?? []).filter((line) => line.pages && line.step !== "").map((line) => ({
    value: `${line.step}/${line.reason}`, label: `${line.reason} (${line.pages.toLocaleString("en")}; ${stepName(line.step)})`,
  }));
  const kinds = [{ value: "kept", label: "kept" }, { value: "dropped", label: "dropped" }];
  const wanted = filter();
  return html`
    <div class="controls">
      <${Button} onClick=${() => openRandom("kept")}>A random kept page<//>
      <${Button} onClick=${() => openRandom("dropped")}>A random dropped page<//>
    </div>
    <div class="look-at">
      <section class="list" aria-label="Pages of the run">
        <div class="controls">
          <${Select} label="Pages that were" value=${table} options=${kinds} onChange=${() => {
            why.value = "";
            other();
          }} />
          ${table.value === "dropped" && html`<${Select} label="Reason" value=${why} options=${[{ value: "", label: "any" }, ...reasons]} onChange=${other} />`}
          <${Field} label="Address contains">${(/** @type {string} */ id) => html`<input id=${id} type="search" maxlength="200" value=${find.value}
            onChange=${(/** @type {any} */ event) => (find.value = event.currentTarget.value)} />`}<//>
        </div>
        <p class="hint" role="status">${total.value < 0 ? "" : `${total.value.toLocaleString("en")} pages`}</p>
        <${RowList} label="pages; arrow keys choose one" source=${JSON.stringify(wanted)} chosen=${row.value}
          ask=${(/** @type {number} */ offset, /** @type {number} */ limit, /** @type {AbortSignal} */ signal) =>
            post("/app/data/list", { ...wanted, offset, limit }, { signal })}
          onTotal=${(/** @type {number} */ n) => (total.value = n)}
          onChoose=${(/** @type {import("./rows.js").Row} */ chosen) => (row.value = chosen.row)}
          render=${(/** @type {import("./rows.js").Row} */ line) => html`<${Line} line=${line} />`} />
      </section>
      <${Detail} key=${`${table.value} ${row.value}`} />
    </div>`;
}

/** @param {{line: import("./rows.js").Row}} props */
export function Line({ line }) {
  return html`<span class="url">${line.url || "(no address)"}</span>
    <span class="about">${line.reason && html`<code>${line.reason}</code> `}${line.copies > 0 && html`<span class="tag">${line.copies} ${line.copies === 1 ? "copy" : "copies"} dropped</span> `}${line.snippet}</span>`;
}
