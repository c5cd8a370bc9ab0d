/** The merges that turn a text's bytes into its tokens, one after the other. */

import { html } from "htm/preact";
import { signal, useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { useAnswer } from "../../common/answer.js";
import { post, wellFormed } from "../../common/api.js";
import { urlState } from "../../common/state.js";
import { Busy, Button, ErrorNote, Select } from "../../common/ui.js";
import { encodings, readable, text, titleOf } from "./state.js";

/**
 * steps: four numbers for each: where it begins, where its parts meet (the beginning for a whole piece that is looked up),
 * where it ends, and its rank. removed: at which step the border before each byte goes.
 * @typedef {{bytes: Uint8Array, steps: Uint32Array, n: number, removed: Uint32Array, groups: Uint32Array}} Merges
 */

const PAUSE = 120; // milliseconds without a key before the server is asked
const AROUND = 300; // bytes that are shown on both sides of a merge
const NEVER = 0xffffffff;
const BEAT = 350; // milliseconds of a step while it plays

/** @type {import("@preact/signals").Signal<string>} */
const encoding = urlState("of", "run");
/** @type {import("@preact/signals").Signal<number>} */
const step = urlState("step", -1); // −1 is the last one
/** @type {import("@preact/signals").Signal<Merges | null>} */
const merges = signal(null);

export function Replay() {
  const failure = useAnswer(merges, async (signal) => {
    return read(await post("/app/tokens/merges", { text: wellFormed(text.value), encoding: encoding.value }, { signal }));
  }, [text.value, encoding.value], PAUSE);
  const options = encodings.value.map(({ name }) => ({ value: name, label: titleOf(name) }));
  return html`
    <p>An encoding begins with single bytes. Again and again it merges the two neighbours that it learned to merge first: those
      with the lowest rank, which is also the id of what they become. It stops where no two neighbours are a token.</p>
    <div class="controls"><${Select} label="Encoding" value=${encoding} options=${options} /></div>
    <${ErrorNote} error=${failure} />
    ${merges.value ? html`<${Player} merges=${merges.value} />` : !failure && html`<${Busy} />`}`;
}

/** @param {{header: any, arrays: Record<string, import("../../common/tensors.js").Tensor>}} answer @returns {Merges} */
function read({ header, arrays }) {
  const bytes = new TextEncoder().encode(header.text);
  const steps = /** @type {Uint32Array} */ (arrays.steps.data);
  const n = arrays.steps.shape[0];
  const removed = new Uint32Array(bytes.length + 1).fill(NEVER);
  for (let i = 0; i < n; i += 1) {
    for (let at = steps[4 * i] + 1; at < steps[4 * i + 2]; at += 1) removed[at] = Math.min(removed[at], i + 1);
  }
  return { bytes, steps, n, removed, groups: /** @type {Uint32Array} */ (arrays.groups0.data) };
}

/** @param {{merges: Merges}} props */
function Player({ merges }) {
  const playing = useSignal(false);
  const now = step.value < 0 ? merges.n : Math.min(step.value, merges.n);
  const go = (/** @type {number} */ to) => (step.value = Math.max(0, Math.min(merges.n, to)));
  useEffect(() => {
    if (!playing.value) return undefined;
    const timer = setInterval(() => {
      go(step.peek() + 1);
      if (step.peek() >= merges.n) playing.value = false;
    }, BEAT);
    return () => clearInterval(timer);
  }, [playing.value, merges]);
  const play = () => {
    if (now >= merges.n) go(0);
    else go(now);
    playing.value = !playing.value;
  };
  /** @param {Event & {currentTarget: HTMLInputElement}} event */
  const slide = (event) => go(event.currentTarget.valueAsNumber);
  return html`
    <div class="card player">
      <div class="keys">
        <${Button} onClick=${() => go(0)} label="to the bytes" disabled=${now === 0}>|◀<//>
        <${Button} onClick=${() => go(now - 1)} label="one merge back" disabled=${now === 0}>◀<//>
        <${Button} kind="main" onClick=${play}>${playing.value ? "Pause" : "Play"}<//>
        <${Button} onClick=${() => go(now + 1)} label="one merge on" disabled=${now === merges.n}>▶<//>
        <${Button} onClick=${() => go(merges.n)} label="to the tokens" disabled=${now === merges.n}>▶|<//>
        <input type="range" min="0" max=${merges.n} value=${now} onInput=${slide}
          aria-label="merge; arrow keys go from one to the next, Home and End to the ends" />
        <output>merge ${now.toLocaleString("en")} of ${merges.n.toLocaleString("en")}</output>
      </div>
      <${Said} merges=${merges} now=${now} />
      <${State} merges=${merges} now=${now} />
    </div>
    <p class="hint">Keys on the slider: <kbd>←</kbd> <kbd>→</kbd> one merge, <kbd>Home</kbd> the bytes, <kbd>End</kbd> the tokens.</p>`;
}

/** The merge in words. @param {{merges: Merges, now: number}} props */
function Said({ merges, now }) {
  if (now === 0) return html`<p class="said" role="status">${merges.bytes.length.toLocaleString("en")} single bytes</p>`;
  const [begin, middle, end, rank] = merges.steps.subarray(4 * (now - 1), 4 * now);
  const part = (/** @type {number} */ from, /** @type {number} */ to) => {
    return html`<span class="token colour-0">${readable(merges.bytes.subarray(from, to))}</span>`;
  };
  return html`<p class="said" role="status">${middle === begin
    ? html`a whole piece that is a token, though no merges lead to it: ${part(begin, end)}`
    : html`${part(begin, middle)} + ${part(middle, end)} → ${part(begin, end)}`} <span>rank ${rank}</span></p>`;
}

/** The text after a merge; of a long one the surroundings. @param {{merges: Merges, now: number}} props */
function State({ merges, now }) {
  const at = now ? merges.steps[4 * (now - 1)] : 0;
  const end = now ? merges.steps[4 * (now - 1) + 2] : 0;
  const isBorder = (/** @type {number} */ byte) => merges.removed[byte] > now;
  let from = Math.max(0, at - AROUND);
  while (from > 0 && merges.removed[from] !== NEVER) from -= 1;
  let to = Math.min(merges.bytes.length, Math.max(end, at) + AROUND);
  while (to < merges.bytes.length && merges.removed[to] !== NEVER) to += 1;
  const parts = [];
  let begin = from;
  for (let byte = from + 1; byte <= to; byte += 1) {
    if (byte < to && !isBorder(byte)) continue;
    const text = readable(merges.bytes.subarray(begin, byte));
    const isNew = now > 0 && begin === at;
    const settled = merges.removed[begin] === NEVER || begin === 0;
    parts.push(html`<span key=${begin} class=${`token colour-${settled ? 2 : 4}${isNew ? " hot" : ""}`}>${text}</span>`);
    if (text.includes("⏎")) parts.push("\n");
    begin = byte;
  }
  return html`<div class="tokens state" role="group" tabindex="0" aria-label="the text after this merge">
    ${from > 0 && "… "}${parts}${to < merges.bytes.length && " …"}</div>`;
}
