"""`report.html`: one self-contained page of a run, made from its manifests and the files beside them."""

from collections.abc import Callable, Iterator, Sequence
from html import escape
from pathlib import Path

from crawl2chat.refine.funnel import IN_FUNNEL
from crawl2chat.report.posttraining import (
    honesty_plots,
    kept_table,
    prefer_plots,
    prefer_samples,
    reinforce_plots,
    sft_plots,
    sft_samples,
    side_by_side,
)
from crawl2chat.report.pretraining import (
    base_parts,
    base_samples,
    pretrain_plots,
    pretrain_samples,
    refine_plots,
    reject_samples,
)
from crawl2chat.report.tables import html_figures
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
PLOTS: dict[str, Callable[[Path, Sequence[Figure]], Iterator[str]]] = {
    "refine": refine_plots, "pretrain": pretrain_plots, "sft": sft_plots, "honesty": honesty_plots,
    "reinforce": reinforce_plots, "prefer": prefer_plots,
}  # fmt: skip
SAMPLES: dict[str, Callable[[Path], Iterator[str]]] = {
    "refine": reject_samples, "pretrain": pretrain_samples, "base": base_samples, "sft": sft_samples,
    "prefer": prefer_samples,
}  # fmt: skip


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
    figures = [figure for figure in manifest.figure_list() if not figure.name.startswith(IN_FUNNEL)]
    if manifest.stage in PLOTS:
        yield from PLOTS[manifest.stage](folder, figures)
    yield from base_parts(figures) if manifest.stage == "base" else [html_figures(figures)]
    if manifest.stage in SAMPLES:
        yield from SAMPLES[manifest.stage](folder)
