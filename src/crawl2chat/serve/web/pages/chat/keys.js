/** What the keys do, and the list of them. */

import { html } from "htm/preact";
import { Button } from "../../common/ui.js";
import { anyWriting, goOnAll, otherVersions, regenerateAll } from "./act.js";
import { stopAll } from "./ask.js";
import { COMPOSER } from "./composer.js";
import { begin } from "./state.js";

const LIST = [
  [["Enter"], "send the question"],
  [["Shift", "Enter"], "begin another line"],
  [["Esc"], "stop all answers"],
  [["Ctrl", "Enter"], "regenerate the last answers"],
  [["Alt", "Enter"], "continue answers that were cut off"],
  [["Alt", "↑"], "the version before of the last answers"],
  [["Alt", "↓"], "their next version"],
  [["↑"], "in an empty box: edit the last question"],
  [["Alt", "N"], "new conversation"],
  [["/"], "go to the box for the question"],
  [["?"], "this list"],
];
const DIALOG = "chat-keys";

const dialog = () => /** @type {HTMLDialogElement | null} */ (document.getElementById(DIALOG));

export function Keys() {
  return html`<${Button} kind="quiet" onClick=${() => dialog()?.showModal()}>Keys (?)<//>
    <dialog id=${DIALOG} class="card" aria-labelledby="chat-keys-title">
      <h2 id="chat-keys-title">Keys</h2>
      <table><tbody>${LIST.map(([keys, does], i) => html`<tr key=${i}>
        <td>${/** @type {string[]} */ (keys).map((key, j) => html`${j > 0 && "+"}<kbd>${key}</kbd>`)}</td><td>${does}</td></tr>`)}</tbody></table>
      <${Button} onClick=${() => dialog()?.close()}>Close<//>
    </dialog>`;
}

/** @returns {() => void} stops listening */
export function listenForKeys() {
  document.addEventListener("keydown", act);
  document.addEventListener("click", closeMenus);
  return () => {
    document.removeEventListener("keydown", act);
    document.removeEventListener("click", closeMenus);
  };
}

/** Close the menus that a click or a key was not in. @param {Event} event */
function closeMenus(event) {
  for (const menu of document.querySelectorAll(".chat .menu[open]")) {
    if (event.type === "keydown" || !menu.contains(/** @type {globalThis.Node | null} */ (event.target))) menu.removeAttribute("open");
  }
}

/** @param {KeyboardEvent} event */
function act(event) {
  const typing = event.target instanceof Element && event.target.closest("input, textarea, select") !== null;
  const plain = !event.ctrlKey && !event.altKey && !event.metaKey;
  const command = event.ctrlKey || event.metaKey;
  /** @type {(() => void) | undefined} */
  let does;
  if (dialog()?.open) return;
  if (event.key === "Escape") closeMenus(event);
  if (event.key === "Escape" && anyWriting()) does = stopAll;
  else if (event.key === "Enter" && command) does = regenerateAll;
  else if (event.key === "Enter" && event.altKey) does = goOnAll;
  else if (event.altKey && event.key === "ArrowUp") does = () => otherVersions(-1);
  else if (event.altKey && event.key === "ArrowDown") does = () => otherVersions(1);
  else if (event.altKey && event.key.toLowerCase() === "n") does = begin;
  else if (plain && !typing && event.key === "?") does = () => dialog()?.showModal();
  else if (plain && !typing && event.key === "/") does = () => document.getElementById(COMPOSER)?.focus();
  if (!does) return;
  event.preventDefault();
  does();
}
