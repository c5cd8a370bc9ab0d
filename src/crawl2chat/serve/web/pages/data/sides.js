/** Two texts side by side, with what differs marked: by colour and by a line under or through it. */

import { html } from "htm/preact";

/** @typedef {[string, boolean][] | null} Side pieces, each with whether the other side lacks it */

/**
 * @param {{rows: [Side, Side][], left: string, right: string, label: string}} props left, right: what the texts are
 */
export function Sides({ rows, left, right, label }) {
  return html`<div class="sides" role="region" aria-label=${label} tabindex="0"><table>
    <thead><tr><th scope="col">${left}</th><th scope="col">${right}</th></tr></thead>
    <tbody>${rows.map((row, i) => html`<tr key=${i}><td><${Pieces} side=${row[0]} kind="del" /></td>
      <td><${Pieces} side=${row[1]} kind="ins" /></td></tr>`)}</tbody>
  </table></div>`;
}

/** @param {{side: Side, kind: "del" | "ins"}} props */
function Pieces({ side, kind }) {
  if (!side) return null;
  return side.map(([text, differs], i) => (differs ? html`<${kind} key=${i}>${text}<//>` : text));
}
