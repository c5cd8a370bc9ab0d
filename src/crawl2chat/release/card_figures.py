"""Tables of figures in a model card: of the stages that made the model, of the base suite, and of other suites."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from crawl2chat.refine.funnel import IN_FUNNEL
from crawl2chat.release.lineage import Made, base_suite
from crawl2chat.report.captions import by_part
from crawl2chat.stages.figures import Figure

OF_DATA = ("crawl", "refine")  # stages whose figures describe the data, not the model
EVALS = "evals"  # folder of a run with results of other suites


def figures(title: str, made: Sequence[Made], chosen: Callable[[str, Figure], bool]) -> Iterator[str]:
    """A table of the figures that `chosen` takes, stage by stage, as `crawl2chat report` prints them."""
    found = [
        (m.manifest.stage, *_cells(f))
        for m in made
        for f in m.manifest.figure_list()
        if chosen(m.manifest.stage, f) and not f.name.startswith(IN_FUNNEL)
    ]
    if found:
        yield title
        yield table(("stage", "figure", "value [95 % interval]", "of"), found)


def evaluations(made: Sequence[Made], rounded_to: str | None) -> Iterator[str]:
    """What was measured: by the stages, with an interval; by the base suite; by other suites. Nothing for nothing."""
    before = f", before its weights were rounded to {rounded_to}" if rounded_to else ""
    stages = [*figures("### By the stages", made, lambda stage, f: stage not in OF_DATA and f.interval is not None)]
    if stages:
        note = (
            "A stage's figures are of the model as that stage left it, if they do not say otherwise (before, start, "
            "random reward); those of the last stage are this model's"
        )
        stages.append(f"{note}{before}.")
    base, others = base_suite(made), [*_other_suites(made)]
    if not (stages or base or others):
        return
    yield "## Evaluations"
    yield from stages
    if base:
        yield "### Of the base model"
        told = "This is the base model" if made[-1].manifest.stage == "pretrain" else "Later stages changed that model"
        yield f"Measured by the stage base on what pretraining left{before}. {told}."
        for part, found in by_part(base.manifest.figure_list()):
            yield f"#### {part.title}"
            if part.note:
                yield part.note
            yield table(("figure", "value [95 % interval]", "of"), [_cells(f) for f in found])
    if others:
        yield "### By other suites"
        yield table(("suite", "model", "figure", "value [95 % interval]", "of"), others)


def is_evaluated(made: Sequence[Made]) -> bool:
    return next(evaluations(made, None), None) is not None


def settings_of(made: Sequence[Made], stage: str) -> dict[str, Any] | None:
    return next((m.manifest.settings for m in made if m.manifest.stage == stage), None)


def table(head: Sequence[str], body: Sequence[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *body]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def _other_suites(made: Sequence[Made]) -> Iterator[tuple[str, ...]]:
    """Rows of what lies in the run's folder evals: JSON with `figures`, and `suite` and `model` where they are said.

    A result with a `model_hash` that none of these stages has is left out: it is of a model that was made anew since,
    or of another. Of a model's path its last part alone is shown, as paths are of somebody's machine.
    """
    hashes = [m.manifest.hash for m in made]
    folder = made[-1].folder.parent / EVALS if made else Path()
    for file in sorted(folder.glob("*.json")) if made else ():
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            found = [_cells(_from_json(name, fields)) for name, fields in content["figures"].items()]
        except (OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError):
            continue  # another tool's
        if content.get("model_hash", made[-1].manifest.hash) not in hashes:
            continue
        model = Path(str(content.get("model") or "")).name
        suite = str(content.get("suite") or file.stem)
        settings = content.get("settings")
        if isinstance(settings, dict) and "limit" in settings:
            suite += f" (the first {settings['limit']} questions of each task)"
        for cells in found:
            yield suite, model, *cells


def _from_json(name: str, fields: dict[str, Any]) -> Figure:
    known = {"unit": "", "interval": None, "count": None} | fields
    return Figure.from_json(name, known | {"unit": known["unit"] or "", "value": float(known["value"])})


def _cells(figure: Figure) -> tuple[str, str, str]:
    return figure.name.replace("_", " "), str(figure), f"{figure.count:,}" if figure.count else ""
