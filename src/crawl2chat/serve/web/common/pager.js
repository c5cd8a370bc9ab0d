/** Going through rows a page at a time. */

import { html } from "htm/preact";
import { Button } from "./ui.js";

export const PAGE = 50; // rows

/** @param {{total: number, offset: import("@preact/signals").Signal<number>, what: string}} props */
export function Pager({ total, offset, what }) {
  const from = Math.min(offset.value, Math.max(0, total - 1));
  const to = Math.min(from + PAGE, total);
  if (total <= PAGE) return html`<p class="hint" role="status">${total.toLocaleString("en")} ${what}</p>`;
  return html`<div class="controls" role="group" aria-label=${`pages of ${what}`}>
    <${Button} disabled=${from === 0} onClick=${() => (offset.value = Math.max(0, from - PAGE))}>Previous<//>
    <span role="status">${(from + 1).toLocaleString("en")} to ${to.toLocaleString("en")} of ${total.toLocaleString("en")} ${what}</span>
    <${Button} disabled=${to >= total} onClick=${() => (offset.value = from + PAGE)}>Next<//>
  </div>`;
}
