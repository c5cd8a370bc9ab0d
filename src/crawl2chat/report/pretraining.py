"""Pretraining in the report: how it went, step by step, and what the model wrote along the way."""

from collections.abc import Iterator, Sequence
from html import escape
from itertools import groupby
from pathlib import Path
from typing import Any

from crawl2chat.report import plots
from crawl2chat.report.base import induction_plot
from crawl2chat.report.rows import read_rows
from crawl2chat.stages.figures import Figure
from crawl2chat.stages.stage import METRICS, SAMPLES_DURING
from crawl2chat.train.metrics import read_metrics

SHOWN_STEPS = 6


def pretrain_plots(folder: Path, figures: Sequence[Figure]) -> Iterator[str]:
    """Loss and bits per byte; gradient norm and learning rate; the steps that were skipped."""
    lines = read_metrics(folder / METRICS)
    unigram = next((f.value for f in figures if f.name == "unigram_bits_per_byte"), None)
    yield plots.loss_curve(lines, unigram)
    if any("lr_scale" in line for line in lines):
        yield plots.gradient_curve(lines)
    yield from induction_plot(lines)
    skipped = [line for line in lines if "skipped" in line]
    if skipped:
        yield f"<h3>Skipped steps: {len(skipped)}</h3><table>"
        for line in skipped[:SHOWN_STEPS]:
            yield f'<tr><td class="n">{line["step"]:,}<td>{escape(line["skipped"])}'
        yield "</table>"


def pretrain_samples(folder: Path) -> Iterator[str]:
    """Yield what the model writes now, and how it continued the same beginnings along the way."""
    yield "<h3>What the model writes</h3><small>the given beginning is grey</small>"
    for sample in read_rows(folder / "samples.jsonl"):
        yield f'<pre><b class="given">{escape(sample["prompt"])}</b>{escape(sample["continuation"])}</pre>'
    rows = sorted(read_rows(folder / SAMPLES_DURING), key=lambda row: row["prompt"])
    if not rows:
        return
    yield "<h3>What it wrote along the way</h3><small>the most probable continuation, by training step</small>"
    for prompt, of_prompt in groupby(rows, key=lambda row: row["prompt"]):
        yield f'<p><b class="given">{escape(prompt)}</b><table>'
        for row in _spread(sorted(of_prompt, key=lambda row: row["step"])):
            yield f'<tr><td class="n">{row["step"]:,}<td>{escape(row["continuation"])}'
        yield "</table>"


def _spread(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The first, the last, and some between: early ones closer together, as most is learned early."""
    last = len(rows) - 1
    places = {round(last * (i / (SHOWN_STEPS - 1)) ** 2) for i in range(SHOWN_STEPS)}
    return [rows[place] for place in sorted(places)]
