/** The parts that all pages are made of. Text is always given as text: nothing here makes HTML of it. */

import { html } from "htm/preact";
import { useId } from "preact/hooks";
import { about, modelNamed } from "./about.js";

/** @typedef {any} Children */
/** @typedef {import("@preact/signals").Signal<any>} AnySignal */

/**
 * A control with its label; the label's words are also what a screen reader says.
 * @param {{label: Children, hint?: Children, children: (id: string) => any}} props
 */
export function Field({ label, hint, children }) {
  const id = useId();
  return html`<div class="field">
    <label for=${id}>${label}</label>
    ${children(id)}
    ${hint && html`<small class="hint">${hint}</small>`}
  </div>`;
}

/**
 * A number as a slider and as a box to type into.
 * @param {{label: Children, value: AnySignal, min: number, max: number, step: number, hint?: Children,
 *   onInput?: () => void}} props
 */
export function Slider({ label, value, min, max, step, hint, onInput }) {
  const id = useId();
  /** @param {Event & {currentTarget: HTMLInputElement}} event */
  const take = (event) => {
    const number = event.currentTarget.valueAsNumber;
    if (!Number.isFinite(number)) return; // while it is being typed
    value.value = Math.min(max, Math.max(min, number));
    onInput?.();
  };
  return html`<div class="field slider">
    <label for=${id}>${label}</label>
    <span class="pair">
      <input id=${id} type="range" min=${min} max=${max} step=${step} value=${value.value} onInput=${take} />
      <input type="number" min=${min} max=${max} step=${step} value=${value.value} onChange=${take}
        aria-labelledby=${`${id}-n`} />
      <span id=${`${id}-n`} hidden>${label}, as a number</span>
    </span>
    ${hint && html`<small class="hint">${hint}</small>`}
  </div>`;
}

/**
 * One of several.
 * @param {{label: Children, value: AnySignal, options: {value: string, label: string}[], hint?: Children,
 *   onChange?: (value: string) => void}} props
 */
export function Select({ label, value, options, hint, onChange }) {
  /** @param {Event & {currentTarget: HTMLSelectElement}} event */
  const take = (event) => {
    value.value = event.currentTarget.value;
    onChange?.(value.value);
  };
  return html`<${Field} label=${label} hint=${hint}>
    ${(/** @type {string} */ id) => html`<select id=${id} value=${value.value} onChange=${take}>
      ${options.map((option) => html`<option key=${option.value} value=${option.value}>${option.label}</option>`)}
    </select>`}
  <//>`;
}

/**
 * A box to tick.
 * @param {{label: Children, value: AnySignal, onChange?: () => void, disabled?: boolean}} props
 */
export function Toggle({ label, value, onChange, disabled = false }) {
  const id = useId();
  const flip = () => {
    value.value = !value.value;
    onChange?.();
  };
  return html`<span class="toggle">
    <input id=${id} type="checkbox" checked=${value.value} disabled=${disabled} onChange=${flip} /><label for=${id}>${label}</label>
  </span>`;
}

/**
 * @param {{onClick: (event: Event) => void, children: Children, kind?: "plain" | "main" | "quiet", disabled?: boolean,
 *   title?: string, pressed?: boolean, label?: string}} props label: what is read out, where that differs
 */
export function Button({ onClick, children, kind = "plain", disabled = false, title, pressed, label }) {
  return html`<button type="button" class=${`button ${kind}`} onClick=${onClick} disabled=${disabled} title=${title}
    aria-pressed=${pressed} aria-label=${label}>${children}</button>`;
}

/**
 * Views of which one is shown; arrow keys move between them, as the ARIA Authoring Practices ask of tabs.
 * @param {{label: string, value: AnySignal, tabs: {id: string, title: string}[]}} props
 */
export function Tabs({ label, value, tabs }) {
  /** The back button returns to the tab that was left. @param {string} id */
  const choose = (id) => {
    if (id !== value.value) history.pushState(history.state, "", location.href);
    value.value = id;
  };
  /** @param {KeyboardEvent & {currentTarget: HTMLElement}} event */
  const move = (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const now = tabs.findIndex((tab) => tab.id === value.value);
    const next = (now + step + tabs.length) % tabs.length;
    choose(tabs[next].id);
    /** @type {HTMLElement} */ (event.currentTarget.children[next]).focus();
    event.preventDefault();
  };
  return html`<div class="tabs" role="tablist" aria-label=${label} onKeyDown=${move}>
    ${tabs.map((tab) => html`<button type="button" role="tab" key=${tab.id} aria-selected=${tab.id === value.value}
      tabindex=${tab.id === value.value ? 0 : -1} onClick=${() => choose(tab.id)}>${tab.title}</button>`)}
  </div>`;
}

/**
 * An abbreviation with what it is short for, in words where it first appears and on hover afterwards.
 * @param {{short: string, long: string, first?: boolean}} props
 */
export function Term({ short, long, first = false }) {
  return first ? html`${long} (<abbr>${short}</abbr>)` : html`<abbr title=${long}>${short}</abbr>`;
}

/** What went wrong, read out at once; nothing where nothing did. @param {{error: Error | null}} props */
export function ErrorNote({ error }) {
  return error && html`<p class="error" role="alert">${error.message}</p>`;
}

/** What may be wider than the window, such as a table; keys scroll it. @param {{label: string, children: Children}} props */
export function Wide({ label, children }) {
  return html`<div class="wide" role="region" aria-label=${label} tabindex="0">${children}</div>`;
}

/** @param {{children?: Children}} props */
export function Busy({ children = "working …" }) {
  return html`<span class="busy" role="status">${children}</span>`;
}

/**
 * Which of the run's models; nothing to choose where there is one.
 * @param {{value: AnySignal, label?: string, onChange?: (value: string) => void, chatOnly?: boolean}} props
 *   value: a stage or a name; empty is the default model
 */
export function ModelPicker({ value, label = "Model", onChange, chatOnly = false }) {
  const models = (about.value?.models ?? []).filter((model) => !(chatOnly && model.base));
  const chosen = modelNamed(value.value)?.name;
  const options = models.map((model) => {
    const stage = model.stage === "pretrain" ? "base" : model.stage; // as on the command line
    return {
      // the chosen one under the name by which it was chosen, which may be its full name or "pretrain"
      value: model.name === chosen ? value.value : model.name === about.value?.default ? "" : (stage ?? model.name),
      label: model.title === model.name ? model.name : `${stage}: ${model.title}`,
    };
  });
  return html`<${Select} label=${label} value=${value} options=${options} onChange=${onChange} />`;
}

const VISIBLE = new Map([[" ", "·"], ["\n", "⏎"], ["\r", "␍"], ["\t", "⇥"], ["\u00a0", "⍽"]]);
const UNSEEN = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Zs}\p{Cs}\p{Co}]/u;

/**
 * Text with its white space and control characters made visible.
 * @param {string} text
 * @returns {string}
 */
export function visible(text) {
  return Array.from(text, (character) => {
    const sign = VISIBLE.get(character);
    if (sign) return sign;
    return UNSEEN.test(character) ? `⟨${character.codePointAt(0)?.toString(16)}⟩` : character;
  }).join("");
}

/**
 * A token's text with visible white space; bytes in hexadecimal where it is only a part of a character.
 * @param {{text: string | null, bytes?: string, control?: boolean}} props bytes: in hexadecimal
 */
export function TokenText({ text, bytes = "", control = false }) {
  if (text === null) return html`<span class="token-bytes">${bytes.match(/../g)?.map((byte) => `⟨${byte}⟩`).join("")}</span>`;
  return html`<span class=${control ? "token-control" : "token-text"}>${control ? text : visible(text)}</span>`;
}

/**
 * A share as per cent, with as many digits as tell something.
 * @param {number} share
 * @returns {string}
 */
export function percent(share) {
  if (share === 0) return "0 %";
  if (share < 0.0005) return "<0.1 %";
  return `${(100 * share).toFixed(share < 0.1 ? 2 : 1)} %`;
}
