/** Base: what a model is like that has only read: how well it compresses, what it recites and knows, and what its prompt makes it do. */

import { html } from "htm/preact";
import { useAnswer } from "../../common/answer.js";
import { get } from "../../common/api.js";
import { Busy, ErrorNote, Tabs } from "../../common/ui.js";
import { Compression } from "./compression.js";
import { Games } from "./games.js";
import { Knowledge } from "./knowledge.js";
import { Letters } from "./letters.js";
import { Recitation } from "./recitation.js";
import { about, view } from "./state.js";

export const title = "Base";

const TABS = [
  { id: "compression", title: "Compression" },
  { id: "recitation", title: "Recitation" },
  { id: "knowledge", title: "Knowledge" },
  { id: "games", title: "Games" },
  { id: "letters", title: "Letters" },
];
/** @type {Record<string, () => any>} */
const VIEWS = { compression: Compression, recitation: Recitation, knowledge: Knowledge, games: Games, letters: Letters };

export default function Page() {
  const failure = useAnswer(about, (signal) => get("/app/base/about", { signal }), []);
  const View = VIEWS[view.value] ?? Compression;
  return html`
    <h1>Base</h1>
    <p class="lead">A base model has only read pages and learned which token comes next. That makes it a lossy archive of what it read:
      it predicts such text well, recites what it met often, knows facts by how often they were stated, and takes up what its prompt shows it.</p>
    <${ErrorNote} error=${failure} />
    ${about.value ? html`<${Tabs} label="Views of this page" value=${view} tabs=${TABS} />
        ${about.value.problem && html`<p class="hint absent" role="note">${about.value.problem}</p>`}
        <${View} key=${view.value} />`
      : !failure && html`<${Busy}>reading …<//>`}`;
}
