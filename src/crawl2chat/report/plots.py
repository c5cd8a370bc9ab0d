"""Plots as SVG text, to be included in the report's page."""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from crawl2chat.stages.figures import Figure

LEVELS = {"guess": "what guessing gives", "held out": "held-out text"}  # groups drawn as a line across all others


def loss_curve(metrics: Sequence[Mapping[str, Any]], unigram: float | None = None) -> str:
    """Training loss (nats per token) and bits per byte of held-out text, by step."""
    steps = [(line["step"], line["loss"]) for line in metrics if "loss" in line]
    held_out = [(line["step"], line["bits_per_byte"]) for line in metrics if "bits_per_byte" in line]
    figure, axes = _axes("step", "training loss, nats per token")
    axes.plot(*zip(*steps, strict=True), linewidth=0.8, color="tab:blue")
    if held_out:
        twin = axes.twinx()
        twin.plot(*zip(*held_out, strict=True), marker="o", markersize=3, color="tab:orange")
        twin.set_ylabel("held-out bits per byte", color="tab:orange")
        if unigram is not None:
            twin.axhline(unigram, linestyle=":", color="tab:orange")
            twin.text(steps[-1][0], unigram, "unigram", va="bottom", ha="right", fontsize=8, color="tab:orange")
        twin.set_ylim(bottom=0)
    return _svg(figure)


def gradient_curve(metrics: Sequence[Mapping[str, Any]]) -> str:
    """Gradient norm before clipping, with the skipped steps marked on it, and the learning rate's factor."""
    norms = [(line["step"], line["grad_norm"]) for line in metrics if "grad_norm" in line]
    skipped = [(line["step"], line["grad_norm"]) for line in metrics if "skipped" in line and "grad_norm" in line]
    rates = [(line["step"], line["lr_scale"]) for line in metrics if "lr_scale" in line]
    figure, axes = _axes("step", "gradient norm")
    axes.plot(*zip(*norms, strict=True), linewidth=0.8, color="tab:blue")
    if skipped:
        axes.plot(*zip(*skipped, strict=True), "x", color="tab:red", label="skipped")
        axes.legend(frameon=False)
    axes.set_yscale("log")
    twin = axes.twinx()
    twin.plot(*zip(*rates, strict=True), color="tab:orange")
    twin.set_ylabel("learning rate, share of its peak", color="tab:orange")
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
    figure.legend(frameon=False, fontsize=8, loc="outside right upper")
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
        axes.plot(*zip(*points, strict=True), marker="o", markersize=3, linewidth=1, label=name)
    axes.legend(frameon=False)
    return _svg(figure)


def bars(values: Mapping[str, float], x_label: str) -> str:
    """One bar per value, the first on top, with the value next to it."""
    figure, axes = _axes(x_label, "")
    drawn = axes.barh([*values][::-1], [*values.values()][::-1], color="tab:blue")
    axes.bar_label(drawn, fmt=" %.3g", fontsize=8)
    return _svg(figure)


def funnel_bars(funnel_file: Path) -> str:
    """How many pages each step of refining kept."""
    steps = json.loads(funnel_file.read_text(encoding="utf-8"))["steps"]
    figure, axes = _axes("pages kept after the step", "")
    names = ["crawled", *(step["step"] for step in steps)][::-1]
    left = [steps[0]["in"], *(step["out"] for step in steps)][::-1]
    bars = axes.barh(names, left, color="tab:blue")
    axes.bar_label(bars, labels=[f" {n:,}" for n in left], fontsize=8)
    return _svg(figure)


def _axes(x_label: str, y_label: str) -> tuple[Any, Any]:
    from matplotlib.figure import Figure as Canvas  # not pyplot: nothing here needs a screen

    figure = Canvas(figsize=(7, 3.2), layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.spines[["top"]].set_visible(False)
    return figure, axes


def _svg(figure: Any) -> str:
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "crawl2chat"}):  # equal runs, equal bytes
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]
