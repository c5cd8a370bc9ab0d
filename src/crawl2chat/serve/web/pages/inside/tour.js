/** A guided tour: each step says one thing and shows it. */

import { html } from "htm/preact";
import { useEffect, useRef } from "preact/hooks";
import { Button } from "../../common/ui.js";
import {
  atShown, changeTexts, EXAMPLE, form, headShown, heads, layerShown, layers, pass, pinTexts, tour, text, view, writeChange,
} from "./state.js";
import { number, scoresOf } from "./words.js";

/** The heads with the highest induction score, in a block where there are some. */
function inductionHeads() {
  let best = { layer: 0, head: 0, score: -1 };
  for (let layer = 0; layer < layers.value; layer++) {
    for (let head = 0; head < heads.value; head++) {
      const score = Math.max(scoresOf(layer, head).induction, scoresOf(layer, head).random);
      if (score > best.score) best = { layer, head, score };
    }
  }
  return best;
}

const see = (/** @type {string} */ what, layer = 0, head = 0) => {
  view.value = what;
  layerShown.value = layer;
  headShown.value = head;
  atShown.value = -1;
};

/** @type {{title: string, says: () => string, target: string, set: () => void}[]} target: what is scrolled to */
export const STEPS = [
  {
    title: "A text, in pieces",
    says: () => "The model reads tokens: frequent pieces of text. They are shown below the text. The one with a frame is the position we look at: the last one, after which the model has to guess what comes next.",
    target: ".inside-head",
    set: () => see("network"),
  },
  {
    title: "The whole network",
    says: () => "This is all of it, drawn to scale. Each rectangle is a matrix of numbers that training has found. The same matrices are used for every text and every token.",
    target: ".network",
    set: () => see("network"),
  },
  {
    title: "A row of numbers per token",
    says: () => "The embedding gives each token a row of numbers. Every block adds to that row; the top strip is the row at first, the lowest what is left at the end.",
    target: ".view figure",
    set: () => see("stream"),
  },
  {
    title: "A block: first look around, then think",
    says: () => "Attention brings in something from other tokens. Then a multi-layer perceptron (MLP) works on this token alone. Both add their result to the row. Follow the strips downwards.",
    target: ".strips",
    set: () => see("block"),
  },
  {
    title: "Attention",
    says: () => "A row for each token, a column for each token it looks back at; brighter or darker is more. Nobody sees the future: half of the square is empty. Point at a cell to see how its number comes about.",
    target: ".maps",
    set: () => see("head"),
  },
  {
    title: "A head that copies",
    says: () => {
      const { layer, head, score } = inductionHeads();
      return `Head ${head + 1} of block ${layer + 1} does this more than any other: it finds the present token further up, and looks at what followed it there. A share of ${score.toFixed(2)} of its attention goes there (0 is none, 1 is all). Such induction heads let a model use what it has just read.`;
    },
    target: ".looks-title",
    set: () => {
      const { layer, head } = inductionHeads();
      see("head", layer, head);
    },
  },
  {
    title: "Neurons",
    says: () => "The MLP’s neurons answer to patterns. Most are near zero at any one token. The list shows the strongest ones here, and which next tokens they speak for.",
    target: ".view figure",
    set: () => see("neurons", layers.value - 1),
  },
  {
    title: "The guess takes shape",
    says: () => "The logit lens reads the row of each layer as if it were the last one. Early layers often just repeat the present token; the answer appears further down. The likeliest token is pinned, so that its line shows when.",
    target: ".lens-frame",
    set: () => {
      see("lens");
      const { lens_ids } = pass.value?.arrays ?? {};
      if (lens_ids) pinTexts.value = [number(lens_ids, layers.value, lens_ids.shape[1] - 1, 0)];
    },
  },
  {
    title: "Take it away",
    says: () => {
      const { layer } = inductionHeads();
      return `Now the heads of block ${layer + 1} are switched off. The bars show each probability before and after. If the model needed them to copy, the answer is gone.`;
    },
    target: ".output",
    set: () => {
      const { layer } = inductionHeads();
      see("lens", layer);
      changeTexts.value = [writeChange({ part: "attention", layer })];
    },
  },
  {
    title: "Your turn",
    says: () => "The heads are back. Type a text of your own, ask another stage of the run, switch parts off, or bring in activations from another text. The address keeps all of it, so you can send it to others.",
    target: ".view",
    set: () => see("whatif"),
  },
];

/** Begin, go on, or end (0). @param {number} step from 1 */
export function goTo(step) {
  changeTexts.value = [];
  if (step === 1) {
    text.value = EXAMPLE;
    form.value = "document";
  }
  tour.value = step;
  STEPS[step - 1]?.set();
}

/**
 * Do something with an element as soon as it is drawn; returns how to stop waiting.
 * @param {string} selector @param {(element: Element) => void} act
 */
function whenThere(selector, act) {
  let frame = 0;
  const look = () => {
    const element = document.querySelector(selector);
    if (element) act(element);
    else frame = requestAnimationFrame(look);
  };
  frame = requestAnimationFrame(look);
  return () => cancelAnimationFrame(frame);
}

export function Tour() {
  const box = useRef(/** @type {HTMLElement | null} */ (null));
  const step = Math.trunc(tour.value);
  const shown = STEPS[step - 1];
  useEffect(() => {
    if (!shown) return;
    box.current?.focus({ preventScroll: true });
    return whenThere(shown.target, (element) => element.scrollIntoView({ block: "start" }));
  }, [step]);
  if (!shown || !pass.value) return null;
  /** @param {KeyboardEvent} event */
  const move = (event) => {
    if (event.key === "ArrowRight" && step < STEPS.length) goTo(step + 1);
    else if (event.key === "ArrowLeft" && step > 1) goTo(step - 1);
    else if (event.key === "Escape") goTo(0);
    else return;
    event.preventDefault();
  };
  return html`<section class="tour card" ref=${box} tabindex="-1" aria-label="guided tour" onKeyDown=${move}>
    <div aria-live="polite"><small>Step ${step} of ${STEPS.length}</small>
      <h2>${shown.title}</h2><p>${shown.says()}</p></div>
    <div class="tour-buttons">
      <${Button} onClick=${() => goTo(step - 1)} disabled=${step === 1}>‹ Back<//>
      ${step < STEPS.length ? html`<${Button} kind="main" onClick=${() => goTo(step + 1)}>Next ›<//>`
        : html`<${Button} kind="main" onClick=${() => goTo(0)}>Done<//>`}
      <${Button} kind="quiet" onClick=${() => goTo(0)}>End the tour<//>
      <small class="hint"><kbd>←</kbd> <kbd>→</kbd> <kbd>Esc</kbd></small>
    </div>
  </section>`;
}
