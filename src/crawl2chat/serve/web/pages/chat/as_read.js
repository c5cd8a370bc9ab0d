/** What the model really read and wrote: the conversation as tokens, control tokens among them. */

import { html } from "htm/preact";
import { useSignal } from "@preact/signals";
import { useAnswer } from "../../common/answer.js";
import { post } from "../../common/api.js";
import { Busy, ErrorNote, TokenText } from "../../common/ui.js";

/** @typedef {{id: number, text: string | null, bytes: string, control: boolean}} Token */

/** @param {{node: import("./tree.js").Node}} props */
export function AsRead({ node }) {
  const found = useSignal(/** @type {Token[] | null} */ (null));
  const read = node.promptIds ?? [];
  const error = useAnswer(found, async (signal) => {
    const body = { model: node.made?.model || undefined, ids: [...read, ...(node.ids ?? [])] };
    return (await post("/app/tokens/texts", body, { signal })).tokens;
  }, [node.id]);
  const tokens = found.value;
  if (error) return html`<${ErrorNote} error=${error} />`;
  if (!tokens) return html`<${Busy} />`;
  const part = (/** @type {number} */ from, /** @type {number} */ to) => tokens.slice(from, to).map((token, i) =>
    html`<span key=${i} class=${`token plain-${(from + i) % 2}`} title=${`token ${token.id}`}
      ><${TokenText} text=${token.text} bytes=${token.bytes} control=${token.control} /></span>`);
  return html`<div class="panel">
    <p class="hint">To the model a conversation is one row of tokens. Control tokens mark who speaks; text can never become one.</p>
    <h4>It read ${read.length} tokens</h4>
    <div class="row">${part(0, read.length)}</div>
    <h4>and wrote ${tokens.length - read.length}</h4>
    <div class="row">${part(read.length, tokens.length)}</div>
  </div>`;
}
