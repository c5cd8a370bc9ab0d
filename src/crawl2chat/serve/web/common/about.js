/** What is known of the server from the start. */

import { signal } from "@preact/signals";
import { get } from "./api.js";

/**
 * @typedef {{name: string, stage: string | null, title: string, base: boolean, calls_tools: boolean, parameters: number, layers: number,
 *   heads: number, kv_heads: number, head_dim: number, width: number, mlp_width: number, vocabulary: number,
 *   context: number}} ModelAbout
 * @typedef {{name: string, is_run: boolean, default: string, models: ModelAbout[], tokenizers: string[]}} About
 */

/** @type {import("@preact/signals").Signal<About | null>} null until the server has answered */
export const about = signal(null);

export async function loadAbout() {
  about.value = await get("/app/about");
}

/**
 * The model of that name or stage, or the default one.
 * @param {string} name
 * @returns {ModelAbout | undefined}
 */
export function modelNamed(name) {
  const models = about.value?.models ?? [];
  const stage = name === "base" ? "pretrain" : name;
  return (
    models.find((model) => model.name === name || model.stage === stage) ??
    models.find((model) => model.name === about.value?.default)
  );
}
