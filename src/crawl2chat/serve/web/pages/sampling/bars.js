/** The most probable next tokens, before and after the controls, and the way through the controls. */

import { html } from "htm/preact";
import { choices } from "../../common/numbers.js";
import { Button, TokenText, percent } from "../../common/ui.js";
import { at, line, rows, settings, step, take } from "./state.js";
import { NAMES, bits } from "./parts.js";

/** The controls in the order in which they act, with what each leaves. */
export function Pipeline() {
  const now = step.value;
  if (!now) return null;
  const setting = (/** @type {string} */ name) => (name === "presence_and_frequency"
    ? `${settings.presence_penalty.value} / ${settings.frequency_penalty.value}`
    : name === "logit_bias" ? settings.logit_bias.value
    : /** @type {any} */ (settings)[name].value);
  return html`<ol class="pipeline" aria-label="the controls, in the order in which they act">
    <li class="stage on"><strong>the model</strong><${Left} row=${0} step=${now} /></li>
    ${now.controls.map((name, i) => html`<li key=${name} class=${`stage ${now.active[i] ? "on" : "off"}`}>
      <strong>${NAMES[name] ?? name}</strong> ${now.active[i] ? html`<code class="setting">${setting(name)}</code>` : html`<span class="setting">off</span>`}
      ${now.active[i] && html`<${Left} row=${i + 1} step=${now} />`}</li>`)}
  </ol>`;
}

/** @param {{row: number, step: import("./state.js").Step}} props */
function Left({ row, step }) {
  const tokens = `${step.left[row].toLocaleString("en")} ${step.left[row] === 1 ? "token" : "tokens"} left`;
  return html`<span class="left">${`${tokens}, ${percent(step.model_mass[row])} of the model’s probability`}</span>`;
}

/** Entropy before and after. */
export function Doubt() {
  const now = step.value;
  if (!now) return null;
  const [first, last] = [now.entropy[0], now.entropy[now.entropy.length - 1]];
  return html`<p class="doubt">Entropy (how unsure): <strong>${bits(first)} bits</strong> before, <strong>${bits(last)} bits</strong> after
    the controls; as unsure as among <strong>${choices(first)}</strong> equal choices before (the perplexity), <strong>${choices(last)}</strong> after.</p>`;
}

export function Bars() {
  const now = step.value;
  if (!now) return null;
  const last = now.logprobs.length - 1;
  const here = line.value[at.value];
  /** @param {KeyboardEvent & {currentTarget: HTMLElement}} event */
  const move = (event) => {
    const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!by) return;
    const buttons = [...event.currentTarget.querySelectorAll("button")];
    const next = buttons[buttons.indexOf(/** @type {any} */ (document.activeElement)) + by];
    next?.focus();
    event.preventDefault();
  };
  const sum = (/** @type {number} */ row) => now.logprobs[row].reduce((total, log) => total + Math.exp(log), 0);
  const rest = now.vocabulary - now.ids.length;
  return html`<div class="bars-head" aria-hidden="true"><span>token</span><span>the model</span><span>after the controls</span></div>
  <ol class="bars" aria-label="most probable tokens; Enter takes one" onKeyDown=${move}>
    ${now.ids.map((id, i) => {
      const [before, after] = [Math.exp(now.logprobs[0][i]), Math.exp(now.logprobs[last][i])];
      const dropped = now.dropped[i] < 0 ? "" : NAMES[now.controls[now.dropped[i]]];
      return html`<li key=${i}><button type="button" class=${`bar ${dropped ? "dropped" : ""} ${id === here ? "here" : ""}`}
        onClick=${() => take(id, now.logprobs[0][i])} title=${`token ${id}; click to take it`}>
        <span class="what"><${TokenText} ...${now.tokens[i]} />${id === here && html` <span class="tag">taken</span>`}</span>
        <${Bar} share=${before} /><${Bar} share=${after} dropped=${dropped} /></button></li>`;
    })}
    ${rest > 0 && html`<li key="rest" class="bar rest"><span class="what">${rest.toLocaleString("en")} others</span>
      <${Bar} share=${Math.max(0, 1 - sum(0))} /><${Bar} share=${Math.max(0, 1 - sum(last))} /></li>`}
  </ol>
  <div class="controls">
    ${rows.value < 200 && html`<${Button} onClick=${() => (rows.value = Math.min(200, 2 * rows.value))}>Show more tokens<//>`}
    ${rows.value > 20 && html`<${Button} onClick=${() => (rows.value = 20)}>Show fewer<//>`}
  </div>`;
}

/** @param {{share: number, dropped?: string}} props */
export function Bar({ share, dropped = "" }) {
  return html`<span class="measure"><span class="track"><span class="fill moves" style=${{ width: `${100 * share}%` }}></span></span>
    <span class="figure">${dropped ? html`<span class="by">dropped: ${dropped}</span>` : percent(share)}</span></span>`;
}
