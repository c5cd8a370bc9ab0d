/** One question asked many times, of one or several models side by side: the answers fall into clusters. */

import { html } from "htm/preact";
import { signal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { about as server } from "../../common/about.js";
import { stream } from "../../common/api.js";
import { Button, Field, Slider } from "../../common/ui.js";
import { Clusters } from "./clusters.js";
import { about, accepted, chosenModels, groupName, models, nameOf, question, samples, seed, temperature } from "./state.js";

/**
 * @typedef {{index: number, text: string, right: boolean, refused: boolean}} Answer
 * @typedef {{said: string, agreement: number, refused: boolean, expected: string | null, right_share: number | null,
 *   knowledge: "known" | "maybe" | "unknown" | null}} Verdict
 * @typedef {{model: string, wanted: number, answers: Answer[], clusters: Record<string, number>, verdict: Verdict | null,
 *   error: Error | null, done: boolean}} Column
 */

const MOST_MODELS = 6;

const columns = signal(/** @type {Column[]} */ ([]));
const asked = signal("");
const running = signal(/** @type {AbortController | null} */ (null));

/** Ask all chosen models at once; each writes into its column as answers end. */
async function ask() {
  running.value?.abort();
  const abort = new AbortController();
  running.value = abort;
  asked.value = question.value.trim();
  columns.value = chosenModels().map((model) => ({ model, wanted: samples.value, answers: [], clusters: {}, verdict: null, error: null, done: false }));
  const body = {
    question: asked.value, answers: accepted.value.split("\n").map((line) => line.trim()).filter(Boolean).slice(0, 20),
    samples: samples.value, temperature: temperature.value, seed: seed.value,
  };
  await Promise.all(columns.value.map(({ model }, place) => one(place, { ...body, model }, abort)));
  if (running.value === abort) running.value = null;
}

/** @param {number} place @param {Record<string, any>} body @param {AbortController} abort */
async function one(place, body, abort) {
  /** @param {Partial<Column>} changes */
  const change = (changes) => {
    if (running.value === abort) columns.value = columns.value.map((column, i) => (i === place ? { ...column, ...changes } : column));
  };
  let frame = 0;
  /** @type {Answer[]} */
  let answers = [];
  /** @type {Record<string, number>} */
  let clusters = {};
  const draw = () => {
    frame = 0;
    change({ answers, clusters });
  };
  try {
    await stream("/app/honesty/ask", body, {
      signal: abort.signal,
      onEvent: (event) => {
        if (event.answers) {
          answers = [...answers, ...event.answers];
          clusters = event.clusters;
          frame ||= requestAnimationFrame(draw);
        } else change({ verdict: event });
      },
    });
  } catch (problem) {
    if (!abort.signal.aborted) change({ error: /** @type {Error} */ (problem) });
  }
  cancelAnimationFrame(frame);
  change({ answers, clusters, done: true });
}

export function Ask() {
  useEffect(() => () => running.peek()?.abort(), []);
  const send = (/** @type {Event} */ event) => {
    event.preventDefault();
    if (question.value.trim()) ask();
  };
  const has = server.value?.models ?? [];
  const chosen = chosenModels();
  return html`
    <form class="ask card" onSubmit=${send}>
      <${Suggestions} />
      <${Field} label="Question">${(/** @type {string} */ id) => html`<input id=${id} type="text" maxlength="4000" required value=${question.value}
        onInput=${(/** @type {any} */ event) => {
          question.value = event.currentTarget.value;
          accepted.value = "";
        }} />`}<//>
      <${Field} label="Accepted answers, one per line" hint="Without any, it is seen how far the answers agree, but not whether they are right. For questions of this run’s files they are known.">${(/** @type {string} */ id) => html`
        <textarea id=${id} rows="1" maxlength="2000" value=${accepted.value} onInput=${(/** @type {any} */ event) => (accepted.value = event.currentTarget.value)}></textarea>`}<//>
      <div class="numbers">
        <${Slider} label="How many times" value=${samples} min=${2} max=${100} step=${1} />
        <${Slider} label="Temperature (how freely the model draws)" value=${temperature} min=${0.1} max=${2} step=${0.1} />
      </div>
      ${has.length > 1 && html`<fieldset><legend>Which models</legend>${has.map((model) => html`<${Choice} key=${model.name} name=${nameOf(model)} title=${model.title} chosen=${chosen} />`)}</fieldset>`}
      <div class="controls"><button class="button main">Ask ${samples.value} times</button>
        <${Button} onClick=${() => {
          seed.value += 1;
          if (question.value.trim()) ask();
        }}>Ask again, other draws<//>
        ${running.value && html`<${Button} onClick=${() => running.value?.abort()}>Stop<//>`}</div>
    </form>
    ${columns.value.length > 0 && html`<h2>${asked.value}</h2>
      <div class="columns">${columns.value.map((column) => html`<${Clusters} key=${column.model} column=${column} />`)}</div>`}`;
}

/** @param {{name: string, title: string, chosen: string[]}} props */
function Choice({ name, title, chosen }) {
  const on = chosen.includes(name);
  const flip = () => (models.value = on ? chosen.filter((other) => other !== name) : [...chosen, name].slice(-MOST_MODELS));
  return html`<label class="toggle"><input type="checkbox" checked=${on} onChange=${flip} />${name}${title !== name ? `: ${title}` : ""}</label>`;
}

function Suggestions() {
  const known = about.value?.suggestions ?? [];
  if (!known.length) return null;
  const take = (/** @type {any} */ event) => {
    const one = known[Number(event.currentTarget.value)];
    event.currentTarget.value = "";
    if (!one) return;
    question.value = one.question;
    accepted.value = one.answers.join("\n");
  };
  const groups = [...new Set(known.map((one) => one.group))];
  return html`<${Field} label="A question of this run’s files">${(/** @type {string} */ id) => html`<select id=${id} onChange=${take}>
    <option value="">choose one …</option>
    ${groups.map((group) => html`<optgroup key=${group} label=${groupName(group)}>${known.map((one, i) => one.group === group
      && html`<option key=${i} value=${i}>${one.question}</option>`)}</optgroup>`)}</select>`}<//>`;
}
