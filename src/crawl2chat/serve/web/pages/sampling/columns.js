/** The same place at several settings, side by side. */

import { html } from "htm/preact";
import { batch, useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { stream } from "../../common/api.js";
import { choices } from "../../common/numbers.js";
import { Button, ErrorNote, TokenText } from "../../common/ui.js";
import { asBody, askStep, at, columns, controlValues, line, many, model, nPrompt, prompt, seed, settings, stopList } from "./state.js";
import { Bar } from "./bars.js";
import { bits, told } from "./parts.js";

const MOST = 6;
const SHOWN = 8;

export function Columns() {
  const add = (/** @type {Record<string, any>} */ values) => (columns.value = [...columns.value, JSON.stringify(values)]);
  return html`<section aria-label="several settings side by side">
    <h2>Side by side</h2>
    <p class="hint">Keep settings to compare them: each column shows this same place, and a continuation with the same seed.</p>
    <div class="controls">
      <${Button} onClick=${() => add(controlValues())} disabled=${columns.value.length >= MOST}>Add a column with these controls<//>
      ${columns.value.length === 0 && html`<${Button} onClick=${() => (columns.value = [0, 0.7, 1, 1.5].map((temperature) =>
        JSON.stringify({ ...controlValues(), temperature })))}>Compare four temperatures<//>`}
    </div>
    <div class="columns">${columns.value.map((kept, i) => html`<${Column} key=${`${i} ${kept}`} kept=${kept} index=${i} />`)}</div>
  </section>`;
}

/** @param {string} kept @returns {Record<string, any>} */
function read(kept) {
  const neutral = { temperature: 1, top_k: 0, top_p: 1, min_p: 0, repetition_penalty: 1, presence_penalty: 0, frequency_penalty: 0, logit_bias: "" };
  try {
    const values = JSON.parse(kept);
    return Object.fromEntries(Object.entries(neutral).map(([name, value]) => [name, typeof values[name] === typeof value ? values[name] : value]));
  } catch {
    return neutral;
  }
}

/** @param {{kept: string, index: number}} props */
function Column({ kept, index }) {
  const values = read(kept);
  const step = useSignal(/** @type {import("./state.js").Step | null} */ (null));
  const written = useSignal(/** @type {import("./state.js").Token[]} */ ([]));
  const error = useSignal(/** @type {Error | null} */ (null));
  const ids = line.value.slice(0, at.value);
  const where = `${model.value} ${nPrompt.value} ${ids.join()}`;
  useEffect(() => {
    if (!prompt.value) return;
    let stale = false;
    const abort = new AbortController();
    error.value = null;
    written.value = [];
    (async () => {
      try {
        const found = await askStep(ids, asBody(values), SHOWN);
        if (stale) return;
        step.value = found;
        const n = Math.min(nPrompt.value, ids.length);
        const body = { ...(model.value ? { model: model.value } : {}), prompt: ids.slice(0, n), answer: ids.slice(n), ...asBody(values),
          max_tokens: many.value, seed: seed.value, stop: stopList.value };
        await stream("/app/sampling/go", body, { signal: abort.signal, onEvent: (event) => (written.value = [...written.value, ...event.tokens]) });
      } catch (problem) {
        if (!stale) error.value = /** @type {Error} */ (problem);
      }
    })();
    return () => {
      stale = true;
      abort.abort();
    };
  }, [where, seed.value, many.value, stopList.value.join("\n")]);
  const use = () => batch(() => {
    for (const [name, value] of Object.entries(values)) /** @type {any} */ (settings)[name].value = value;
  });
  const now = step.value;
  const last = now ? now.logprobs.length - 1 : 0;
  const order = now ? now.ids.map((_, i) => i).sort((a, b) => now.logprobs[last][b] - now.logprobs[last][a]).slice(0, SHOWN) : [];
  return html`<div class="card column">
    <h3>${told(values)}</h3>
    <${ErrorNote} error=${error.value} />
    ${now && html`<p class="hint">${now.left[last].toLocaleString("en")} of ${now.vocabulary.toLocaleString("en")} tokens left; ${bits(now.entropy[last])} bits, ${choices(now.entropy[last])} equal choices</p>
      <ol class="small-bars">${order.map((i) => html`<li key=${i}><span class="what"><${TokenText} ...${now.tokens[i]} /></span>
        <${Bar} share=${Math.exp(now.logprobs[last][i])} /></li>`)}</ol>
      <p class="written">${written.value.map((token, i) => html`<${TokenText} key=${i} ...${token} />`)}</p>`}
    <div class="controls"><${Button} onClick=${use} label=${`use these controls: ${told(values)}`}>Use these<//>
      <${Button} onClick=${() => (columns.value = columns.value.filter((_, i) => i !== index))} label=${`remove the column ${told(values)}`}>Remove<//></div>
  </div>`;
}
