"""The page Start: the way from crawl to chat as one picture, with what this run measured on it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from starlette.requests import Request

from crawl2chat.report.sentences import MEASURED_IN, STAGES, readable, said_of
from crawl2chat.serve.app.context import AppContext
from crawl2chat.serve.errors import file_errors
from crawl2chat.serve.http import get
from crawl2chat.stages.figures import Figure
from crawl2chat.stages.stage import STARTED, Manifest, is_current, read_manifest

# Where each part of the way can be looked at.
PAGE_OF = {
    "crawl": "data", "refine": "data", "tokenizer": "tokens", "import": "inside", "pretrain": "training",
    "base": "base", "generate": "sampling", "sft": "chat", "honesty": "honesty", "thinking": "thinking",
    "reinforce": "rollouts", "prefer": "preferences",
}  # fmt: skip
# What is drawn as bars beside each other: figures of one unit, and in which words. Of several groups the first is
# taken that a run has all figures of.
BARS: dict[str, tuple[tuple[tuple[str, str], ...], ...]] = {
    "refine": ((("kept_share", "of the pages are kept"),),),
    "pretrain": (
        (("unigram_bits_per_byte", "by frequency of tokens"), ("held_out_bits_per_byte", "by the model")),
    ),
    "base": (
        (("recall_at_1_to_2_copies", "recited: 1–2 copies"), ("recall_at_64_copies_and_more", "64 and more")),
        (("bits_per_byte/xz", "xz"), ("bits_per_byte/model", "the model")),
    ),
    "sft": (
        (("held_out_answers_before/key_part", "right, before"), ("held_out_answers_after/key_part", "after")),
        (("facts_held_out/0", "right: on no page"), ("facts_held_out/100+", "on 100 and more")),
    ),
    "honesty": (
        (("wrong before/0", "made up, before"), ("wrong after/0", "after")),
        (("all wrong before", "wrong, before"), ("all wrong after", "after")),
    ),
    "thinking": (
        (("at once/3 digits", "right at once"), ("step by step/3 digits", "step by step"),
         ("calculator/3 digits", "calculator")),
    ),
    "reinforce": ((("pass_at_1_before", "right, before"), ("pass_at_1_after", "after")),),
    "prefer": ((("gold/start", "taste at the start"), ("gold/kept", "where it stopped"), ("gold/end", "at the end")),),
}  # fmt: skip


class HomePage:
    def __init__(self, context: AppContext) -> None:
        self.run = context.run

    @get("/app/home")
    def way(self, request: Request) -> dict[str, Any]:
        """Each part of the way that this run has, in order, and the titles of the others; none of a single model."""
        if self.run is None:
            return {"steps": [], "absent": []}
        with file_errors():
            found = _stages(self.run)
            steps = {name: _describe(self.run, name, found) for name in STAGES}
        return {
            "steps": [step for step in steps.values() if step],
            "absent": [STAGES[name].title for name, step in steps.items() if not step and name not in MEASURED_IN],
        }


def _stages(run: Path) -> dict[str, Manifest | None]:
    """By name, those that were begun; an imported model takes the place of pretrain's folder."""
    found: dict[str, Manifest | None] = {}
    for folder in run.glob("*/"):
        if manifest := read_manifest(folder):
            found[manifest.stage] = manifest
        elif (folder / STARTED).exists():
            found[folder.name] = None
    return found


def _describe(run: Path, name: str, found: Mapping[str, Manifest | None]) -> dict[str, Any] | None:
    """None for a stage that was not begun, and for a part of one that this run has no figures of.

    Its state is "made"; "earlier": made from something that has changed since; or "begun".
    """
    stage = MEASURED_IN.get(name, name)
    if stage not in found:
        return None
    manifest = found[stage]
    figures = {figure.name: figure for figure in manifest.figure_list()} if manifest else {}
    said = said_of(name, figures)
    if name in MEASURED_IN and not said:
        return None
    return {
        "name": name,
        "title": STAGES[name].title,
        "happens": STAGES[name].happens,
        "said": [vars(part) for part in said[0]] if said else [],
        "bars": _bars(name, figures),
        "page": PAGE_OF.get(name),
        "state": "begun" if manifest is None else "made" if is_current(run, manifest) else "earlier",
        "seconds": manifest.seconds if manifest and name not in MEASURED_IN else None,
    }


def _bars(name: str, figures: Mapping[str, Figure]) -> list[dict[str, Any]]:
    """Lengths from 0 to 1: of shares the shares themselves, of anything else as parts of the largest."""
    for group in BARS.get(name, ()):
        if all(figure in figures for figure, _ in group):
            values = [max(0.0, figures[figure].value) for figure, _ in group]
            full = 1.0 if figures[group[0][0]].unit == "share" else max(*values, 1e-9)
            return [
                {"what": words, "value": readable(figures[figure]), "length": value / full}
                for (figure, words), value in zip(group, values, strict=True)
            ]
    return []
