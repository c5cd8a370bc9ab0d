/** Data: what became of the crawled pages, each with the reasons, and what other thresholds would have kept. */

import { html } from "htm/preact";
import { useAnswer } from "../../common/answer.js";
import { get } from "../../common/api.js";
import { Busy, ErrorNote, Tabs } from "../../common/ui.js";
import { Copies } from "./copies.js";
import { Funnel } from "./funnel.js";
import { Pages } from "./pages.js";
import { Search } from "./search.js";
import { about, failure, view } from "./state.js";
import { Thresholds } from "./thresholds.js";

export const title = "Data";

const TABS = [
  { id: "funnel", title: "Funnel" },
  { id: "pages", title: "Pages" },
  { id: "thresholds", title: "Thresholds" },
  { id: "copies", title: "Copies" },
  { id: "search", title: "Search" },
];
/** @type {Record<string, () => any>} */
const VIEWS = { funnel: Funnel, pages: Pages, thresholds: Thresholds, copies: Copies, search: Search };
const NEEDS_FUNNEL = new Set(["funnel", "thresholds"]); // the others need not wait for it

export default function Page() {
  const lost = useAnswer(about, (signal) => get("/app/data/about", { signal }), []);
  const View = VIEWS[view.value] ?? Funnel;
  return html`
    <h1>Data</h1>
    <p class="lead">Most of the web is not worth learning from. Every crawled page goes through the same steps; each step keeps it
      or drops it for a reason. What is left are the documents that the model learns from.</p>
    <${ErrorNote} error=${lost ?? failure.value} />
    ${!lost && html`<${Tabs} label="Views of this page" value=${view} tabs=${TABS} />
      ${about.value || !NEEDS_FUNNEL.has(view.value) ? html`<${View} />` : html`<${Busy}>reading …<//>`}`}`;
}
