/** Which training, next to which others, and how its curves are drawn. */

import { html } from "htm/preact";
import { about } from "../../common/about.js";
import { Button, Field, Select, Toggle } from "../../common/ui.js";
import { AXES, beside, by, chosen, curves, evaluation, fields, from, isLive, logX, logY, others, smooth, spread, to, training, trainings } from "./state.js";

const SMOOTH = ["1", "4", "16", "64", "256", "1024", "4096", "16384"];

export function Choices() {
  const all = trainings.value ?? [];
  const now = chosen.value;
  const state = curves.value?.trainings[0];
  const options = all.filter((one) => one.own).map((one) => ({
    value: one.id === now?.id ? training.value || one.id : one.id, label: `${one.title}${isLive(one) ? " (running)" : ""}`,
  }));
  const axes = AXES.filter((axis) => !state || state.axes.includes(axis.value));
  /** What was chosen for one training may not be there in another. */
  const turn = () => {
    fields.value = [];
    beside.value = [];
    evaluation.value = -1;
    from.value = to.value = "";
  };
  const value = { get value() { return training.value || now?.id || ""; }, set value(/** @type {string} */ id) { training.value = id; } };
  const unzoom = () => (from.value = to.value = "");
  return html`<div class="controls">
    <${Select} label="Training" value=${value} options=${options} onChange=${turn} />
    <${Select} label="By" value=${by} options=${axes} onChange=${unzoom} />
    <${Select} label="Smoothed over" value=${smooth} options=${SMOOTH.map((n) => ({
      value: n, label: n === "1" ? "nothing: as they are" : `about ${Number(n).toLocaleString("en")} steps`,
    }))} />
    <${Toggle} label="logarithmic upwards" value=${logY} />
    <${Toggle} label="logarithmic sideways" value=${logX} />
    <${Bound} label="From" value=${from} /><${Bound} label="To" value=${to} />
    ${(from.value || to.value) && html`<${Button} onClick=${unzoom}>Show all<//>`}
  </div>
  <details class="fields"><summary>Curves to show</summary><${Fields} /></details>`;
}

/** @param {{label: string, value: import("@preact/signals").Signal<string>}} props */
function Bound({ label, value }) {
  return html`<${Field} label=${label}>${(/** @type {string} */ id) => html`<input id=${id} class="bound" inputmode="decimal" value=${value.value}
    placeholder=${label === "From" ? "start" : "end"} onChange=${(/** @type {any} */ event) => {
      const text = event.currentTarget.value.replaceAll(",", "").trim();
      if (text === "" || Number.isFinite(Number(text))) value.value = text;
      event.currentTarget.value = value.value;
    }} />`}<//>`;
}

function Fields() {
  const shown = curves.value?.shown ?? [];
  const there = new Map((curves.value?.trainings ?? []).flatMap((one) => one.fields.map((field) => [field.name, field])));
  const flip = (/** @type {string} */ name) => {
    fields.value = shown.includes(name) ? shown.filter((other) => other !== name) : [...shown, name];
  };
  return html`<fieldset class="ticks"><legend class="hint">Those that say most are shown until you choose.</legend>
    ${[...there.values()].map(({ name, title }) => html`<label key=${name} class="toggle"><input type="checkbox" checked=${shown.includes(name)}
      onChange=${() => flip(name)} /> ${title}</label>`)}
    ${fields.value.length > 0 && html`<${Button} kind="quiet" onClick=${() => (fields.value = [])}>Show the usual ones<//>`}
  </fieldset>`;
}

/** Other trainings of the same stage: the control, earlier ones, and those of the runs in the same folder. */
export function Compared() {
  const found = others.value;
  if (!about.value?.is_run) return null;
  const flip = (/** @type {string} */ id) => {
    beside.value = beside.value.includes(id) ? beside.value.filter((other) => other !== id) : [...beside.value, id].slice(-11);
  };
  const ticked = found.filter((one) => beside.value.includes(one.id));
  return html`<fieldset class="ticks compared"><legend>Compare with</legend>
    ${found.map((one) => html`<label key=${one.id} class="toggle"><input type="checkbox" checked=${beside.value.includes(one.id)}
      onChange=${() => flip(one.id)} /> ${one.own ? one.title : `${one.run}: ${one.title}`}</label>`)}
    ${found.length > 1 && html`<${Button} kind="quiet" onClick=${() => (beside.value = ticked.length === found.length ? [] : found.slice(0, 11).map((one) => one.id))}>
      ${ticked.length === found.length ? "none" : "all"}<//>`}
    ${ticked.length > 0 && html`<${Toggle} label="mean and spread" value=${spread} />`}
    ${!found.length && html`<span class="hint">No other run in this run’s folder has trained this stage. Runs with other seeds or settings appear here.</span>`}
  </fieldset>`;
}
