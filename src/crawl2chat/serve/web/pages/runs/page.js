/** Runs: choose a recipe, change its settings, start it, and follow the runs of this folder. */

import { html } from "htm/preact";
import { useAnswer, useRegularly } from "../../common/answer.js";
import { get } from "../../common/api.js";
import { Busy, ErrorNote, Tabs } from "../../common/ui.js";
import { Begin } from "./begin.js";
import { List } from "./list.js";
import { RecipeChoice } from "./recipe.js";
import { SettingsForm } from "./settings.js";
import { RUNNING, isResting, known, loadRuns, runs, said, view } from "./state.js";

const TABS = [{ id: "runs", title: "Runs" }, { id: "new", title: "Start one" }];

export default function Page() {
  const unknown = useAnswer(known, (signal) => get("/app/runs/about", { signal }), []);
  const failure = useRegularly(loadRuns, RUNNING, isResting);
  const about = known.value;
  return html`
    <h1>Runs</h1>
    <p class="lead">A run takes a recipe through its stages, from crawl to chat. It is a process of its own: it goes on when this page, the app or
      the terminal is closed.</p>
    ${about?.refusal && html`<p class="card" role="note">Nothing can be started or stopped here: ${about.refusal}.</p>`}
    <${ErrorNote} error=${unknown ?? failure} />
    <${Tabs} label="What to do" value=${view} tabs=${TABS} />
    <p class="said" role="status">${said.value}</p>
    ${view.value === "new" ? about ? html`<${RecipeChoice} /><${SettingsForm} /><${Begin} />` : html`<${Busy}>reading the recipes …<//>`
      : runs.value ? html`<${List} />` : html`<${Busy}>looking for runs …<//>`}`;
}
