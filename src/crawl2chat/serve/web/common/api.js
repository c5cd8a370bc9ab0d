/** Asking the server: JSON, tensors, and streams of events. Nothing is ever asked of another host. */

import { signal } from "@preact/signals";
import { decodeTensors } from "./tensors.js";

/** Whether the server wants a key that we do not have yet; the shell then asks for it. */
export const keyWanted = signal(false);

const KEY = "crawl2chat key";

/** An answer that is an error, with a message that can be shown. */
export class ApiError extends Error {
  /** @param {string} message @param {number} status 0 where the server could not be reached */
  constructor(message, status) {
    super(message);
    this.name = "ApiError";
    this.status = status;
  }
}

/** Remember the key for as long as this tab is open. @param {string} key */
export function setKey(key) {
  sessionStorage.setItem(KEY, key);
  keyWanted.value = false;
}

/**
 * What the server says at a path.
 * @param {string} path
 * @param {{signal?: AbortSignal}} [options]
 * @returns {Promise<any>}
 */
export async function get(path, options = {}) {
  return read(await ask(path, { method: "GET", ...options }));
}

/**
 * What the server answers to a body: JSON, or tensors where it sends those (see `tensors.js`).
 * @param {string} path
 * @param {any} body
 * @param {{signal?: AbortSignal}} [options]
 * @returns {Promise<any>}
 */
export async function post(path, body, options = {}) {
  return read(await ask(path, posting(body, options.signal)));
}

/**
 * Server-sent events, each parsed from JSON and told as it arrives, until the last one has come.
 * @param {string} path
 * @param {any} body
 * @param {{signal?: AbortSignal, onEvent: (event: any) => void}} options
 */
export async function stream(path, body, options) {
  const response = await ask(path, posting(body, options.signal));
  if (!response.body) throw new ApiError("the server sent nothing", response.status);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const events = (rest + value).split("\n\n");
    rest = events.pop() ?? "";
    for (const event of events) {
      if (!event.startsWith("data: ")) continue; // a comment that shows that the server lives
      const data = event.slice("data: ".length);
      if (data === "[DONE]") return;
      const parsed = JSON.parse(data);
      if (parsed.error) throw new ApiError(parsed.error.message, response.status);
      options.onEvent(parsed);
    }
  }
}

/** Without halves of surrogate pairs, which are not text and can't be sent. @param {string} text @returns {string} */
export function wellFormed(text) {
  return text.replace(/\p{Surrogate}/gu, "\ufffd");
}

/** @param {any} body @param {AbortSignal | undefined} signal @returns {RequestInit} */
function posting(body, signal) {
  return { method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" }, signal };
}

/** @param {string} path @param {RequestInit} init @returns {Promise<Response>} */
async function ask(path, init) {
  const headers = new Headers(init.headers);
  const key = sessionStorage.getItem(KEY);
  if (key) headers.set("Authorization", `Bearer ${key}`);
  let response;
  try {
    response = await fetch(path, { ...init, headers });
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new ApiError("The server can't be reached. Is it still running?", 0);
  }
  if (response.ok) return response;
  if (response.status === 401) keyWanted.value = true;
  throw new ApiError(await messageOf(response), response.status);
}

/** @param {Response} response @returns {Promise<string>} */
async function messageOf(response) {
  try {
    return (await response.json()).error.message;
  } catch {
    return `The server answered with status ${response.status}.`;
  }
}

/** @param {Response} response @returns {Promise<any>} */
async function read(response) {
  const type = response.headers.get("Content-Type") ?? "";
  return type.startsWith("application/octet-stream") ? decodeTensors(await response.arrayBuffer()) : response.json();
}
