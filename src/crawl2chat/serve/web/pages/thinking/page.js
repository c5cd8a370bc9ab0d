/** Thinking: the same problem at once, step by step and with the calculator; what tokens buy, asked now and measured. */

import { html } from "htm/preact";
import { useEffect } from "preact/hooks";
import { useAnswer } from "../../common/answer.js";
import { get } from "../../common/api.js";
import { Busy, ErrorNote, Tabs } from "../../common/ui.js";
import { running } from "./ask.js";
import { Ways } from "./columns.js";
import { ByDifficulty } from "./measured.js";
import { Passes } from "./passes.js";
import { about, view } from "./state.js";

const TABS = [
  { id: "ways", title: "One problem, three ways" },
  { id: "measured", title: "By difficulty" },
  { id: "passes", title: "A token is one pass" },
];
/** @type {Record<string, () => any>} */
const VIEWS = { ways: Ways, measured: ByDifficulty, passes: Passes };

export default function Page() {
  const failure = useAnswer(about, (signal) => get("/app/thinking/about", { signal }), []);
  useEffect(() => () => running.peek()?.abort(), []); // nobody would see the rest
  const View = VIEWS[view.value] ?? Ways;
  return html`
    <h1>Thinking</h1>
    <p class="lead">A model needs tokens to think. Each token that it writes takes one pass through the network, with the same amount of work whatever is
      asked. What is too much for one pass has to be spread over several, by writing down steps, or be left to a tool.</p>
    <${ErrorNote} error=${failure} />
    ${about.value ? html`<${Tabs} label="Views of this page" value=${view} tabs=${TABS} /><${View} />`
      : !failure && html`<${Busy}>reading …<//>`}`;
}
