/** Ranking: a person puts answers in order, as annotators do from whose orders a reward model is made. */

import { html } from "htm/preact";
import { signal } from "@preact/signals";
import { useEffect, useRef, useState } from "preact/hooks";
import { get } from "../../common/api.js";
import { urlState } from "../../common/state.js";
import { Busy, Button, ErrorNote, Tabs, Toggle } from "../../common/ui.js";
import { Agreement } from "./agreement.js";
import { Board } from "./board.js";
import { Files } from "./files.js";
import { annotator, begin, busy, failure, keysAct, leave, progress, secondsSpent, shown, undo, watch } from "./session.js";
import { Settings } from "./settings.js";

export const title = "Ranking";

/**
 * @typedef {{guidelines: string, questions: number | null, problem: string | null, most_answers: number,
 *   reward_model: boolean}} RankingAbout
 */

const view = urlState("view", /** @type {string} */ ("rank"));
const known = signal(/** @type {RankingAbout | null} */ (null));
const trouble = signal(/** @type {Error | null} */ (null));

const TABS = [
  { id: "rank", title: "Rank" },
  { id: "agreement", title: "Agreement" },
  { id: "files", title: "Files" },
];

export default function Page() {
  useEffect(() => {
    get("/app/ranking/about").then((told) => (known.value = told), (error) => (trouble.value = error));
  }, []);
  return html`
    <h1>Ranking</h1>
    ${!(annotator.value && view.value === "rank") && html`<p class="lead">Several answers to one question: put them in order, best first. From such orders a reward model learns what
      people prefer, and reinforcement learning from human feedback makes a model that pleases it.</p>`}
    <${Tabs} label="Views of this page" value=${view} tabs=${TABS} />
    <${ErrorNote} error=${trouble.value} />
    ${known.value && (view.value === "agreement" ? html`<${Agreement} />`
      : view.value === "files" ? html`<${Files} />`
      : known.value.problem ? html`<p class="card">There is nothing to rank: ${known.value.problem}.</p>`
      : annotator.value ? html`<${Session} guidelines=${known.value.guidelines} />`
      : html`<${Start} about=${known.value} />`)}`;
}

/** @param {{about: RankingAbout}} props */
function Start({ about }) {
  const box = useRef(/** @type {HTMLInputElement | null} */ (null));
  const start = (/** @type {Event} */ event) => {
    event.preventDefault();
    if (box.current?.value.trim()) begin(box.current.value);
  };
  return html`<form class="start card" onSubmit=${start}>
    <div class="field">
      <label for="annotator">Who is ranking?</label>
      <input id="annotator" ref=${box} maxlength="100" required autocomplete="nickname" />
      <small class="hint">Any name. Under the same name you go on where you ended; others have orders of their own, so
        that it can be measured how far you agree.</small>
    </div>
    <${Settings} mostAnswers=${about.most_answers} />
    <${Guidelines} text=${about.guidelines} open=${true} />
    <p><button class="button main">Start</button> <span class="hint">${about.questions?.toLocaleString("en")} questions are
      waiting.</span></p>
  </form>`;
}

/** @param {{guidelines: string}} props */
function Session({ guidelines }) {
  useEffect(watch, [annotator.value]);
  const { done = 0, total = 0 } = progress.value ?? {};
  return html`
    <div class="where">
      <span>as <strong>${annotator.value}</strong> <${Button} kind="quiet" onClick=${leave}>change<//></span>
      <span class="done"><progress id="done" max=${total || 1} value=${done}></progress>
        <label for="done">${done} of ${total}</label></span>
      <${Clock} />
      ${busy.value && html`<${Busy}>${shown.value ? "working …" : "the models are writing answers …"}<//>`}
    </div>
    <${ErrorNote} error=${failure.value} />
    ${shown.value && html`<${Question} messages=${shown.value.messages} /><${Board} /><${Keys} />`}
    ${!shown.value && progress.value && !busy.value && !failure.value && html`<div class="card" role="status">
      <p>All ${total} are done. Thank you! How far you agree with others and with yourself is under Agreement.</p>
      <p><${Button} onClick=${undo}>Undo the last one<//></p></div>`}
    <${Guidelines} text=${guidelines} />`;
}

/** @param {{messages: import("./session.js").Message[]}} props */
function Question({ messages }) {
  const alone = messages.length === 1;
  return html`<section class="question" aria-label="The question">
    ${messages.map((message, i) => html`<div key=${i}>${!alone && html`<span class="tag">${message.role}</span> `}<span
      class="says">${message.content}</span></div>`)}
  </section>`;
}

/** Seconds spent on the answers on the screen; it stands still while the page is hidden. */
function Clock() {
  const [seconds, setSeconds] = useState(0);
  useEffect(() => {
    const tick = () => setSeconds(Math.floor(secondsSpent()));
    tick();
    const timer = setInterval(tick, 1000);
    return () => clearInterval(timer);
  }, [shown.value?.id]);
  const text = `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
  return html`<span class="clock" title="time spent on this question; it stands still while the page is hidden">${text}</span>`;
}

function Keys() {
  return html`<p class="hint keys">
    <kbd>1</kbd>–<kbd>9</kbd> places an answer next · <kbd>Backspace</kbd> takes the last one out · <kbd>=</kbd> ties it with the
    one before · on a handle ⠿: <kbd>Space</kbd> picks up, arrows move, <kbd>Esc</kbd> gives up ·${" "}
    <${Toggle} label="keys of one character act" value=${keysAct} /></p>`;
}

/** @param {{text: string, open?: boolean}} props */
function Guidelines({ text, open = false }) {
  return html`<details class="guidelines" open=${open}><summary>Guidelines</summary><div class="says">${text}</div></details>`;
}
