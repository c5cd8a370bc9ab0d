"""Plots as SVG text, to be included in the report's page.

They are drawn as wide as a phone, so that their letters are legible there; on a wide screen two stand side by side.
Lines and letters take the page's colour, so that they can be read on a light and on a dark ground.
"""

import io
import json
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from crawl2chat.report.names import STEPS
from crawl2chat.stages.figures import Figure

SIZE = (4.4, 3.0)  # inches
COLOURS = ("#2b7de0", "#d9741a", "#1f9d6b", "#c2428c", "#8a63d2")  # each at least 3:1 on the light and the dark ground
BLUE, ORANGE = COLOURS[:2]
ROOM_FOR_NAMES = 45  # characters next to each other below an axis
MOST_POINTS = 400  # of a curve; a run of a million steps would otherwise make a page of 100 MB
LEVELS = {  # groups drawn as a line across all others
    "guess": "what guessing gives",
    "held out": "held-out text",
    "always the most common count": "always the most common count",
}


def thin(points: Sequence[tuple[float, float]], most: int = MOST_POINTS) -> list[tuple[float, float]]:
    """Return at most this many points: the means of as many neighbours each; few points as they are."""
    if len(points) <= most:
        return list(points)
    bounds = [len(points) * i // most for i in range(most + 1)]
    parts = [points[low:high] for low, high in pairwise(bounds)]
    return [(sum(x for x, _ in part) / len(part), sum(y for _, y in part) / len(part)) for part in parts]


def loss_curve(metrics: Sequence[Mapping[str, Any]], unigram: float | None = None) -> str:
    """Training loss (nats per token) and bits per byte of held-out text, by step."""
    steps = [(line["step"], line["loss"]) for line in metrics if "loss" in line]
    held_out = thin([(line["step"], line["bits_per_byte"]) for line in metrics if "bits_per_byte" in line])
    figure, axes = _axes("step", "training loss, nats per token")
    axes.plot(*zip(*thin(steps), strict=True), linewidth=0.8, color=BLUE)
    if held_out:
        twin = _twin(axes)
        twin.plot(*zip(*held_out, strict=True), marker="o", markersize=3, color=ORANGE)
        twin.set_ylabel("held-out bits per byte", color=ORANGE)
        if unigram is not None:
            twin.axhline(unigram, linestyle=":", color=ORANGE)
            twin.text(steps[-1][0], unigram, "by single tokens", va="bottom", ha="right", fontsize=8, color=ORANGE)
        twin.set_ylim(0, 1.12 * max(unigram or 0, *(rate for _, rate in held_out)))
    return _svg(figure)


def gradient_curve(metrics: Sequence[Mapping[str, Any]]) -> str:
    """Gradient norm before clipping, with the skipped steps marked on it, and the learning rate's factor."""
    norms = [(line["step"], line["grad_norm"]) for line in metrics if "grad_norm" in line]
    skipped = [(line["step"], line["grad_norm"]) for line in metrics if "skipped" in line and "grad_norm" in line]
    rates = [(line["step"], line["lr_scale"]) for line in metrics if "lr_scale" in line]
    figure, axes = _axes("step", "gradient norm")
    axes.plot(*zip(*thin(norms), strict=True), linewidth=0.8, color=BLUE)
    if skipped:
        axes.plot(*zip(*skipped[:MOST_POINTS], strict=True), "x", color=COLOURS[3], label="skipped")
        axes.legend(frameon=False)
    axes.set_yscale("log")
    twin = _twin(axes)
    twin.plot(*zip(*thin(rates), strict=True), color=ORANGE)
    twin.set_ylabel("learning rate, share of its peak", color=ORANGE)
    twin.set_ylim(bottom=0)
    return _svg(figure)


def share_curves(groups: Mapping[str, Sequence[Figure]], x_label: str, y_label: str = "right answers") -> str:
    """Shares with their intervals over named groups on the x axis, one line per series; LEVELS are dotted lines."""
    figure, axes = _axes(x_label, y_label)
    levels = set()
    for series, all_figures in groups.items():
        level_of = {f: name for f in all_figures if (name := f.name.partition("/")[2]) in LEVELS}
        figures = [f for f in all_figures if f not in level_of]
        names = [figure.name.partition("/")[2] for figure in figures]
        values = [figure.value for figure in figures]
        bounds = [figure.interval or (figure.value, figure.value) for figure in figures]
        low = [max(0.0, value - bound[0]) for value, bound in zip(values, bounds, strict=True)]
        high = [max(0.0, bound[1] - value) for value, bound in zip(values, bounds, strict=True)]
        line, *_ = axes.errorbar(names, values, yerr=[low, high], marker="o", markersize=4, capsize=2, label=series)
        for level, name in level_of.items():
            axes.axhline(level.value, linestyle=":", linewidth=1, color=line.get_color())
            levels.add(LEVELS[name])
    if levels:
        axes.plot([], [], ":", color="grey", label=", ".join(sorted(levels)))
    axes.set_ylim(-0.02, 1.02)
    if sum(len(label.get_text()) + 1 for label in axes.get_xticklabels()) > ROOM_FOR_NAMES:
        axes.tick_params(axis="x", rotation=40)
    figure.legend(frameon=False, fontsize=8, loc="outside upper left", ncols=2)
    return _svg(figure)


def share_against_tokens(ways: Mapping[str, tuple[Sequence[Figure], Sequence[Figure]]]) -> str:
    """Share of right answers by mean number of tokens written: one line per way, one point per group."""
    figure, axes = _axes("tokens per answer", "right answers")
    for way, (tokens, shares) in ways.items():
        axes.plot([t.value for t in tokens], [s.value for s in shares], marker="o", markersize=4, label=way)
        for t, s in zip(tokens, shares, strict=True):
            axes.annotate(f" {s.name.partition('/')[2]}", (t.value, s.value), fontsize=7)
    axes.set_ylim(-0.02, 1.06)
    axes.legend(frameon=False)
    return _svg(figure)


def lines(series: Mapping[str, Sequence[tuple[float, float]]], x_label: str, y_label: str) -> str:
    """Points joined to lines, one line per series."""
    figure, axes = _axes(x_label, y_label)
    for name, points in series.items():
        shown = thin(points)
        axes.plot(
            *zip(*shown, strict=True), marker="o" if len(shown) < 60 else "", markersize=3, linewidth=1, label=name
        )
    figure.legend(frameon=False, fontsize=8, loc="outside upper left")
    return _svg(figure)


def bars(values: Mapping[str, float], x_label: str) -> str:
    """One bar per value, the first on top, with the value next to it."""
    figure, axes = _axes(x_label, "")
    drawn = axes.barh([*values][::-1], [*values.values()][::-1], color=BLUE)
    axes.margins(x=0.15)
    axes.bar_label(drawn, fmt=" %.3g", fontsize=8)
    return _svg(figure)


def funnel_bars(funnel_file: Path) -> str:
    """How many pages each step of refining kept."""
    steps = json.loads(funnel_file.read_text(encoding="utf-8"))["steps"]
    figure, axes = _axes("pages kept after the step", "")
    names = ["crawled", *(STEPS.get(step["step"], step["step"]) for step in steps)][::-1]
    left = [steps[0]["in"], *(step["out"] for step in steps)][::-1]
    bars = axes.barh(names, left, color=BLUE)
    axes.margins(x=0.15)
    axes.bar_label(bars, labels=[f" {n:,}" for n in left], fontsize=8)
    return _svg(figure)


def _axes(x_label: str, y_label: str) -> tuple[Any, Any]:
    from cycler import cycler
    from matplotlib.figure import Figure as Canvas  # not pyplot: nothing here needs a screen

    figure = Canvas(figsize=SIZE, layout="constrained")
    axes = figure.add_subplot()
    axes.set_prop_cycle(cycler(color=COLOURS))
    axes.set_xlabel(x_label, fontsize=9)
    axes.set_ylabel(y_label, fontsize=9)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    for ground in (figure, axes):
        ground.set_facecolor("none")
    return figure, axes


def _twin(axes: Any) -> Any:
    """A second y axis, on the right."""
    twin = axes.twinx()
    twin.tick_params(labelsize=8)
    twin.spines[["top"]].set_visible(False)
    return twin


def _svg(figure: Any) -> str:
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "crawl2chat"}):  # equal runs, equal bytes
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r' (?:width|height)="[\d.]+pt"', "", text, count=2)  # the page says how wide
    named = set(re.findall(r"#([\w-]+)", text))
    text = re.sub(r' id="([\w.-]+)"', lambda found: found[0] if found[1] in named else "", text)  # unique in the page
    return text.replace("#000000", "currentColor")
