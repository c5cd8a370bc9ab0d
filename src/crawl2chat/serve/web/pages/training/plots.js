/** One plot for each kind of value, with a cursor in common. */

import { html } from "htm/preact";
import { useMemo } from "preact/hooks";
import { Plot, STYLES, Swatch } from "../../common/plot.js";
import { AXES, by, curves, from, logX, logY, smooth, spread, to, xText } from "./state.js";

const MOST_POINTS = 150; // that are drawn as points

export function Plots() {
  const found = curves.value;
  if (!found?.shown) return null;
  const names = labels(found.trainings);
  const several = found.trainings.length > 1;
  return html`${several && html`<ul class="runs" aria-label="trainings in the plots">
      ${names.map((name, i) => html`<li key=${name}><${Swatch} style=${i} />${name}</li>`)}
      ${spread.value && html`<li>The strong line is the mean, and the band reaches from the lowest to the highest of the smoothed curves,
        where all of them are: ${found.trainings.length} trainings.</li>`}
    </ul>`}
    <div class="plots">${found.shown.map((name) => html`<${FieldPlot} key=${name} name=${name} names=${names} />`)}</div>
    <p class="hint">Drag across a plot to see a part of it. ${Number(smooth.value) > 1
      ? `Lines are smoothed over all values that were written, each weighted less the older it is${logY.value ? " (their logarithms)" : ""}; how many pixels there are doesn’t change them. Behind a line, faint, is the range of the raw values. Evaluations are not smoothed.`
      : "Where more values than pixels are, the band reaches from the lowest to the highest."}</p>`;
}

/** @param {{name: string, names: string[]}} props */
function FieldPlot({ name, names }) {
  const found = /** @type {import("./state.js").Curves} */ (curves.value);
  const about = found.trainings.flatMap((one) => one.fields).find((field) => field.name === name);
  const evaluation = about?.evaluation ?? false;
  const { arrays } = found;
  const shownCurves = useMemo(() => {
    const mean = arrays[`spread/${name}/mean`];
    const made = found.trainings.flatMap((_, i) => {
      const [low, high, line] = ["low", "high", "smooth"].map((part) => arrays[`${i}/${name}/${part}`]);
      if (!line) return [];
      const points = evaluation && line.filter((/** @type {number} */ value) => !Number.isNaN(value)).length <= MOST_POINTS;
      const plain = mean || points;
      return [{ label: names[i], smooth: line, ...(plain ? {} : { low, high }), points, faint: Boolean(mean), style: i % STYLES }];
    });
    if (!mean) return made;
    return [...made, {
      label: "mean", smooth: mean, low: arrays[`spread/${name}/least`], high: arrays[`spread/${name}/greatest`], style: STYLES - 1,
    }];
  }, [arrays, name, names.join(), evaluation]);
  const marks = useMemo(() => found.trainings.flatMap((_, i) => Array.from(arrays[`${i}/skipped`] ?? [])), [arrays]);
  const zoom = (/** @type {number} */ begin, /** @type {number} */ end) => {
    const digits = (/** @type {number} */ value) => String(by.value === "step" ? Math.round(value) : Number(value.toPrecision(6)));
    from.value = digits(begin);
    to.value = digits(end);
  };
  return html`<section class="card"><${Plot} title=${about?.title ?? name} x=${arrays.x} curves=${shownCurves} marks=${marks}
    logX=${logX.value} logY=${logY.value} xName=${AXES.find((axis) => axis.value === by.value)?.label} xText=${xText}
    sync="training" onZoom=${zoom} onUnzoom=${() => (from.value = to.value = "")} /></section>`;
}

/** What tells trainings apart: the stage, the run, or both. @param {import("./state.js").TrainingState[]} trainings */
function labels(trainings) {
  const oneRun = new Set(trainings.map((one) => one.run)).size === 1;
  const oneStage = new Set(trainings.map((one) => one.place)).size === 1;
  return trainings.map((one) => (oneRun ? one.title : oneStage ? one.run : `${one.run}: ${one.title}`));
}
