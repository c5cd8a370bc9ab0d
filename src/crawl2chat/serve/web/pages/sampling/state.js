/** What the page Sampling looks at: the prompt, the controls, the tokens so far, and the place among them. */

import { batch, computed, signal } from "@preact/signals";
import { about, modelNamed } from "../../common/about.js";
import { post, stream } from "../../common/api.js";
import { urlState } from "../../common/state.js";
import * as tree from "./tree.js";

/** @typedef {{id: number, text: string | null, bytes: string, control: boolean}} Token */
/**
 * @typedef {{tokens: Token[], controls: string[], active: boolean[], left: number[], model_mass: number[],
 *   entropy: number[], vocabulary: number, ids: number[], logprobs: number[][], dropped: number[]}} Step
 */

export const text = urlState("text", "The capital of");
export const chat = urlState("chat", false);
export const model = urlState("model", "");
export const path = urlState("path", /** @type {number[]} */ ([]));
export const cut = urlState("cut", /** @type {number} */ (-1)); // how much of the prompt is before the path, −1 for all of it
export const place = urlState("at", /** @type {number} */ (-1)); // the token that is looked at, −1 for the next one
export const columns = urlState("columns", /** @type {string[]} */ ([]));
export const settings = {
  temperature: urlState("temperature", 1), top_k: urlState("top_k", 0), top_p: urlState("top_p", 1),
  min_p: urlState("min_p", 0), repetition_penalty: urlState("repetition_penalty", 1),
  presence_penalty: urlState("presence_penalty", 0), frequency_penalty: urlState("frequency_penalty", 0),
  logit_bias: urlState("logit_bias", ""),
};
export const seed = urlState("seed", 0);
export const many = urlState("tokens", 16);
export const branches = urlState("branches", 1);
export const stops = urlState("stop", "");
export const rows = urlState("rows", /** @type {number} */ (20));

export const prompt = signal(/** @type {{ids: number[], stop: string[]} | null} */ (null));
export const step = signal(/** @type {Step | null} */ (null));
export const scores = signal(/** @type {{ids: number[], logprobs: Float32Array, best: Float32Array, tokens: Token[]} | null} */ (null));
export const error = signal(/** @type {Error | null} */ (null));
export const writing = signal(/** @type {AbortController | null} */ (null));
/** @type {Map<number, Token>} */
export const texts = new Map();
export const textsKnown = signal(0);

export const nPrompt = computed(() => {
  const n = prompt.value?.ids.length ?? 0;
  return cut.value < 0 ? n : Math.min(n, cut.value);
});
export const line = computed(() => [...(prompt.value?.ids.slice(0, nPrompt.value) ?? []), ...path.value]);
export const at = computed(() => (place.value < 1 ? line.value.length : Math.min(place.value, line.value.length)));
export const stopList = computed(() => [
  ...(prompt.value?.stop ?? []),
  ...stops.value.split("\n").filter(Boolean).map((stop) => stop.replaceAll("\\n", "\n").replaceAll("\\t", "\t")),
]);

/**
 * The controls as the server wants them. Throws an Error for a bias that can't be read.
 * @param {Record<string, any>} values
 * @returns {Record<string, any>}
 */
export function asBody({ logit_bias, ...numbers }) {
  /** @type {Record<string, number>} */
  const biases = {};
  for (const part of String(logit_bias).split(",").map((piece) => piece.trim()).filter(Boolean)) {
    const [id, value] = part.split(/[:=]/).map((piece) => piece.trim());
    if (!/^\d+$/.test(id) || !value || !Number.isFinite(Number(value))) {
      throw new Error(`Logit bias: “${part}” can’t be read; expected token ids with a number, such as 300: 2.5, 65: -100`);
    }
    biases[id] = Number(value);
  }
  return { ...numbers, logit_bias: biases };
}

/** @returns {Record<string, any>} the values of the controls */
export function controlValues() {
  return Object.fromEntries(Object.entries(settings).map(([name, state]) => [name, state.value]));
}

/**
 * A task that runs at most once at a time; what is asked for meanwhile runs once afterwards.
 * @param {() => Promise<void>} task
 * @returns {() => void}
 */
function coalesced(task) {
  let running = false;
  let again = false;
  return async function run() {
    if (running) {
      again = true;
      return;
    }
    running = true;
    do {
      again = false;
      try {
        await task();
      } catch (problem) {
        error.value = /** @type {Error} */ (problem);
      }
    } while (again);
    running = false;
  };
}

/** @param {Token[]} tokens */
function learn(tokens) {
  for (const token of tokens) texts.set(token.id, token);
  textsKnown.value++;
}

export const loadPrompt = coalesced(async () => {
  const size = modelNamed(model.value)?.vocabulary;
  tree.open(`crawl2chat sampling ${about.value?.name} ${size}`);
  try {
    const answer = await post("/app/sampling/prompt", { ...which(), text: text.value, chat: chat.value });
    learn(answer.tokens);
    error.value = null;
    prompt.value = answer;
    if (path.value.length) tree.insert(line.value, nPrompt.value, "taken", null); // of a link that was opened
  } catch (problem) {
    prompt.value = null;
    step.value = null;
    throw problem;
  }
});

export const loadStep = coalesced(async () => {
  if (!prompt.value) return;
  const ids = line.value.slice(0, at.value);
  const also = at.value < line.value.length ? [line.value[at.value]] : [];
  step.value = await askStep(ids, asBody(controlValues()), rows.value, also);
  if (!writing.value) error.value = null;
});

/**
 * @param {number[]} ids @param {Record<string, any>} controls @param {number} top @param {number[]} [also]
 * @returns {Promise<Step>}
 */
export async function askStep(ids, controls, top, also = []) {
  const body = { ...which(), ...split(ids), ...controls, top, also };
  const { header, arrays } = await post("/app/sampling/step", body);
  learn(header.tokens);
  const width = arrays.ids.data.length;
  const logprobs = header.left.map((/** @type {number} */ _, /** @type {number} */ row) =>
    Array.from(arrays.logprobs.data.subarray(row * width, (row + 1) * width)));
  return { ...header, ids: [...arrays.ids.data], logprobs, dropped: [...arrays.dropped_by.data] };
}

export const loadScores = coalesced(async () => {
  if (!prompt.value || writing.value) return;
  const ids = line.value;
  const { header, arrays } = await post("/app/sampling/score", { ...which(), ids });
  learn(header.tokens);
  scores.value = {
    ids, logprobs: /** @type {Float32Array} */ (arrays.logprobs.data),
    best: /** @type {Float32Array} */ (arrays.best.data), tokens: header.tokens,
  };
  const unknown = [...new Set(ids)].filter((id) => !texts.has(id));
  if (unknown.length) learn((await post("/app/tokens/texts", { ...which(), ids: unknown })).tokens);
});

/** Ask what tokens of the tree say that this page has not met yet. @param {number[]} ids */
export async function loadTexts(ids) {
  const unknown = [...new Set(ids)].filter((id) => !texts.has(id));
  if (!unknown.length) return;
  try {
    learn((await post("/app/tokens/texts", { ...which(), ids: unknown })).tokens);
  } catch (problem) {
    error.value = /** @type {Error} */ (problem);
  }
}

function which() {
  return model.value ? { model: model.value } : {};
}

/** @param {number[]} ids */
function split(ids) {
  const n = Math.min(nPrompt.value, ids.length);
  return { prompt: ids.slice(0, n), answer: ids.slice(n) };
}

/** The prompt has been changed by hand: begin after it. */
export function restart() {
  batch(() => {
    path.value = [];
    cut.value = -1;
    place.value = -1;
  });
}

/**
 * Look at these tokens, and at the one at `index` among them.
 * @param {number[]} ids @param {number} n how many are the prompt's @param {number} [index] the next one after all
 */
export function show(ids, n, index = ids.length) {
  batch(() => {
    cut.value = n === prompt.value?.ids.length ? -1 : n;
    path.value = ids.slice(n);
    place.value = index >= ids.length ? -1 : index;
  });
}

/** @param {number} index */
export function lookAt(index) {
  place.value = index >= line.value.length ? -1 : Math.max(1, index);
}

/** Take this token at the place that is looked at. @param {number} id @param {number | null} p @param {string} [how] */
export function take(id, p, how = "taken") {
  const now = at.value;
  if (line.value[now] === id) return lookAt(now + 1);
  const ids = [...line.value.slice(0, now), id];
  const n = Math.min(nPrompt.value, now);
  tree.insert(ids, n, how, p);
  show(ids, n);
}

/** To the next sibling of the token before the place, or the previous one. @param {1 | -1} by */
export function sibling(by) {
  const now = at.value;
  const parent = tree.find(line.value.slice(0, now - 1));
  if (parent < 0 || now < 2) return;
  const all = tree.node(parent).children;
  const mine = all.findIndex((child) => tree.node(child).id === line.value[now - 1]);
  const next = all[(mine + by + all.length) % all.length];
  if (mine < 0 || next === all[mine]) return;
  const ids = tree.pathTo(tree.leafOf(next));
  show(ids, promptPart(ids), now);
}

/** How many of these tokens are the prompt's, as far as both agree. @param {number[]} ids @returns {number} */
export function promptPart(ids) {
  const mine = prompt.value?.ids ?? [];
  const differs = mine.findIndex((id, i) => id !== ids[i]);
  return differs < 0 ? mine.length : differs;
}

/** To the child: the token that follows here, or the first one of the tree. */
export function child() {
  if (at.value < line.value.length) return lookAt(at.value + 1);
  const here = tree.find(line.value);
  if (here < 0 || !tree.node(here).children.length) return;
  const ids = tree.pathTo(tree.leafOf(here));
  show(ids, promptPart(ids), at.value + 1);
}

/**
 * Have the engine go on from the place that is looked at.
 * @param {number} n tokens @param {boolean} [greedy] always the most probable one
 */
export async function go(n, greedy = false) {
  if (!prompt.value || writing.value) return;
  const from = line.value.slice(0, at.value);
  const base = Math.min(nPrompt.value, from.length);
  const abort = new AbortController();
  writing.value = abort;
  const wanted = greedy ? 1 : branches.value;
  const written = Array.from({ length: wanted }, () => [...from]);
  let frame = 0;
  const draw = () => {
    frame = 0;
    show(written[0], base);
  };
  try {
    const controls = asBody(greedy ? { ...controlValues(), temperature: 0 } : controlValues());
    const body = { ...which(), ...split(from), ...controls, max_tokens: n, n: wanted, seed: seed.value, stop: stopList.value };
    await stream("/app/sampling/go", body, {
      signal: abort.signal,
      onEvent: (event) => {
        learn(event.tokens);
        for (const token of event.tokens) {
          written[event.branch].push(token.id);
          tree.insert(written[event.branch], base, greedy ? "greedy" : "drawn", token.p);
        }
        frame ||= requestAnimationFrame(draw);
      },
    });
    error.value = null;
  } catch (problem) {
    if (!abort.signal.aborted) error.value = /** @type {Error} */ (problem);
  } finally {
    cancelAnimationFrame(frame);
    if (written[0].length > from.length) draw();
    writing.value = null;
  }
}
