/** Asking the server from a view, and giving its files to the user. */

import { useEffect, useState } from "preact/hooks";

/**
 * Put what the server answers into a signal, again whenever `inputs` change; null where it refuses.
 * A request that is no longer wanted is given up.
 * @template T
 * @param {import("@preact/signals").Signal<T | null>} found
 * @param {(signal: AbortSignal) => Promise<T | null>} ask
 * @param {any[]} inputs
 * @param {number} [pause] milliseconds without a change before the server is asked
 * @returns {Error | null} why the last request failed
 */
export function useAnswer(found, ask, inputs, pause = 0) {
  const [failure, setFailure] = useState(/** @type {Error | null} */ (null));
  useEffect(() => {
    const asking = new AbortController();
    const { signal } = asking;
    const timer = setTimeout(async () => {
      try {
        const answer = await ask(signal);
        if (signal.aborted) return;
        found.value = answer;
        setFailure(null);
      } catch (error) {
        if (signal.aborted) return;
        found.value = null;
        setFailure(/** @type {Error} */ (error));
      }
    }, pause);
    return () => {
      clearTimeout(timer);
      asking.abort();
    };
  }, inputs);
  return failure;
}

/**
 * Load something at once and then regularly, while the page is looked at.
 * @param {() => Promise<any>} load
 * @param {number} pause milliseconds
 * @param {() => boolean} [ended] whether nothing new can come any more
 * @returns {Error | null} why it failed the last time
 */
export function useRegularly(load, pause, ended = () => false) {
  const [failure, setFailure] = useState(/** @type {Error | null} */ (null));
  useEffect(() => {
    const again = () => load().then(() => setFailure(null), setFailure);
    again();
    const timer = setInterval(() => document.hidden || ended() || again(), pause);
    return () => clearInterval(timer);
  }, []);
  return failure;
}

/** Have the browser keep JSON lines as a file. @param {string} name @param {string} text */
export function download(name, text) {
  const href = URL.createObjectURL(new Blob([text], { type: "application/jsonl" }));
  Object.assign(document.createElement("a"), { href, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(href), 60_000); // after the browser has taken it
}
