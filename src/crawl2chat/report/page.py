"""`report.html`: one self-contained page of a run, made from its manifests and the files next to them.

First what the run measured in a sentence per stage, then one question through all stages, then each stage with its
plots, sentences and samples; all figures are folded away. The page has no scripts and loads nothing.
"""

from collections.abc import Callable, Iterator, Sequence
from html import escape
from pathlib import Path

from crawl2chat.honesty.settings import HonestySettings
from crawl2chat.refine.funnel import IN_FUNNEL
from crawl2chat.report.journey import journeys
from crawl2chat.report.posttraining import (
    honesty_plots,
    honesty_samples,
    kept_table,
    prefer_plots,
    prefer_samples,
    reinforce_plots,
    reinforce_samples,
    sft_plots,
    sft_samples,
)
from crawl2chat.report.pretraining import (
    base_parts,
    base_samples,
    pretrain_plots,
    pretrain_samples,
    refine_plots,
    reject_samples,
    tokenizer_samples,
)
from crawl2chat.report.sentences import MEASURED_IN, STAGES, as_html, sentences, summary
from crawl2chat.report.tables import folded, html_figures
from crawl2chat.stages.figures import Figure
from crawl2chat.stages.files import AnyPath, StageError, atomic_write
from crawl2chat.stages.stage import Manifest, is_current, read_manifest

STYLE = (Path(__file__).parent / "report.css").read_text(encoding="utf-8")
PLOTS: dict[str, Callable[[Path, Sequence[Figure]], Iterator[str]]] = {
    "refine": refine_plots, "pretrain": pretrain_plots, "sft": sft_plots, "honesty": honesty_plots,
    "reinforce": reinforce_plots, "prefer": prefer_plots,
}  # fmt: skip
SAMPLES: dict[str, Callable[[Path], Iterator[str]]] = {
    "refine": reject_samples, "tokenizer": tokenizer_samples, "pretrain": pretrain_samples, "base": base_samples,
    "sft": sft_samples, "honesty": honesty_samples, "reinforce": reinforce_samples, "prefer": prefer_samples,
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
    order = {name: i for i, name in enumerate(STAGES)}
    return sorted(current, key=lambda entry: order.get(entry[1].stage, len(order)))


def write_report(run: AnyPath) -> Path:
    """Write `run/report.html` from the files of the finished stages; returns its path."""
    run = Path(run)
    stages = read_run(run)
    title = f"{run.resolve().name}: from crawl to chat"
    body = "".join(_body(title, stages))
    page = (
        f'<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        # what pages and models wrote is in here: even if a part of it were taken for markup, it could load nothing
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<style>{STYLE}</style><body>{body}</body></html>\n"
    )
    with atomic_write(run / "report.html") as temporary:
        temporary.write_text(page, encoding="utf-8")
    return run / "report.html"


def _body(title: str, stages: Sequence[tuple[Path, Manifest]]) -> Iterator[str]:
    manifests = [manifest for _, manifest in stages]
    folders = [folder for folder, _ in stages]
    question = "".join(journeys(folders, *_thresholds(manifests)))
    kept = "".join(kept_table(manifests))
    yield f'<main id="top"><h1>{escape(title)}</h1>'
    yield f'<p class="lead">{len(stages)} stages, {_duration(sum(m.seconds for m in manifests))} in all, begun on '
    yield f"{escape(min(m.started for m in manifests)[:10])}. Brackets hold 95 % intervals.</p>"
    yield '<nav aria-label="Contents">'
    if question:
        yield '<a href="#question">One question through all stages</a>'
    yield "".join(f'<a href="#{m.stage}">{escape(m.stage)}</a>' for m in manifests)
    yield '<a href="#kept">what each stage kept</a></nav>' if kept else "</nav>"
    yield '<h2>What this run measured</h2><ul class="summary">' + "".join(_summary(manifests)) + "</ul>"
    if question:
        yield f'<section id="question"><h2>One question through all stages</h2>{question}</section>'
    for folder, manifest in stages:
        yield from _section(folder, manifest)
    yield f"{kept}</main>"


def _summary(manifests: Sequence[Manifest]) -> Iterator[str]:
    for stage, title, said in summary(manifests):
        yield f'<li><a href="#{stage}">{escape(title)}</a><span>{"".join(map(as_html, said))}</span>'


def _section(folder: Path, manifest: Manifest) -> Iterator[str]:
    """Yield what a stage does and what was measured, its plots, things to read, and all figures folded away."""
    stage = manifest.stage
    figures = [figure for figure in manifest.figure_list() if not figure.name.startswith(IN_FUNNEL)]
    by_name = {figure.name: figure for figure in figures}
    text = STAGES.get(stage)
    yield f'<section id="{escape(stage)}"><h2>{escape(text.title if text else stage)}</h2>'
    if text:
        said = [*sentences(stage, by_name)]
        for part in (name for name, of in MEASURED_IN.items() if of == stage):
            said += sentences(part, by_name)
        yield f'<p class="lead">{escape(text.happens)}</p>'
        yield f'<ul class="says">{"".join(f"<li>{each}" for each in said)}</ul>' if said else ""
    drawn = "".join(PLOTS[stage](folder, figures)) if stage in PLOTS else ""
    yield f'<div class="plots">{drawn}</div>' if drawn else ""
    if stage == "base":
        yield from base_parts(figures)
    if stage in SAMPLES:
        yield from SAMPLES[stage](folder)
    if stage != "base" and figures:
        yield folded(f"All {len(figures)} figures", html_figures(figures))
    yield f"<p><small>{_duration(manifest.seconds)}, begun {escape(manifest.started)}</small></p></section>"


def _thresholds(manifests: Sequence[Manifest]) -> tuple[float, float]:
    """Shares of right answers from which a fact counts as known, and up to which as unknown: as honesty had them."""
    settings = next((m.settings for m in manifests if m.stage == "honesty"), {})
    default = HonestySettings()
    return settings.get("known_from", default.known_from), settings.get("unknown_to", default.unknown_to)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.1f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
