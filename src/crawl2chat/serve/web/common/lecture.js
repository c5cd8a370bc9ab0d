/** Where one is in the lecture, kept by the tab, and the bar that goes on from stop to stop on every page. */

import { html } from "htm/preact";
import { effect, signal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { get } from "./api.js";
import { Button } from "./ui.js";

/** @typedef {{title: string, says: string, link: string, measured: {what: string, value: string}[]}} Stop */

const KEY = "lecture";
/** What the server has to show, and the titles of what this run has nothing for; null until it was asked.
 * @type {import("@preact/signals").Signal<{stops: Stop[], missing: string[]} | null>} */
export const lecture = signal(null);
/** The number of the stop that is shown, from 0; −1 if the lecture is not being given. */
export const at = signal(Number(sessionStorage.getItem(KEY) ?? -1));
effect(() => sessionStorage.setItem(KEY, String(at.value)));

/** @param {{stop: Stop}} props */
export function Measured({ stop }) {
  if (!stop.measured.length) return null;
  return html`<dl class="measured">${stop.measured.map(({ what, value }) => html`
    <div key=${what}><dt>${what}</dt><dd>${value}</dd></div>`)}</dl>`;
}

/** @param {{go: (address: string) => void}} props */
export function LectureBar({ go }) {
  const number = at.value;
  const stops = lecture.value?.stops ?? [];
  const shown = stops[number];
  useEffect(() => {
    if (number >= 0 && lecture.value === null) get("/app/lecture").then((found) => { lecture.value = found; }, () => { at.value = -1; });
  }, [number]);
  /** @param {number} by */
  const step = (by) => {
    const next = lecture.value?.stops[at.value + by];
    if (!next) return;
    at.value += by;
    go(next.link);
  };
  useEffect(() => {
    /** Keys of a presenter's remote control. @param {KeyboardEvent} event */
    const turn = (event) => {
      const typing = event.target instanceof Element && event.target.closest("input, textarea, select, [role=slider], [role=application]");
      if (at.value < 0 || typing || event.altKey || event.ctrlKey || event.metaKey || !["PageUp", "PageDown"].includes(event.key)) return;
      event.preventDefault();
      step(event.key === "PageDown" ? 1 : -1);
    };
    addEventListener("keydown", turn);
    return () => removeEventListener("keydown", turn);
  }, []);
  if (!shown) return null;
  return html`<aside class="lecture-bar card" aria-label="Lecture">
    <p><a href="/lecture">Lecture</a>, ${number + 1} of ${stops.length}: <strong>${shown.title}.</strong> ${shown.says}</p>
    <${Measured} stop=${shown} />
    <div class="row">
      <${Button} onClick=${() => step(-1)} disabled=${number === 0} title="or the key Page up">Back<//>
      <${Button} kind="main" onClick=${() => step(1)} disabled=${number + 1 === stops.length} title="or the key Page down">Next<//>
      <${Button} kind="quiet" onClick=${() => { at.value = -1; }}>End<//>
    </div>
  </aside>`;
}
