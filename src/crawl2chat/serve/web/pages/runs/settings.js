/** Every setting with its type, limits, default and meaning, to search and to change. */

import { html } from "htm/preact";
import { useId } from "preact/hooks";
import { Button, ErrorNote, Field, Select, Toggle } from "../../common/ui.js";
import { change, changed, checked, chosen, find, known, onlyChanged, settings, shown, stage, tableOf } from "./state.js";

const OF_RUN = "the run as a whole";

export function SettingsForm() {
  const about = known.value;
  const others = checked.value?.others ?? [];
  const tables = ["run", ...Object.keys(about?.tables ?? {})];
  const n = changed.value.length;
  const searching = stage.value || find.value.trim() || onlyChanged.value;
  const faulty = Object.keys(checked.value?.problems ?? {}).filter((name) => !searching || !shown.value.some((one) => one.name === name));
  return html`<section aria-labelledby="settings-title">
    <h2 id="settings-title">2. Change settings</h2>
    <p>What you leave alone stays as the recipe has it, or at its default. A value is checked as the command line would.</p>
    <div class="controls">
      <${Field} label="Search">${(/** @type {string} */ id) => html`<input id=${id} type="search" value=${find.value} placeholder="such as depth"
        onInput=${(/** @type {any} */ event) => (find.value = event.currentTarget.value)} />`}<//>
      <${Select} label="Stage" value=${stage} options=${[{ value: "", label: "all" }, ...tables.map((table) => ({
        value: table, label: table === "run" ? OF_RUN : table,
      }))]} />
      <${Toggle} label=${`only the ${n} changed`} value=${onlyChanged} disabled=${!n && !onlyChanged.value} />
      ${n > 0 && html`<${Button} kind="quiet" onClick=${() => (changed.value = [])}>Take all changes back<//>`}
    </div>
    ${others.map((problem) => html`<${ErrorNote} key=${problem} error=${new Error(problem)} />`)}
    ${faulty.map((name) => html`<${OneSetting} key=${name} setting=${about?.settings.find((one) => one.name === name)} />`)}
    ${searching ? html`<${Found} />` : html`<${Tables} tables=${tables} />`}
  </section>`;
}

/** Where no search is made: the stages, as doors to their settings. @param {{tables: string[]}} props */
function Tables({ tables }) {
  const all = known.value?.settings ?? [];
  const is = (/** @type {string} */ table) => (/** @type {{name: string}} */ setting) => tableOf(/** @type {any} */ (setting)) === table;
  return html`<ul class="tables">${tables.map((table) => {
    const n = all.filter(is(table)).length;
    const edited = Object.keys(settings.value).filter((name) => is(table)({ name })).length;
    return html`<li key=${table}><button type="button" class="card" onClick=${() => (stage.value = table)}>
      <strong>${table === "run" ? OF_RUN : table}</strong>
      <span>${table === "run" ? "The last stage, and files and models that you bring." : known.value?.tables[table].replaceAll("`", "")}</span>
      <small>${`${n} settings`}${edited > 0 && html`, <b>${edited} changed</b>`}</small></button></li>`;
  })}</ul>`;
}

function Found() {
  const found = shown.value;
  if (!found.length) return html`<p class="card" role="status">No setting has this in its name or meaning.</p>`;
  return html`<p class="hint" role="status">${found.length === 1 ? "1 setting" : `${found.length} settings`}</p>
    <div class="settings">${found.map((setting) => html`<${OneSetting} key=${setting.name} setting=${setting} />`)}</div>`;
}

/** @param {{setting: import("./state.js").Setting}} props */
function OneSetting({ setting }) {
  const id = useId();
  const { name, kind, bounds, choices, help } = setting;
  const inRecipe = chosen.value?.values[name];
  const value = settings.value[name];
  const unchanged = inRecipe ?? bare(setting.default);
  const problems = checked.value?.problems[name] ?? [];
  const described = { "aria-describedby": `${id}-help ${id}-problem`, "aria-invalid": problems.length > 0 };
  /** @param {any} event */
  const take = (event) => change(name, event.currentTarget.value === "" ? null : event.currentTarget.value);
  return html`<div class=${`setting ${value === undefined ? "" : "changed"}`}>
    <label for=${id}><code>${name}</code>${value !== undefined && html` <span class="tag">changed</span>`}</label>
    <span class="pair">
      ${choices.length ? html`<select id=${id} ...${described} value=${value ?? ""} onChange=${take}>
        <option value="">${unchanged === "" ? "not set" : `${unchanged} (as it is)`}</option>
        ${[...new Set(value !== undefined && !choices.includes(value) ? [value, ...choices] : choices)].map((choice) => html`<option key=${choice} value=${choice}>${choice}</option>`)}</select>`
      : html`<input id=${id} ...${described} value=${value ?? ""} placeholder=${unchanged} onInput=${take} autocomplete="off" spellcheck=${false} />`}
      ${value !== undefined && html`<${Button} kind="quiet" label=${`take the change of ${name} back`} onClick=${() => change(name, null)}>Take back<//>`}
    </span>
    <div id=${`${id}-problem`}>${problems.map((problem) => html`<${ErrorNote} key=${problem} error=${new Error(problem)} />`)}</div>
    <div id=${`${id}-help`}><p>${help}</p>
      <p class="hint">${[choices.length ? "" : kind, bounds, setting.default === "" ? "optional" : html`default <code>${setting.default}</code>`,
        inRecipe !== undefined && html`recipe <code>${inRecipe}</code>`].filter(Boolean).map((part, i) => html`${i ? " · " : ""}${part}`)}</p></div>
  </div>`;
}

/** A default as it is typed: words without their quotes. @param {string} json */
function bare(json) {
  return /^".*"$/.test(json) ? String(JSON.parse(json)) : json;
}
