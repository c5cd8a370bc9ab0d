/** Asking the server for curves of trainings (`serve/app/training.py`). */

import { post } from "./api.js";

/**
 * @param {Record<string, any>} body
 * @param {AbortSignal} signal
 * @returns {Promise<any>} what the server says, with `arrays` of numbers by name; or `unchanged`
 */
export async function askForCurves(body, signal) {
  const answer = await post("/app/training/curves", body, { signal });
  if (answer.unchanged) return answer;
  const arrays = Object.fromEntries(Object.entries(answer.arrays).map(([name, tensor]) => [name, /** @type {any} */ (tensor).data]));
  return { ...answer.header, arrays };
}
