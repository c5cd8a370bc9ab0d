"""`report.html`: one self-contained page of a run, made from its manifests and the files beside them."""

from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any

from crawl2chat.refine.funnel import FUNNEL, IN_FUNNEL
from crawl2chat.report import plots
from crawl2chat.report.base import base_parts, base_samples
from crawl2chat.report.posttraining import (
    honesty_plots,
    kept_table,
    prefer_plots,
    prefer_samples,
    reinforce_plots,
    side_by_side,
)
from crawl2chat.report.pretraining import pretrain_plots, pretrain_samples
from crawl2chat.report.refining import funnel_table, reject_samples
from crawl2chat.report.rows import figure_table, read_rows
from crawl2chat.stages.figures import Figure
from crawl2chat.stages.files import AnyPath, StageError, atomic_write
from crawl2chat.stages.stage import Manifest, is_current, read_manifest

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; margin: .5rem 0 } td, th { padding: .15rem .9rem .15rem 0; text-align: left }
td { vertical-align: top; overflow-wrap: anywhere }
td.n { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums }
svg { display: block; max-width: 100%; height: auto }
pre { white-space: pre-wrap; background: #f4f4f2; padding: .6rem .8rem; border-radius: 4px } b.given { color: #777 }
h2 { margin-top: 2.5rem; border-bottom: 1px solid #ddd } small { color: #777 }
@media (prefers-color-scheme: dark) { body { background: #1a1a1a; color: #ddd } pre { background: #262626 }
  svg { background: #eee } }
"""
STAGE_ORDER = ("crawl", "refine", "tokenizer", "import", "pretrain", "base", "sft", "honesty", "reinforce", "prefer")
SHOWN = 8  # samples, answers and rejects of each kind


def read_run(run: AnyPath) -> list[tuple[Path, Manifest]]:
    """Return a run's finished stages in pipeline order, each with its folder.

    A stage that was made from an earlier state of another stage is left out, since its figures are no longer
    those of this run. Raises StageError if no finished stage is left.
    """
    run = Path(run)
    finished = [(folder, read_manifest(folder)) for folder in sorted(run.glob("*/"))]
    current = [(folder, manifest) for folder, manifest in finished if manifest and is_current(run, manifest)]
    if not current:
        raise StageError(f"{run}: no finished stage in it")
    order = {name: i for i, name in enumerate(STAGE_ORDER)}
    return sorted(current, key=lambda entry: order.get(entry[1].stage, len(order)))


def write_report(run: AnyPath) -> Path:
    """Write `run/report.html` from the files of the finished stages; returns its path."""
    run = Path(run)
    parts = [f"<h1>{escape(run.name)}</h1>"]
    stages = read_run(run)
    for folder, manifest in stages:
        parts.append(f"<h2>{manifest.stage}</h2>")
        parts.append(f"<small>{manifest.seconds:,.1f} s, started {escape(manifest.started)}</small>")
        parts += _section(folder, manifest)
    parts += kept_table([manifest for _, manifest in stages])
    parts += side_by_side([folder for folder, _ in stages])
    title = f"crawl2chat: {escape(run.name)}"
    page = (
        f'<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style>'
        f"<body>{''.join(parts)}</body></html>\n"
    )
    with atomic_write(run / "report.html") as temporary:
        temporary.write_text(page, encoding="utf-8")
    return run / "report.html"


def _section(folder: Path, manifest: Manifest) -> Iterator[str]:
    """Plots first, then the figures, then things to read."""
    figures = manifest.figure_list()
    if manifest.stage == "refine":
        yield plots.funnel_bars(folder / FUNNEL)
        yield funnel_table(folder)
        figures = [figure for figure in figures if not figure.name.startswith(IN_FUNNEL)]
    if manifest.stage == "pretrain":
        yield from pretrain_plots(folder, figures)
    if manifest.stage == "sft":
        yield from _answer_curves(figures)
    if manifest.stage == "honesty":
        yield from honesty_plots(figures)
    if manifest.stage == "reinforce":
        yield from reinforce_plots(folder)
    if manifest.stage == "prefer":
        yield from prefer_plots(folder)
    if manifest.stage == "base":
        yield from base_parts(figures)
    else:
        yield figure_table(figures)
    if manifest.stage == "refine":
        yield from reject_samples(folder)
    if manifest.stage == "pretrain":
        yield from pretrain_samples(folder)
    if manifest.stage == "base":
        yield from base_samples(folder)
    if manifest.stage == "sft":
        yield from _answer_tables(read_rows(folder / "answers.jsonl"))
    if manifest.stage == "prefer":
        yield from prefer_samples(folder)


def _answer_curves(figures: Sequence[Figure]) -> Iterator[str]:
    def of(prefix: str) -> list[Figure]:
        return [f for f in figures if f.name.startswith(prefix + "/")]

    # held-out ones first: only they have people on 0 pages, and the first series orders the axis
    facts = {"questions held out": of("facts_held_out"), "questions taught": of("facts_taught")}
    if all(facts.values()):
        yield "<h3>Questions about people, by number of pages about the person</h3>"
        yield plots.share_curves(facts, "pages about the person")
    sums = {"step by step": of("sums_step_by_step"), "at once": of("sums_at_once")}
    if all(sums.values()):
        yield "<h3>Held-out sums</h3>"
        yield plots.share_curves(sums, "")


def _answer_tables(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Yield some right and some wrong answers, spread over all questions."""
    for title, right in (("Right answers", True), ("Wrong answers", False)):
        chosen = [row for row in rows if row["right"] == right]
        chosen = chosen[:: max(1, len(chosen) // SHOWN)][:SHOWN]
        if chosen:
            yield f"<h3>{title}</h3><table><tr><th>question<th>answer<th>expected"
            for row in chosen:
                yield f"<tr><td>{escape(row['question'])}<td>{escape(row['answer'])}<td>{escape(row['expected'])}"
            yield "</table>"
