/** The first page: which models there are, and what can be done with them. */

import { html } from "htm/preact";
import { about } from "../../common/about.js";
import { Wide } from "../../common/ui.js";
import { PAGES } from "../../shell.js";

export default function Page() {
  const models = about.value?.models ?? [];
  return html`
    <h1>${about.value?.is_run ? "A run, from crawl to chat" : "A model"}</h1>
    <p class="lead">Everything on these pages is computed by the models in <code>${about.value?.name}</code>, live, on this
      machine. Nothing leaves it.</p>
    <ul class="doors">
      ${PAGES.map((page) => html`<li key=${page.path}><a class="card" href=${page.path}>
        <strong>${page.title}</strong><span>${page.says}</span></a></li>`)}
    </ul>
    <h2>${models.length === 1 ? "The model" : "Its models"}</h2>
    <${Wide} label="models"><table>
      <thead><tr><th>name</th><th>what it is</th><th class="number">parameters</th><th class="number">layers × width</th>
        <th class="number">vocabulary</th><th class="number">context</th></tr></thead>
      <tbody>${models.map((model) => html`<tr key=${model.name}>
        <td><code>${model.name}</code>${model.name === about.value?.default && html` <span class="tag">default</span>`}</td>
        <td>${model.title}</td>
        <td class="number">${model.parameters.toLocaleString("en")}</td>
        <td class="number">${model.layers} × ${model.width}</td>
        <td class="number">${model.vocabulary.toLocaleString("en")}</td>
        <td class="number">${model.context.toLocaleString("en")}</td></tr>`)}</tbody>
    </table><//>
    <p class="hint">The same models answer at <code>${location.origin}/v1</code> in the form of OpenAI’s API
      (application programming interface).</p>`;
}
