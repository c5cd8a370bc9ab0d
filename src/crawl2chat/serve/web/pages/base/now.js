/** An answer that a model gives now, word by word, and the form in which all views show it. */

import { html } from "htm/preact";
import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { stream } from "../../common/api.js";
import { Button, Busy, ErrorNote, ModelPicker } from "../../common/ui.js";
import { asked, model } from "./state.js";

/** end: what the server says of the whole answer. @typedef {{text: string, end: any, error: Error | null, busy: boolean}} Now */

/** @type {Now} */
const NOTHING = { text: "", end: null, error: null, busy: false };

/**
 * @returns {{now: Now, ask: (path: string, body: Record<string, any>) => Promise<void>, stop: () => void, clear: () => void}}
 */
export function useNow() {
  const now = useSignal(NOTHING);
  const asking = useRef(new AbortController());
  useEffect(() => () => asking.current.abort(), []);
  const clear = () => {
    asking.current.abort();
    now.value = NOTHING;
  };
  const stop = () => {
    asking.current.abort();
    now.value = { ...now.value, busy: false };
  };
  const ask = async (/** @type {string} */ path, /** @type {Record<string, any>} */ body) => {
    asking.current.abort();
    const mine = (asking.current = new AbortController());
    let text = "";
    let end = null;
    let frame = 0;
    const draw = () => {
      frame = 0;
      if (!mine.signal.aborted) now.value = { text, end: null, error: null, busy: true };
    };
    draw();
    try {
      await stream(path, { ...asked(), ...body }, {
        signal: mine.signal,
        onEvent: (event) => {
          text += event.text;
          if ("whole" in event) end = event;
          frame ||= requestAnimationFrame(draw);
        },
      });
      if (!mine.signal.aborted) now.value = { text, end, error: null, busy: false };
    } catch (problem) {
      if (!mine.signal.aborted) now.value = { text, end: null, error: /** @type {Error} */ (problem), busy: false };
    } finally {
      cancelAnimationFrame(frame);
    }
  };
  return { now: now.value, ask, stop, clear };
}

/**
 * What is asked, which model, and the button that asks it.
 * @param {{label: string, now: Now, onAsk: () => void, onStop: () => void, onModel?: () => void, disabled?: boolean, children?: any}} props
 */
export function AskNow({ label, now, onAsk, onStop, onModel, disabled = false, children }) {
  const send = (/** @type {Event} */ event) => {
    event.preventDefault();
    onAsk();
  };
  return html`<form onSubmit=${send}>${children}
      <div class="controls"><${ModelPicker} value=${model} onChange=${onModel} />
        <button class="button main" disabled=${disabled}>${label}</button>
        ${now.busy && html`<${Button} onClick=${onStop}>Stop<//>`}</div></form>
    <${ErrorNote} error=${now.error} />
    ${now.busy && html`<${Busy}>the model writes …<//>`}`;
}

/** Whether an answer is right, in words and with a sign. @param {{right: boolean | null | undefined}} props */
export function Mark({ right }) {
  if (right === null || right === undefined) return null;
  return html`<strong class=${`mark ${right ? "good" : "bad"}`}>${right ? "✓ right" : "✗ wrong"}</strong>`;
}
