/** Lecture: every demonstration in its order, each a link into a page with its state set. */

import { html } from "htm/preact";
import { useAnswer } from "../../common/answer.js";
import { get } from "../../common/api.js";
import { at, lecture, Measured } from "../../common/lecture.js";
import { Busy, Button, ErrorNote } from "../../common/ui.js";
import { go } from "../../shell.js";

export const title = "Lecture";

/** @param {number} number */
function begin(number) {
  at.value = number;
  go(lecture.value?.stops[number]?.link ?? "/lecture");
}

export default function Page() {
  const failure = useAnswer(lecture, (signal) => get("/app/lecture", { signal }), []);
  const { stops, missing } = lecture.value ?? { stops: [], missing: [] };
  return html`
    <h1>Lecture</h1>
    <p class="lead">Andrej Karpathy’s “Deep Dive into <abbr title="large language models">LLMs</abbr> like ChatGPT” shows how such
      a model is made and what follows from that. Here are its demonstrations, on this run: what the lecture shows on the models of
      others can be tried on one’s own.</p>
    <${ErrorNote} error=${failure} />
    ${lecture.value === null && !failure && html`<${Busy}>reading …<//>`}
    ${stops.length > 0 && html`
      <p><${Button} kind="main" onClick=${() => begin(0)}>Begin<//> <span class="hint">Next and Back are on every page then, also as
        the keys Page down and Page up; A⁺ makes the type large.</span></p>
      <ol class="stops">${stops.map((stop, number) => html`<li key=${stop.link} class="card" aria-current=${number === at.value ? "step" : undefined}>
        <h2><a href=${stop.link} onClick=${() => { at.value = number; }}>${stop.title}</a></h2>
        <p>${stop.says}</p>
        <${Measured} stop=${stop} /></li>`)}</ol>`}
    ${missing.length > 0 && html`<p class="hint">Left out, since this run has no stage or no figures for it:
      ${missing.join("; ")}.</p>`}`;
}
