/** Honesty: what a model knows, what it makes up, and what it says of itself; asked now, and as the run measured it. */

import { html } from "htm/preact";
import { useAnswer } from "../../common/answer.js";
import { get } from "../../common/api.js";
import { Busy, ErrorNote, Tabs } from "../../common/ui.js";
import { Ask } from "./ask.js";
import { Before } from "./before.js";
import { Known } from "./known.js";
import { Search } from "./search.js";
import { about, view } from "./state.js";
import { Who } from "./who.js";

export const title = "Honesty";

const TABS = [
  { id: "ask", title: "Ask many times" },
  { id: "known", title: "Known, maybe, unknown" },
  { id: "before", title: "Before and after" },
  { id: "search", title: "Search" },
  { id: "who", title: "Who are you?" },
];
/** @type {Record<string, () => any>} */
const VIEWS = { ask: Ask, known: Known, before: Before, search: Search, who: Who };

export default function Page() {
  const failure = useAnswer(about, (signal) => get("/app/honesty/about", { signal }), []);
  const View = VIEWS[view.value] ?? Ask;
  return html`
    <h1>Honesty</h1>
    <p class="lead">A model that does not know makes something up, in the same tone. But it makes up something else each time: who
      knows answers alike. The stage “honesty” asks the model many times, and teaches it to say that it does not know where its
      answers differ from the truth.</p>
    <${ErrorNote} error=${failure} />
    ${about.value ? html`<${Tabs} label="Views of this page" value=${view} tabs=${TABS} /><${View} />`
      : !failure && html`<${Busy}>reading …<//>`}`;
}
