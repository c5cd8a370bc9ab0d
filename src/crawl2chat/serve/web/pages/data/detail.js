/** One page: its source beside the extracted text, and its way through the steps. All of it is shown as text. */

import { html } from "htm/preact";
import { useSignal } from "@preact/signals";
import { useAnswer } from "../../common/answer.js";
import { post } from "../../common/api.js";
import { Busy, Button, ErrorNote, Tabs } from "../../common/ui.js";
import { Steps } from "./steps.js";
import { measured, openPage, row, side, stepName, table } from "./state.js";

/**
 * @typedef {{row: number, table: string, url: string, text: string, characters: number, step?: string, reason?: string, value?: number | null,
 *   detail?: string, snippet?: string, copies?: number, language?: string, language_score?: number, copy_of: number | null,
 *   place: {warc: string, offset: number, within: number}}} Stored
 * @typedef {{text: string, kept: boolean | null, score: number | null, element: string}} Segment
 * @typedef {{status: number, content_type: string, bytes: number, date: string, steps: import("./steps.js").Step[],
 *   not_taken: string[], as_in_the_run: boolean, source: Segment[], text: string, is_cut: boolean}} Inspected
 */

const TABS = [{ id: "source", title: "Source and text" }, { id: "steps", title: "Its way through the steps" }];

export function Detail() {
  const stored = useSignal(/** @type {Stored | null} */ (null));
  const live = useSignal(/** @type {Inspected | null} */ (null));
  const which = { table: table.value, row: row.value };
  const none = row.value < 0;
  const lost = useAnswer(stored, async (signal) => (none ? null : post("/app/data/page", which, { signal })), [table.value, row.value]);
  const failure = useAnswer(live, async (signal) => (none ? null : post("/app/data/inspect", which, { signal })), [table.value, row.value], 50);
  if (none) return html`<section class="detail" aria-label="The page"><p class="hint">Choose a page from the list, or take a random one.</p></section>`;
  const page = stored.value;
  return html`<section class="detail" aria-label="The page">
    <${ErrorNote} error=${lost} />
    ${page && html`<h2 class="url">${page.url || "(no address)"}</h2><${Fate} page=${page} /><${Origin} page=${page} live=${live.value} />`}
    <${ErrorNote} error=${failure} />
    ${!live.value && !failure && html`<${Busy}>taking the page through the steps …<//>`}
    ${live.value && !live.value.as_in_the_run && html`<p class="warning">Now the steps decide otherwise than in the run: the code, or a file that the settings name, has changed since.</p>`}
    ${live.value && html`<${Tabs} label="What to see of the page" value=${side} tabs=${TABS} />
      ${side.value === "steps" ? html`<${Steps} live=${live.value} />` : html`<${Source} live=${live.value} page=${page} />`}`}
    ${failure && page?.text && html`<h3>The document</h3><div class="source text" role="region" aria-label="the document" tabindex="0">${page.text}</div>`}
  </section>`;
}

/** @param {{page: Stored}} props */
function Fate({ page }) {
  if (page.table === "kept") {
    return html`<p><span class="verdict good">kept</span> as document ${(page.row + 1).toLocaleString("en")}, ${page.characters.toLocaleString("en")} characters, ${page.language} with probability ${page.language_score?.toFixed(2)}${page.copies
        ? `; ${page.copies} ${page.copies === 1 ? "page was" : "pages were"} dropped as copies of it` : ""}.</p>`;
  }
  const of = page.copy_of;
  return html`<p><span class="verdict bad">dropped</span> at the step “${stepName(page.step ?? "")}”: <code>${page.reason}</code>${page.value != null
    ? ` (${measured(page.value, "")})` : ""}${page.detail ? `, ${page.detail}` : ""}.
    ${of !== null && html` <${Button} kind="quiet" onClick=${() => openPage("kept", of)}>Show the document of which it is a copy<//>`}</p>`;
}

/** @param {{page: Stored, live: Inspected | null}} props */
function Origin({ page, live }) {
  const { warc, offset, within } = page.place;
  return html`<p class="hint">${warc} at byte ${offset.toLocaleString("en")}${within ? ` + ${within.toLocaleString("en")}` : ""}${live
    ? `; status ${live.status}, ${live.content_type || "no content type"}, ${live.bytes.toLocaleString("en")} bytes, ${live.date}` : ""}</p>`;
}

/** @param {{live: Inspected, page: Stored | null}} props */
function Source({ live, page }) {
  const dropped = live.steps.find((step) => step.dropped);
  return html`
    <p class="legend"><mark>marked</mark>: blocks that belong to the main text; <s>struck out</s>: blocks that do not; the rest is
      markup, or navigation and scripts, which are passed over. Point at a block to see how likely it belongs to the main text.</p>
    ${live.is_cut && html`<p class="hint">Only the beginning is shown.</p>`}
    <div class="beside">
      <section><h3>The page’s source</h3>
        ${live.source.length ? html`<div class="source" role="region" aria-label="the page’s source" tabindex="0">${live.source.map((part, i) => html`<${Part} key=${i} part=${part} />`)}</div>`
          : html`<p class="hint">It took too long to mark the blocks of this page.</p>`}</section>
      <section><h3>${dropped ? "The text that was dropped" : "The text"}</h3>
        ${live.text || page?.text ? html`<div class="source text" role="region" aria-label="the extracted text" tabindex="0">${page?.text || live.text}</div>`
          : html`<p class="hint">None was extracted${dropped ? `: the page was dropped at the step “${stepName(dropped.step)}”` : ""}.</p>`}</section>
    </div>`;
}

/** @param {{part: Segment}} props */
function Part({ part }) {
  if (part.kept === null) return part.text;
  const score = part.score === null ? "" : `: main text with probability ${part.score.toFixed(2)}`;
  return part.kept ? html`<mark title=${`${part.element}${score}`}>${part.text}</mark>`
    : html`<s title=${`${part.element}${score}`}>${part.text}</s>`;
}
