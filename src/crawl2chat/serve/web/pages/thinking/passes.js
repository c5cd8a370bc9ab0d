/** One answer token by token: each took a pass through the network, and in each the model was more or less sure. */

import { html } from "htm/preact";
import { signal } from "@preact/signals";
import { useEffect, useMemo } from "preact/hooks";
import { modelNamed } from "../../common/about.js";
import { useAnswer } from "../../common/answer.js";
import { post } from "../../common/api.js";
import { brief, choices } from "../../common/numbers.js";
import { COLOURS, Legend, Tokens } from "../../common/overlay.js";
import { Plot } from "../../common/plot.js";
import { Busy, Button, ErrorNote, Select, percent, visible } from "../../common/ui.js";
import { asked, columns } from "./ask.js";
import { Problem } from "./problem.js";
import { TITLES, colour, draw, way } from "./state.js";

/** @typedef {import("./ask.js").Draw} Draw */
/** @typedef {import("./ask.js").Token} Token */

const MOST_UNSURE = 3;
/** Of each round of the answer, the entropy of each token, in nats. @type {import("@preact/signals").Signal<number[][] | null>} */
const entropies = signal(null);
/** The token that is looked at, counted over all rounds. @type {import("@preact/signals").Signal<number | null>} */
const at = signal(null);

export function Passes() {
  const column = columns.value.find((one) => one.way === way.value) ?? columns.value[0];
  if (!column) return html`<${Problem} /><p class="hint">Have it think about a problem first; then its answers are shown here.</p>`;
  const shown = column.draws[Math.min(draw.value, column.draws.length - 1)];
  const drawn = column.draws.map((one, i) => ({ value: String(i), label: `${i + 1}${one.ended?.right === true ? ": right" : one.ended?.right === false ? ": wrong" : ""}` }));
  return html`
    <h2>${asked.value.question}</h2>
    <div class="controls">
      <${Select} label="Way" value=${way} options=${columns.value.map((one) => ({ value: one.way, label: TITLES[one.way] }))} />
      ${drawn.length > 1 && html`<${Select} label="Draw" value=${{ get value() { return String(draw.value); }, set value(text) { draw.value = Number(text); } }} options=${drawn} />`}
      <${Select} label="Colour of tokens" value=${colour} options=${COLOURS} />
    </div>
    <${Answer} key=${`${column.way} ${draw.value}`} shown=${shown} title=${TITLES[column.way]} />`;
}

/** @param {{shown: Draw, title: string}} props */
function Answer({ shown, title }) {
  const { rounds, steps, ended } = shown;
  const failure = useAnswer(entropies, async (signal) => (ended ? Promise.all(rounds.map((round) => entropiesOf(round, signal))) : null), [ended]);
  useEffect(() => () => {
    entropies.value = at.value = null; // of another answer
  }, []);
  const tokens = rounds.flatMap((round) => round.tokens);
  const fits = entropies.value?.length === rounds.length && entropies.value.every((of, i) => of.length === rounds[i].tokens.length);
  const byRound = fits ? entropies.value : null; // not yet those of an answer that was looked at before
  const known = useMemo(() => byRound?.flat() ?? null, [byRound]);
  const parameters = modelNamed(asked.value.model)?.parameters ?? 0;
  if (!tokens.length) return html`<${Busy}>thinking …<//>`;
  let before = 0;
  const starts = rounds.map((round) => (before += round.tokens.length) - round.tokens.length);
  const fault = ended?.fault?.token ?? null;
  const wrong = fault === null ? null : starts[starts.length - 1] + fault;
  return html`
    <p>${`${tokens.length} tokens, so ${tokens.length} passes through all ${brief(parameters)} parameters, one after the other: each needs the token before it. `}
      ${`The whole answer had a probability of ${percent(Math.exp(tokens.reduce((sum, token) => sum + token.p, 0)))}.`}</p>
    <${Legend} colour=${colour.value} />
    ${rounds.map((round, i) => html`<div key=${i} class="round">
      ${i > 0 && html`<p><span class="tag">reads</span> <code>${steps.filter((step) => step.result !== undefined)[i - 1]?.result}</code> <span class="hint">tokens that it did not write</span></p>`}
      <${Tokens} answer=${{ pieces: round.tokens.map(pieceOf), logprobs: round.tokens.map((token) => token.p), entropies: byRound?.[i] }}
        label=${`${title}${rounds.length > 1 ? `, part ${i + 1}` : ""}`} colour=${colour.value} at=${within(starts[i], round.tokens.length)}
        marked=${i === rounds.length - 1 ? fault : null} />
    </div>`)}
    ${wrong !== null && html`<p class="verdict">${ended?.right === false ? "It first goes wrong" : "A step is false"} at token ${wrong + 1}: ${ended?.fault?.says}.
      ${known && ` There it was as undecided as among ${choices(known[wrong])} equal choices.`}</p>`}
    <${ErrorNote} error=${failure} />
    ${!ended ? html`<p class="hint">How undecided it was is read when the answer has ended.</p>` : !known ? !failure && html`<${Busy}>reading the answer once more …<//>`
      : html`<${Unsure} tokens=${tokens} known=${known} /><${Curve} known=${known} tokens=${tokens} wrong=${wrong} />`}`;
}

/** @param {{tokens: Token[], known: number[]}} props */
function Unsure({ tokens, known }) {
  const order = known.map((_, i) => i).sort((a, b) => known[b] - known[a]).slice(0, MOST_UNSURE);
  return html`<h3>Where it was most undecided</h3>
    <ol class="unsure">${order.map((i) => html`<li key=${i}><${Button} kind="quiet" onClick=${() => (at.value = i)} pressed=${at.value === i}>token ${i + 1}<//>${" "}
      <code>${visible(pieceOf(tokens[i])) || "part of a character"}</code> had ${percent(Math.exp(tokens[i].p))}; entropy ${known[i].toFixed(2)} nats, as undecided as among ${choices(known[i])} equal choices</li>`)}</ol>`;
}

/** @param {{known: number[], tokens: Token[], wrong: number | null}} props */
function Curve({ known, tokens, wrong }) {
  const [x, curves] = useMemo(() => {
    const surprise = Float32Array.from(tokens, (token) => -token.p);
    return [Float64Array.from(known, (_, i) => i + 1), [
      { label: "entropy", smooth: Float32Array.from(known), style: 0, points: known.length < 100 },
      { label: "surprise at the drawn token (−log of its probability)", smooth: surprise, style: 1, faint: true },
    ]];
  }, [known]);
  return html`<section class="card"><${Plot} title="How undecided the model was in each pass, nats" x=${x} curves=${curves} xName="token"
    xText=${(/** @type {number} */ n) => (Number.isInteger(n) ? `${n}` : "")} marks=${wrong === null ? [] : [wrong + 1]}
    at=${at.value === null ? undefined : at.value + 1} onPick=${(/** @type {number} */ n) => (at.value = Math.round(n) - 1)} /></section>`;
}

/** A token of one round as a place among all. @param {number} start @param {number} n */
function within(start, n) {
  return {
    get value() {
      return at.value !== null && at.value >= start && at.value < start + n ? at.value - start : null;
    },
    set value(place) {
      at.value = place === null ? null : place + start;
    },
  };
}

/** @param {Token} token */
const pieceOf = (token) => token.text ?? "";

/**
 * The entropy before each written token: the model reads what it read and wrote once more.
 * @param {import("./ask.js").Round} round @param {AbortSignal} signal
 * @returns {Promise<number[]>}
 */
async function entropiesOf({ prompt, tokens }, signal) {
  const ids = [...prompt, ...tokens.map((token) => token.id)];
  const { arrays } = await post("/app/sampling/score", { ids, ...(asked.value.model ? { model: asked.value.model } : {}) }, { signal });
  return Array.from(/** @type {Float32Array} */ (arrays.entropy.data).subarray(prompt.length));
}
