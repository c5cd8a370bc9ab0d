/** The same problem in three ways, side by side: the text, whether it is right, where it goes wrong, and what it cost. */

import { html } from "htm/preact";
import { modelNamed } from "../../common/about.js";
import { brief } from "../../common/numbers.js";
import { Busy, Button, ErrorNote, percent } from "../../common/ui.js";
import { asked, columns } from "./ask.js";
import { Problem } from "./problem.js";
import { TITLES, draw, possible, view, way } from "./state.js";

/** @typedef {import("./ask.js").Column} Column */
/** @typedef {import("./ask.js").Draw} Draw */

export function Ways() {
  const impossible = (possible.value ?? []).filter(({ why_not }) => why_not);
  return html`
    <${Problem} />
    ${impossible.map(({ way: which, why_not }) => html`<p key=${which} class="why-not"><strong>${TITLES[which]}:</strong> not for this model: ${why_not}.</p>`)}
    ${columns.value.length > 0 && html`<h2>${asked.value.question}</h2>
      <div class="three">${columns.value.map((column) => html`<${Mode} key=${column.way} column=${column} />`)}</div>
      <p class="hint">${`FLOP (floating-point operations) are counted as 2 × parameters × tokens written: a token takes one pass through the network, in which
        each parameter is multiplied and added once. What is read is counted apart: all of it passes through the network at the same time.`}</p>`}`;
}

/** @param {{column: Column}} props */
function Mode({ column }) {
  const { draws, error, done } = column;
  const ended = draws.filter((one) => one.ended);
  const right = ended.filter((one) => one.ended?.right).length;
  const judged = ended.some((one) => one.ended?.right !== null);
  const shown = draws[Math.min(draw.value, draws.length - 1)];
  const title = TITLES[column.way];
  return html`<section class="card mode" aria-label=${title}>
    <h3>${title}</h3>
    <p class="hint says">“${column.asked}”${column.way === "calculator" && " and the calculator on offer"}</p>
    ${draws.length > 1 && html`<p class="share" role="status">${judged ? html`<strong>${right} of ${ended.length} right</strong> (${percent(right / Math.max(1, ended.length))})`
      : `${ended.length} of ${draws.length} answers`}</p>
      <${Chips} draws=${draws} title=${title} />`}
    <${Answer} shown=${shown} calculator=${column.way === "calculator"} />
    <${ErrorNote} error=${error} />
    ${!shown.ended && !error && (done ? html`<p class="hint">stopped</p>` : html`<p><${Busy}>thinking …<//></p>`)}
    <${Cost} shown=${shown} draws=${draws} />
    ${shown.rounds.length > 0 && html`<${Button} onClick=${() => {
      history.pushState(history.state, "", location.href);
      way.value = column.way;
      view.value = "passes";
    }} label=${`${title}: token by token`}>Token by token<//>`}
  </section>`;
}

const SIGNS = { right: "✓", wrong: "✗", open: "?", unended: "…" };

/** @param {Draw} one @returns {keyof typeof SIGNS} */
const stateOf = ({ ended }) => (!ended ? "unended" : ended.right === null ? "open" : ended.right ? "right" : "wrong");

/** @param {{draws: Draw[], title: string}} props */
function Chips({ draws, title }) {
  return html`<div class="chips" role="group" aria-label=${`draws ${title.toLowerCase()}`}>${draws.map((one, i) => html`<button type="button" key=${i} class=${`chip ${stateOf(one)}`}
    aria-pressed=${i === draw.value} aria-label=${`draw ${i + 1}: ${{ right: "right", wrong: "wrong", open: "not judged", unended: "not finished" }[stateOf(one)]}`}
    onClick=${() => (draw.value = i)}>${SIGNS[stateOf(one)]}</button>`)}</div>`;
}

/** @param {{shown: Draw, calculator: boolean}} props */
function Answer({ shown, calculator }) {
  const { rounds, steps, ended } = shown;
  const text = ended ? ended.text : (rounds[rounds.length - 1]?.text ?? "");
  return html`
    ${steps.length > 0 && html`<ol class="steps">${steps.flatMap((step, i) => (step.calls
      ? step.calls.map((call, j) => html`<li key=${`${i} ${j}`}><span class="tag">calls ${call.name}</span> <code>${call.arguments.expression ?? JSON.stringify(call.arguments)}</code></li>`)
      : [html`<li key=${i}><span class="tag">reads</span> <code>${step.result}</code></li>`]))}</ol>`}
    <p class="answer says"><${Marked} text=${text} place=${ended?.fault?.place ?? null} /></p>
    ${ended && html`<p class="verdict">${ended.right !== null && html`<span class=${`mark ${ended.right ? "right" : "wrong"}`}>${ended.right ? "✓ right" : "✗ wrong"}</span> `}
      ${ended.right === null && html`<span class="hint">Whether it is right is not known: no right answer was given. </span>`}
      ${ended.why === "length" && html`<span class="tag">cut off</span> `}
      ${ended.fault && html`<span class="fault">${ended.fault.kind === "unworked" ? "" : ended.right !== false ? "On the way: " : ended.fault.kind === "call" ? "It first goes wrong in its call: " : "It first goes wrong here: "}${ended.fault.says}.</span>`}
      ${calculator && !steps.length && " It did not call the calculator."}</p>`}`;
}

/** The text with the place where it first goes wrong; places count characters as Python does. @param {{text: string, place: [number, number] | null}} props */
function Marked({ text, place }) {
  if (!place) return text;
  const signs = Array.from(text);
  const part = (/** @type {number} */ begin, /** @type {number} */ end) => signs.slice(begin, end).join("");
  return html`${part(0, place[0])}<mark>${part(place[0], place[1])}</mark>${part(place[1], signs.length)}`;
}

/** @param {{shown: Draw, draws: Draw[]}} props */
function Cost({ shown, draws }) {
  const written = shown.rounds.reduce((sum, round) => sum + round.tokens.length, 0);
  const parameters = modelNamed(asked.value.model)?.parameters ?? 0;
  const last = shown.rounds[shown.rounds.length - 1];
  if (!last) return null;
  const read = last.prompt.length + last.tokens.length - written;
  const ended = draws.flatMap((one) => (one.ended ? [one.ended.written] : []));
  const mean = ended.reduce((sum, n) => sum + n, 0) / Math.max(1, ended.length);
  return html`<dl class="cost">
    <div><dt>tokens written</dt><dd>${written.toLocaleString("en")}${ended.length > 1 && html` <small>(mean of ${ended.length}: ${mean.toFixed(1)})</small>`}</dd></div>
    <div><dt>passes, one after the other</dt><dd>${written.toLocaleString("en")}</dd></div>
    <div><dt>FLOP for them</dt><dd>${brief(2 * parameters * written)} <small>= 2 × ${brief(parameters)} × ${written}</small></dd></div>
    <div><dt>tokens read</dt><dd>${read.toLocaleString("en")} <small>(${brief(2 * parameters * read)} FLOP)</small></dd></div>
  </dl>`;
}

