/** Reward and taste by the distance from the start, of training and of best-of-n, and what the stopping rule saw. */

import { html } from "htm/preact";
import { useMemo } from "preact/hooks";
import { Plot } from "../../common/plot.js";
import { brief } from "../../common/numbers.js";
import { about, by, placeOf, step } from "./state.js";

/** @typedef {{x: number, y: number | null | undefined, low?: number, high?: number}} Point */

export function Curves() {
  const found = about.value;
  const byStep = by.value === "step";
  const plots = useMemo(() => {
    if (!found) return [];
    const { policy, best_of_n: bestOf, kept } = found;
    const x = (/** @type {import("./state.js").Check} */ check) => (byStep ? check.step : check.sqrt_kl);
    const chosen = policy.filter((check) => check.step === kept);
    const others = byStep ? [] : bestOf;
    return [
      plot("Reward by the reward model, nats", [
        { label: "training", points: policy.map((check) => ({ x: x(check), y: check.proxy })) },
        { label: "best of n", points: others.map((one) => ({ x: one.sqrt_kl, y: one.proxy })) },
        { label: "kept", points: chosen.map((check) => ({ x: x(check), y: check.proxy })) },
      ]),
      plot("Taste of the annotator, points", [
        { label: "training", points: policy.map((check) => ({
          x: x(check), y: check.gold, low: (check.gold ?? NaN) - 1.96 * (check.gold_error ?? NaN), high: (check.gold ?? NaN) + 1.96 * (check.gold_error ?? NaN),
        })) },
        { label: "best of n", points: others.map((one) => ({ x: one.sqrt_kl, y: one.gold })) },
        { label: "kept", points: chosen.map((check) => ({ x: x(check), y: check.gold })) },
      ]),
      plot("Comparisons with the start that are won, share", [
        { label: "won", points: policy.filter((check) => check.compared).map((check) => ({ x: x(check), y: check.wins / check.compared })) },
        { label: "averaged with neighbours", points: policy.filter((check) => check.compared).map((check) => ({ x: x(check), y: check.smoothed_win_rate })) },
        { label: "kept", points: chosen.filter((check) => check.compared).map((check) => ({ x: x(check), y: check.smoothed_win_rate })) },
      ]),
    ].filter((one) => one.curves.length);
  }, [found, byStep]);
  if (!found) return null;
  const now = found.policy[placeOf(found.policy)];
  const at = byStep ? now.step : now.sqrt_kl;
  /** The check that is nearest to a place. @param {number} x */
  const pick = (x) => {
    const distance = (/** @type {import("./state.js").Check} */ check) => Math.abs((byStep ? check.step : check.sqrt_kl) - x);
    step.value = found.policy.reduce((best, check) => (distance(check) < distance(best) ? check : best)).step;
  };
  return html`<div class="plots">${plots.map(({ title, x, curves }) => html`<section key=${title} class="card">
      <${Plot} title=${title} x=${x} curves=${curves} xName=${byStep ? "step" : "√KL"} xText=${byStep ? String : brief} sync="preferences" at=${at} onPick=${pick} />
    </section>`)}</div>
    <p class="hint">KL (Kullback–Leibler divergence) says how far the answers’ distribution is from the start’s, in nats per answer; its root grows about evenly.
      The band about the taste is its 95 % interval.${found.best_of_n.length > 0 && !byStep && html` Best of n: of the start’s answers the one with the highest reward among
      ${` ${found.best_of_n.map((one) => one.n).join(", ")}`}.`}</p>`;
}

/** @param {string} title @param {{label: string, points: Point[]}[]} lines */
function plot(title, lines) {
  const there = lines.map((line, style) => ({ ...line, style, points: line.points.filter(({ y }) => y !== null && y !== undefined) })).filter((line) => line.points.length);
  const x = Float64Array.from(new Set(there.flatMap((line) => line.points.map((point) => point.x)))).sort();
  const place = new Map(Array.from(x, (value, i) => [value, i]));
  const filled = (/** @type {Point[]} */ points, /** @type {"y" | "low" | "high"} */ part) => {
    const values = new Float32Array(x.length).fill(NaN);
    for (const point of points) values[/** @type {number} */ (place.get(point.x))] = point[part] ?? NaN;
    return values;
  };
  return {
    title, x,
    curves: there.map(({ label, points, style }) => ({
      label, style, points: true, smooth: filled(points, "y"),
      ...(points[0].low === undefined ? {} : { low: filled(points, "low"), high: filled(points, "high") }),
    })),
  };
}
