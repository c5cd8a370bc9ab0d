/** How far a reward model was followed, what the annotator made of it, and the answers on the way. */

import { html } from "htm/preact";
import { useAnswer, useRegularly } from "../../common/answer.js";
import { post } from "../../common/api.js";
import { brief } from "../../common/numbers.js";
import { Busy, Button, ErrorNote, Field, Select, percent } from "../../common/ui.js";
import { Curves } from "./curves.js";
import { about, answers, by, loadAbout, placeOf, step, turnTo } from "./state.js";

const LIVE = 5000; // milliseconds between two looks for new checks, while the stage runs

export default function Page() {
  const failure = useRegularly(loadAbout, LIVE, () => Boolean(about.value?.finished));
  const found = about.value;
  const now = found?.policy[placeOf(found.policy)];
  const noAnswers = useAnswer(answers, async (signal) => (now && found.has_answers
    ? post("/app/preferences/answers", { step: now.step }, { signal }) : null), [now?.step, found?.has_answers], 60);
  return html`
    <h1>Preferences</h1>
    <p class="lead">A reward model has learned which answers are preferred, and stands for whoever ranked them (a proxy). Training follows it. At first
      the answers get better; followed too far, they earn reward in ways that nobody meant: the reward model is gamed.</p>
    <${ErrorNote} error=${failure} />
    ${!found ? html`<${Busy}>looking for checks …<//>` : found.problem ? html`<p class="card">${found.problem}</p>` : html`
      <${Steps} /><${Curves} /><${Kept} />
      <${ErrorNote} error=${noAnswers} />
      ${found.has_answers ? html`<${Answers} />` : html`<p class="card">This run was made by an earlier version, which did not keep the answers of
        each check. What it kept is in <code>prefer/samples.jsonl</code>.</p>`}`}`;
}

function Steps() {
  const found = about.value;
  if (!found) return null;
  const { policy, kept, peak, finished } = found;
  const at = placeOf(policy);
  const now = policy[at];
  const jumps = [
    { name: "start", to: policy[0].step }, { name: "kept", to: kept }, { name: "taste at its highest", to: peak },
    { name: "end", to: policy[policy.length - 1].step },
  ];
  return html`<div class="controls checks">
    <${Field} label=${`Check at step ${now.step}, ${brief(now.sqrt_kl)} √nats from the start`}>${(/** @type {string} */ id) => html`<input id=${id} type="range"
      min="0" max=${policy.length - 1} value=${at} aria-valuetext=${`step ${now.step}`}
      onInput=${(/** @type {any} */ event) => turnTo(policy, event.currentTarget.valueAsNumber)} />`}<//>
    ${jumps.map(({ name, to }) => to !== null && html`<${Button} key=${name} onClick=${() => turnTo(policy, policy.findIndex((check) => check.step === to))}
      pressed=${now.step === to}>${name}<//>`)}
    <${Select} label="By" value=${by} options=${[{ value: "distance", label: "distance from the start (√KL)" }, { value: "step", label: "steps" }]} />
    ${!finished && html`<span class="tag">the stage has not finished: new checks appear here</span>`}
  </div>`;
}

/** What the stopping rule kept, and how well the reward model knew the rankings to begin with. */
function Kept() {
  const found = about.value;
  if (!found) return null;
  const { policy, kept, peak, agreement } = found;
  const at = (/** @type {number | null} */ wanted) => policy.find((check) => check.step === wanted);
  const [chosen, best, end] = [at(kept), at(peak), policy[policy.length - 1]];
  return html`<section class="card" aria-label="what was kept">
    ${chosen && html`<p>The stopping rule sees only comparisons of answers with the start’s${chosen.compared ? "" : ", or the order of held-out pairs"}, never the
      taste itself. It kept step <b>${chosen.step}</b>${chosen.compared > 0 && html`, whose answers won ${chosen.wins} of ${chosen.compared} comparisons`}.
      ${best && chosen.gold !== null && html` The taste is <b>${brief(chosen.gold)}</b> points there; it was highest at step ${best.step} (${brief(best.gold)})
        and is ${brief(end.gold)} at the end.`}</p>`}
    ${agreement && html`<p>On rankings that it had not seen, the reward model orders <b>${agreement.right} of ${agreement.pairs}</b> pairs
      (${percent(agreement.right / Math.max(1, agreement.pairs))}) as the annotator did${agreement.ceiling !== null && html`; the
      annotator’s own taste, which decides with some noise, would order ${percent(agreement.ceiling)}`}. Of ${agreement.unequal} pairs of unequal length it
      rewards the longer answer in ${agreement.prefers_longer}; the annotator preferred it in ${agreement.longer_is_better}.</p>`}
  </section>`;
}

function Answers() {
  const found = answers.value;
  if (!found) return html`<${Busy}>reading answers …<//>`;
  const known = found.answers.some((answer) => answer.gamed !== null);
  const shown = found.step === 0 ? "the start" : `step ${found.step}`;
  return html`<section class="card" aria-label="answers">
    <h2>${known ? `The most gamed answers of ${shown}` : `The most rewarded answers of ${shown}`}</h2>
    <p class="hint">${known
      ? "First come answers whose reward stands highest above their taste, both in standard deviations among this check’s answers."
      : "Nobody knows the taste of whoever ranked, so the most rewarded answers come first."} ${found.answers.length} of ${found.count} are shown.</p>
    <ol class="judged">${found.answers.map((answer, i) => html`<li key=${i} class="pair">
      <p class="prompt">${answer.prompt}</p>
      <div class="sides"><${Side} title=${`at ${shown}`} judged=${answer} gamed=${answer.gamed} />
        ${step.value !== 0 && answer.start && found.step !== 0 && html`<${Side} title="the start’s answer" judged=${answer.start} />`}</div></li>`)}</ol>
  </section>`;
}

/** @param {{title: string, judged: import("./state.js").Judged, gamed?: number | null}} props */
function Side({ title, judged, gamed = null }) {
  return html`<div class="side"><h3>${title}</h3>
    <p class="says">${judged.text}${!judged.ended && html`<span class="hint"> … cut off</span>`}</p>
    <p class="facts"><span>reward <b>${brief(judged.proxy)}</b></span>${judged.gold !== null && html` <span>taste <b>${brief(judged.gold)}</b></span>`}
      ${gamed !== null && html` <span>gamed by <b>${brief(Number(gamed.toFixed(1)))}</b></span>`}</p></div>`;
}
