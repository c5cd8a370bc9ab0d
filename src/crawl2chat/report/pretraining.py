"""The report up to the base model: pages dropped, the course of pretraining, and what the base model can do."""

from collections import Counter
from collections.abc import Iterator, Sequence
from html import escape
from itertools import groupby
from pathlib import Path
from typing import Any

from crawl2chat.refine.funnel import FUNNEL, read_funnel, rows
from crawl2chat.report import plots
from crawl2chat.report.captions import RATES, by_part, curves_of, rates_of
from crawl2chat.report.tables import FUNNEL_COLUMNS, folded, funnel_rows, html_figures, html_table, plot, rows_of
from crawl2chat.stages.figures import Figure
from crawl2chat.stages.stage import METRICS, SAMPLES_DURING
from crawl2chat.tokenizer import Tokenizer
from crawl2chat.train.metrics import read_metrics

MAX_REJECTS = 3  # shown for each reason
BATCH = 1000
SHOWN_STEPS = 6  # of one beginning's continuations during training
CUT = "How many r are in strawberry? Straße, naïve: 1842+17=1859."
SHOWN_ANSWERS = 4  # of the base model, of each kind


def refine_plots(folder: Path, figures: Sequence[Figure]) -> Iterator[str]:
    """Yield the funnel as bars."""
    yield plot("Pages left after each step", plots.funnel_bars(folder / FUNNEL))


def reject_samples(folder: Path) -> Iterator[str]:
    """Yield the table of reasons, and the first rejects of each in the funnel's order; all folded."""
    table = html_table(FUNNEL_COLUMNS, funnel_rows(folder), numbers=(2, 3, 4))
    yield folded("What each step dropped, and why", table)
    dropped = {(row.step, row.reason): row.pages for row in rows(read_funnel(folder)) if row.pages}
    examples = []
    for key, found in _first_of_each(folder / "rejects", dropped).items():
        cells = []
        for row in found:
            value = "" if row["value"] is None else f"{row['value']:.4g}"
            cells.append((row["url"], ", ".join(filter(None, (value, row["detail"]))), row["snippet"] or ""))
        table = html_table(("page", "measured value", "beginning of its text"), cells)
        examples.append(folded(f"{': '.join(key)} ({dropped[key]:,})", table))
    if examples:
        yield folded("Examples of dropped pages", f"<small>personal data is masked</small>{''.join(examples)}")


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


def tokenizer_samples(folder: Path) -> Iterator[str]:
    """Yield a sentence as the tokenizer cuts it."""
    tokenizer = Tokenizer.load(folder)
    pieces = (tokenizer.decode_bytes([id]).decode("utf-8", errors="backslashreplace") for id in tokenizer.encode(CUT))
    spans = "".join(f"<span>{escape(piece)}</span>" for piece in pieces)
    yield "<h3>How it cuts text</h3>"
    yield f'<p class="tokens">{spans}</p><p><small>A model does not see the letters in a token.</small></p>'


def pretrain_plots(folder: Path, figures: Sequence[Figure]) -> Iterator[str]:
    """Yield plots of loss and bits per byte, of gradient norm and learning rate, and of induction heads."""
    lines = read_metrics(folder / METRICS)
    unigram = next((f.value for f in figures if f.name == "unigram_bits_per_byte"), None)
    yield plot(
        "Loss while it learns",
        plots.loss_curve(lines, unigram),
        "Blue: loss on what it is just reading. Orange: bits per byte of text that it never reads.",
    )
    if any("lr_scale" in line for line in lines):
        yield plot(
            "Size of the gradients, and the learning rate",
            plots.gradient_curve(lines),
            "A step whose gradient is far too large would be skipped, and marked here.",
        )
    yield from induction_plot(lines)


def induction_plot(lines: Sequence[dict[str, float]]) -> Iterator[str]:
    """Plot by step the strongest head's score on repeated pairs of tokens, and the share of pairs that are copied."""
    scored = [line for line in lines if "induction" in line]
    if scored:
        series = {
            "strongest head's attention to what followed": [(line["step"], line["induction"]) for line in scored],
            "second tokens predicted": [(line["step"], line["copied"]) for line in scored],
        }
        yield plot(
            "Induction heads: a pair of tokens that is repeated on a page",
            plots.lines(series, "step", "share"),
            "When this rises, the model has learned to copy from what it has just read.",
        )


def pretrain_samples(folder: Path) -> Iterator[str]:
    """Yield skipped steps, what the model writes now, and how it continued the same beginnings during training."""
    lines = read_metrics(folder / METRICS)
    skipped = [(f"{line['step']:,}", line["skipped"]) for line in lines if "skipped" in line]
    if skipped:
        yield f"<h3>Skipped steps: {len(skipped)}</h3>" + html_table((), skipped[:SHOWN_STEPS], numbers=(0,))
    yield "<h3>What the model writes</h3><small>the given beginning is grey</small>"
    written = [
        f'<pre><b class="given">{escape(sample["prompt"])}</b>{escape(sample["continuation"])}</pre>'
        for sample in reversed(rows_of(folder / "samples.jsonl"))  # those with a given beginning come last
    ]
    yield from written[:SHOWN_ANSWERS]
    if more := written[SHOWN_ANSWERS:]:
        yield folded(f"{len(more)} more", "".join(more))
    during = sorted(rows_of(folder / SAMPLES_DURING), key=lambda row: row["prompt"])
    if during:
        yield "<h3>What it wrote along the way</h3><small>the most probable continuation, by training step</small>"
    for prompt, of_prompt in groupby(during, key=lambda row: row["prompt"]):
        by_step = sorted(of_prompt, key=lambda row: row["step"])
        # the first, the last, and some between: early ones closer together, as most is learned early
        last = len(by_step) - 1
        chosen = sorted({round(last * (i / (SHOWN_STEPS - 1)) ** 2) for i in range(SHOWN_STEPS)})
        cells = [(f"{by_step[i]['step']:,}", by_step[i]["continuation"]) for i in chosen]
        yield folded(prompt or "from the beginning of a page", html_table((), cells, numbers=(0,)))


def base_parts(figures: Sequence[Figure]) -> Iterator[str]:
    """Yield each part of the suite: its plots, and folded how to read them and all its figures."""
    for part, found in by_part(figures):
        drawn = "".join(_plots(found))
        yield f"<h3>{escape(part.title)}</h3>" + (f'<div class="plots">{drawn}</div>' if drawn else "")
        yield folded(
            f"How to read this, and all {len(found)} figures", f"<p>{escape(part.note)}</p>{html_figures(found)}"
        )


def _plots(figures: Sequence[Figure]) -> Iterator[str]:
    """Yield curves with their intervals, for all curves that have at least one figure."""
    if rates := rates_of(figures):
        yield plot(RATES, plots.bars({name: figure.value for name, figure in rates.items()}, "bits per byte"))
    for curves in curves_of(figures):
        yield plot(curves.title, plots.share_curves(curves.series, curves.x_label, curves.y_label))


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
