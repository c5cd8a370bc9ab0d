/** Which recipe, and what it says of itself. */

import { html } from "htm/preact";
import { Select } from "../../common/ui.js";
import { chosen, known, plan, recipe } from "./state.js";

export function RecipeChoice() {
  const about = known.value;
  const now = chosen.value;
  const options = (about?.recipes ?? []).map((one) => ({ value: one.id, label: one.own ? `${one.id} (yours)` : one.id }));
  if (!now) options.unshift({ value: recipe.value, label: `${recipe.value}: not found` });
  const values = Object.entries(now?.values ?? {});
  return html`<section aria-labelledby="recipe-title">
    <h2 id="recipe-title">1. Choose a recipe</h2>
    <${Select} label="Recipe" value=${recipe} options=${options} onChange=${() => (plan.value = null)}
      hint=${about?.own && html`Files <code>*.toml</code> in <code>${about.own}</code> are listed here as well.`} />
    ${now?.comment && html`<pre class="comment">${now.comment}</pre>`}
    ${values.length > 0 && html`<details><summary>${`The ${values.length} settings that it names`}</summary>
      <ul class="named">${values.map(([name, value]) => html`<li key=${name}><code>${name} = ${value}</code></li>`)}</ul></details>`}
  </section>`;
}
