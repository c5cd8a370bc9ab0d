/** Where the next question is written. */

import { html } from "htm/preact";
import { useEffect, useRef } from "preact/hooks";
import { Button } from "../../common/ui.js";
import { anyWriting, ask } from "./act.js";
import { stopAll } from "./ask.js";
import { edited } from "./message.js";
import { changes, conversation, draft, showsTokens } from "./state.js";
import { lastQuestion } from "./tree.js";

export const COMPOSER = "chat-question";

export function Composer() {
  changes.value;
  const box = useRef(/** @type {HTMLTextAreaElement | null} */ (null));
  const writing = anyWriting();
  useEffect(() => {
    const area = box.current;
    if (!area) return;
    area.style.height = "auto"; // as many lines as there are, up to the most that the style allows
    area.style.height = `${area.scrollHeight + 2}px`;
  }, [draft.value]);
  const send = () => ask(box.current?.value ?? "");
  /** @param {KeyboardEvent} event */
  const keys = (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.ctrlKey && !event.altKey && !event.metaKey && !event.isComposing) {
      event.preventDefault();
      send();
    } else if (event.key === "ArrowUp" && draft.value === "" && !event.altKey) {
      const last = lastQuestion(conversation.value.threads[0]);
      if (last && !writing) {
        event.preventDefault();
        edited.value = last.id;
      }
    }
  };
  const several = conversation.value.threads.length > 1;
  return html`<form class="composer" onSubmit=${(/** @type {Event} */ event) => event.preventDefault()}>
    <label for=${COMPOSER}>${several ? `Question to all ${conversation.value.threads.length} columns` : "Question"}</label>
    <div class="line">
      <textarea id=${COMPOSER} ref=${box} rows="1" value=${draft.value} onKeyDown=${keys} enterkeyhint="send"
        onInput=${(/** @type {Event & {currentTarget: HTMLTextAreaElement}} */ event) => (draft.value = event.currentTarget.value)}></textarea>
      ${writing
        ? html`<${Button} kind="main" onClick=${stopAll}>Stop<//>`
        : html`<${Button} kind="main" onClick=${send} disabled=${!draft.value.trim()}>Send<//>`}
    </div>
    <span class="unseen" role="status">${writing ? "answers are being written" : ""}</span>
    <p class="hint below"><span class="keys-hint"><kbd>Enter</kbd> sends, <kbd>Shift</kbd>+<kbd>Enter</kbd> begins a line, <kbd>Esc</kbd> stops.</span>
      <label class="toggle"><input type="checkbox" checked=${showsTokens.value} onChange=${() => (showsTokens.value = !showsTokens.value)} />Show tokens</label></p>
  </form>`;
}
