"""The report up to the base model: pages dropped, the course of pretraining, and what the base model can do."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from html import escape
from itertools import groupby
from pathlib import Path
from typing import Any

from crawl2chat.refine.funnel import FUNNEL, read_funnel, rows
from crawl2chat.report import plots
from crawl2chat.report.captions import CURVES, by_part
from crawl2chat.report.tables import FUNNEL_COLUMNS, funnel_rows, html_figures, html_table, rows_of
from crawl2chat.stages.figures import Figure
from crawl2chat.stages.stage import METRICS, SAMPLES_DURING
from crawl2chat.train.metrics import read_metrics

MAX_REJECTS = 3  # shown for each reason
BATCH = 1000
SHOWN_STEPS = 6  # of one beginning's continuations during training
SHOWN_ANSWERS = 4  # of the base model, of each kind


def refine_plots(folder: Path, figures: Sequence[Figure]) -> Iterator[str]:
    """Yield the funnel as bars and as a table of reasons."""
    yield plots.funnel_bars(folder / FUNNEL)
    yield html_table(FUNNEL_COLUMNS, funnel_rows(folder), numbers=(2, 3, 4))


def reject_samples(folder: Path) -> Iterator[str]:
    """Yield the first rejects of each reason in the funnel's order, folded."""
    dropped = {(row.step, row.reason): row.pages for row in rows(read_funnel(folder)) if row.pages}
    samples = _first_of_each(folder / "rejects", dropped)
    if samples:
        yield "<h3>Examples of dropped pages</h3><small>personal data is masked</small>"
    for key, found in samples.items():
        yield f"<details><summary>{escape(': '.join(key))} ({dropped[key]:,})</summary>"
        cells = []
        for row in found:
            value = "" if row["value"] is None else f"{row['value']:.4g}"
            cells.append((row["url"], ", ".join(filter(None, (value, row["detail"]))), row["snippet"] or ""))
        yield html_table(("page", "measured value", "beginning of its text"), cells) + "</details>"


def _first_of_each(rejects: Path, dropped: dict[tuple[str, str], int]) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """Up to MAX_REJECTS rows of each step and reason; reads on only until it has them."""
    import pyarrow.parquet as pq

    samples: dict[tuple[str, str], list[dict[str, Any]]] = {key: [] for key in dropped}
    missing = Counter({key: min(MAX_REJECTS, pages) for key, pages in dropped.items()})
    columns = ["url", "step", "reason", "value", "detail", "snippet"]
    for file in sorted(rejects.glob("*.parquet")):
        for batch in pq.ParquetFile(file).iter_batches(BATCH, columns=columns):
            for row in batch.to_pylist():
                key = row["step"], row["reason"]
                if missing[key] > 0:
                    samples[key].append(row)
                    missing[key] -= 1
            if not +missing:
                return samples
    return {key: found for key, found in samples.items() if found}


def pretrain_plots(folder: Path, figures: Sequence[Figure]) -> Iterator[str]:
    """Loss and bits per byte; gradient norm and learning rate; induction heads; the steps that were skipped."""
    lines = read_metrics(folder / METRICS)
    unigram = next((f.value for f in figures if f.name == "unigram_bits_per_byte"), None)
    yield plots.loss_curve(lines, unigram)
    if any("lr_scale" in line for line in lines):
        yield plots.gradient_curve(lines)
    yield from induction_plot(lines)
    skipped = [(f"{line['step']:,}", line["skipped"]) for line in lines if "skipped" in line]
    if skipped:
        yield f"<h3>Skipped steps: {len(skipped)}</h3>" + html_table((), skipped[:SHOWN_STEPS], numbers=(0,))


def induction_plot(lines: Sequence[dict[str, float]]) -> Iterator[str]:
    """Plot by step the strongest head's score on repeated pairs of tokens, and the share of pairs that are copied."""
    scored = [line for line in lines if "induction" in line]
    if scored:
        yield "<h3>Induction heads: when a pair of tokens is repeated on a page</h3>"
        series = {
            "strongest head's attention to what followed": [(line["step"], line["induction"]) for line in scored],
            "second tokens predicted": [(line["step"], line["copied"]) for line in scored],
        }
        yield plots.lines(series, "step", "share")


def pretrain_samples(folder: Path) -> Iterator[str]:
    """Yield what the model writes now, and how it continued the same beginnings during training."""
    yield "<h3>What the model writes</h3><small>the given beginning is grey</small>"
    for sample in rows_of(folder / "samples.jsonl"):
        yield f'<pre><b class="given">{escape(sample["prompt"])}</b>{escape(sample["continuation"])}</pre>'
    during = sorted(rows_of(folder / SAMPLES_DURING), key=lambda row: row["prompt"])
    if during:
        yield "<h3>What it wrote along the way</h3><small>the most probable continuation, by training step</small>"
    for prompt, of_prompt in groupby(during, key=lambda row: row["prompt"]):
        by_step = sorted(of_prompt, key=lambda row: row["step"])
        # the first, the last, and some between: early ones closer together, as most is learned early
        last = len(by_step) - 1
        chosen = sorted({round(last * (i / (SHOWN_STEPS - 1)) ** 2) for i in range(SHOWN_STEPS)})
        cells = [(f"{by_step[i]['step']:,}", by_step[i]["continuation"]) for i in chosen]
        yield f'<p><b class="given">{escape(prompt)}</b>' + html_table((), cells, numbers=(0,))


def base_parts(figures: Sequence[Figure]) -> Iterator[str]:
    """Yield each part of the suite: what it measures, its plots, and a folded table of all its figures."""
    for part, found in by_part(figures):
        yield f"<h3>{escape(part.title)}</h3><p>{escape(part.note)}</p>"
        yield from _plots(found)
        yield f"<details><summary>{len(found)} figures</summary>{html_figures(found)}</details>"


def _plots(figures: Sequence[Figure]) -> Iterator[str]:
    """Yield curves with their intervals, for all curves that have at least one figure."""
    rates = [figure for figure in figures if figure.name.startswith("bits_per_byte/")]
    if rates:
        yield "<h4>Bits per byte of held-out text</h4>"
        yield plots.bars({_spaced(figure.name.partition("/")[2]): figure.value for figure in rates}, "bits per byte")
    for title, (x_label, y_label, prefixes) in CURVES.items():
        series = {name: _of(figures, prefix) for name, prefix in prefixes.items()}
        series = {name: found for name, found in series.items() if found}
        if series:
            yield f"<h4>{title}</h4>"
            yield plots.share_curves(series, x_label, y_label)


def base_samples(folder: Path) -> Iterator[str]:
    """Yield tables of recited passages, and of answers on each kind of page."""
    rows = rows_of(folder / "recitation.jsonl")  # some prompts are from the middle, to compare prompt lengths
    recited = [row for row in rows if row["prompt_tokens"] == 16 and row["passage"].startswith(row["prompt"])]
    recited = sorted(recited, key=lambda row: row["copies"])[:: max(1, len(recited) // (2 * SHOWN_ANSWERS))]
    if recited:
        cells = [
            (f"{row['copies']:,}", row["prompt"], row["continuation"], f"{row['words_right']} of {row['words']}")
            for row in recited
        ]
        head = ("copies", "given", "continued", "words right")
        yield "<h3>Passages and their continuations</h3>" + html_table(head, cells, numbers=(0, 3))
    answers = rows_of(folder / "in-context.jsonl")
    for group in ("glossary/8", "glossary_absent/8", "phrase_book/8"):
        found = [(row["prompt"], row["said"], row["right"]) for row in answers if row["group"] == group]
        if found:
            yield f"<h3>{escape(group.replace('_', ' '))}</h3>"
            yield html_table(("page", "the model's answer", "right answer"), found[:SHOWN_ANSWERS])


def _of(figures: Sequence[Figure], prefix: str) -> list[Figure]:
    """Return the figures of a curve, named by their points, with those of held-out text in each curve."""
    kind = prefix.partition("/")[0]
    held_out = f"{kind}/held_out"
    return [
        replace(f, name=f"{kind}/" + _spaced(f.name.removeprefix(f"{kind}/" if f.name == held_out else prefix)))
        for f in figures
        if f.name == held_out or f.name.startswith(prefix)
    ]


def _spaced(name: str) -> str:
    return name.replace("_", " ")
