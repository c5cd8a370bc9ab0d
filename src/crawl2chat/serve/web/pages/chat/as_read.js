/** What the model really read and wrote: the conversation as tokens, control tokens among them. */

import { html } from "htm/preact";
import { useEffect, useState } from "preact/hooks";
import { post } from "../../common/api.js";
import { Busy, ErrorNote, TokenText } from "../../common/ui.js";

/** @typedef {{id: number, text: string | null, bytes: string, control: boolean}} Piece */

/** @param {{node: import("./tree.js").Node}} props */
export function AsRead({ node }) {
  const [pieces, setPieces] = useState(/** @type {Piece[] | null} */ (null));
  const [error, setError] = useState(/** @type {Error | null} */ (null));
  const read = node.promptIds ?? [];
  useEffect(() => {
    const stop = new AbortController();
    post("/app/tokens/texts", { model: node.made?.model || undefined, ids: [...read, ...(node.ids ?? [])] }, { signal: stop.signal })
      .then(setPieces, (failed) => stop.signal.aborted || setError(failed));
    return () => stop.abort();
  }, [node.id]);
  if (error) return html`<${ErrorNote} error=${error} />`;
  if (!pieces) return html`<${Busy} />`;
  const part = (/** @type {number} */ from, /** @type {number} */ to) => pieces.slice(from, to).map((piece, i) =>
    html`<span key=${i} class=${`token plain-${(from + i) % 2}`} title=${`token ${piece.id}`}
      ><${TokenText} text=${piece.text} bytes=${piece.bytes} control=${piece.control} /></span>`);
  return html`<div class="panel">
    <p class="hint">To the model a conversation is one row of tokens. Control tokens mark who speaks; text can never become one.</p>
    <h4>It read ${read.length} tokens</h4>
    <div class="row">${part(0, read.length)}</div>
    <h4>and wrote ${pieces.length - read.length}</h4>
    <div class="row">${part(read.length, pieces.length)}</div>
  </div>`;
}
