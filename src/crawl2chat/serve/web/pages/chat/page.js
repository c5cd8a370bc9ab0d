/** The page Chat: talk to one stage of a run, or to several side by side. */

import { html } from "htm/preact";
import { useEffect } from "preact/hooks";
import { get } from "../../common/api.js";
import { about } from "../../common/about.js";
import { Button, ErrorNote } from "../../common/ui.js";
import { askPreset, anyWriting, compare } from "./act.js";
import { Column } from "./column.js";
import { Composer } from "./composer.js";
import { Files, Kept } from "./files.js";
import { Keys, listenForKeys } from "./keys.js";
import { Settings } from "./settings.js";
import { begin, changed, changes, conversation, followAddress, hint, MOST_COLUMNS, note, save, setup, trouble, unkept } from "./state.js";
import { path } from "./tree.js";

export const title = "Chat";

export default function Page() {
  changes.value;
  useEffect(() => {
    const unfollow = followAddress();
    const unlisten = listenForKeys();
    get("/app/chat/setup").then((found) => (setup.value = found), (error) => (trouble.value = error));
    addEventListener("pagehide", save);
    return () => {
      save();
      unfollow();
      unlisten();
      removeEventListener("pagehide", save);
    };
  }, []);
  const { threads } = conversation.value;
  const isEmpty = threads.every((thread) => path(thread).length === 0);
  const several = (about.value?.models.length ?? 0) > 1;
  return html`<div class="chat">
    <div class="head">
      <h1>Chat</h1>
      <div class="acts">
        <${Button} kind="quiet" onClick=${begin} disabled=${isEmpty}>New conversation<//>
        <${Kept} /><${Files} /><${Keys} />
      </div>
    </div>
    ${isEmpty && html`<p class="lead">Talk to ${several ? "any stage of this run, or ask several stages the same question side by side" : "the model"}.
      Every answer can be looked into: how probable each token was, what the model really read, and what of it is in the training documents.</p>`}
    <${Presets} open=${isEmpty} />
    <${Settings} />
    <${ErrorNote} error=${trouble.value} />
    <${ErrorNote} error=${unkept.value} />
    <p class="note" role="status">${note.value}</p>
    ${hint.value && html`<p class="look-for"><strong>What to look for:</strong> ${hint.value.look_for}</p>`}
    <div class=${`columns ${threads.length > 2 ? "many" : ""}`} style=${{ "--columns": threads.length }}>
      ${threads.map((thread) => html`<${Column} key=${thread.id} thread=${thread} />`)}
    </div>
    ${several && threads.length < MOST_COLUMNS && html`<p><${Button} onClick=${addColumn} disabled=${anyWriting()}>Compare with another stage<//></p>`}
    <${Composer} />
  </div>`;
}

/** The next stage that no column has yet. */
function addColumn() {
  const models = about.value?.models ?? [];
  const names = conversation.value.threads.map((thread) => thread.who.model || about.value?.default);
  const next = models.find((model) => !names.includes(model.name) && !names.includes(model.stage ?? "")) ?? models[0];
  compare({ model: next.stage ?? next.name, tools: false, text: false });
  changed();
}

/** @param {{open: boolean}} props */
function Presets({ open }) {
  const presets = setup.value?.presets ?? [];
  if (!presets.length) return null;
  return html`<details class="presets card" open=${open}>
    <summary>Questions worth asking</summary>
    <ul>${presets.map((preset) => html`<li key=${preset.name}>
      <button type="button" class="button preset" aria-pressed=${hint.value === preset} onClick=${() => askPreset(preset)}>
        <strong>${preset.name}</strong><span>${preset.question}</span></button></li>`)}</ul>
  </details>`;
}
