/** Rewards and lengths over all steps, of the training and its control; a click goes to a step. */

import { html } from "htm/preact";
import { signal } from "@preact/signals";
import { useMemo } from "preact/hooks";
import { useAnswer } from "../../common/answer.js";
import { askForCurves } from "../../common/curves.js";
import { Plot } from "../../common/plot.js";
import { about, heads, step } from "./state.js";

const found = signal(/** @type {any} */ (null));
const NAMES = ["right answers rewarded", "control: random rewards"];
const FIELDS = { answer_tokens: "Length of answers, tokens", reward: "Mean reward" };

export function Lengths() {
  const logs = about.value?.logs ?? [];
  const newest = about.value?.steps.at(-1);
  const trainings = (about.value?.trainings ?? []);
  const failed = useAnswer(found, async (signal) => (trainings.length
    ? askForCurves({ trainings, fields: Object.keys(FIELDS), columns: 600 }, signal) : null), [logs.length, newest]);
  const shown = failed ? null : found.value;
  const arrays = shown?.arrays;
  const curves = useMemo(() => Object.fromEntries(Object.keys(FIELDS).map((field) => [field, NAMES.flatMap((label, i) => {
    const smooth = arrays?.[`${i}/${field}/smooth`];
    return smooth ? [{ label, smooth, style: i, points: smooth.length <= 60 }] : [];
  })])), [arrays]);
  if (!shown) return null; // without metrics the rest of the page still says something
  const pick = (/** @type {number} */ x) => (step.value = Math.round(x));
  return html`<div class="plots">${Object.entries(FIELDS).map(([field, title]) => curves[field].length > 0 && html`<section key=${field} class="card">
    <${Plot} title=${title} x=${arrays.x} curves=${curves[field]} xName="step" xText=${(/** @type {number} */ x) => Math.round(x).toLocaleString("en")}
      sync="rollouts" at=${heads.value?.step} onPick=${pick} /></section>`)}</div>`;
}
