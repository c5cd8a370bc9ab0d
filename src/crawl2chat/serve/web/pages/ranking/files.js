/** Rankings and pairs as files: to take away, and to bring. */

import { html } from "htm/preact";
import { useState } from "preact/hooks";
import { download } from "../../common/answer.js";
import { get, post } from "../../common/api.js";
import { Button, ErrorNote, Field } from "../../common/ui.js";
import { annotator } from "./session.js";

export function Files() {
  const [told, setTold] = useState("");
  const [error, setError] = useState(/** @type {Error | null} */ (null));
  /** @param {() => Promise<string>} work */
  const doing = async (work) => {
    setError(null);
    setTold("");
    try {
      setTold(await work());
    } catch (failed) {
      setError(/** @type {Error} */ (failed));
    }
  };
  /** @param {"lists" | "pairs"} form */
  const take = (form) => doing(async () => {
    const { text, count } = await get(`/app/ranking/export/${form}`);
    download(`${form}.jsonl`, text);
    return `${count} ${form === "pairs" ? "pairs" : "judgements"} in ${form}.jsonl`;
  });
  /** @param {Event & {currentTarget: HTMLInputElement}} event */
  const bring = (event) => {
    const input = event.currentTarget;
    const file = input.files?.[0];
    if (!file) return;
    doing(async () => {
      const body = { annotator: annotator.value || "imported", text: await file.text() };
      input.value = "";
      const { added, known } = await post("/app/ranking/import", body);
      return `${added} judgements added from ${file.name}` + (known ? `; ${known} were here already` : "");
    });
  };
  return html`
    <p>All judgements are in one SQLite file of this server’s folder. They go out, and come in, as JSON lines.</p>
    <div class="files">
      <section class="card">
        <h2>Take away</h2>
        <p>Ranked lists have everything: ties, skips, seconds, the order shown, who wrote what. Pairs are <code>prompt</code>,${" "}
          <code>chosen</code> and <code>rejected</code>, in the form that TRL (Transformer Reinforcement Learning, a library)
          reads; tied answers make no pair.</p>
        <p><${Button} onClick=${() => take("lists")}>Ranked lists<//> <${Button} onClick=${() => take("pairs")}>Pairs<//></p>
      </section>
      <section class="card">
        <h2>Bring</h2>
        <${Field} label="A file of ranked lists or pairs, as JSON lines"
          hint="Rows that name no annotator count as yours. If one row is wrong, nothing is added.">
          ${(/** @type {string} */ id) => html`<input id=${id} type="file" accept=".jsonl,.json,.txt" onChange=${bring} />`}
        <//>
      </section>
    </div>
    <p role="status">${told}</p>
    <${ErrorNote} error=${error} />`;
}
