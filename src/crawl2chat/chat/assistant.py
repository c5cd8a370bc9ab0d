"""Which of a run's models to talk to: the best assistant by the check-up that stages take after training."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from crawl2chat.stages.files import AnyPath
from crawl2chat.stages.stage import Manifest, is_current, read_manifest
from crawl2chat.stages.table import CHAT_STAGES

CHECKUP = "checkup/"
BEFORE = f"before {CHECKUP}"  # in honesty's manifest: the same check-up of the model it began with, sft's
LOW_IS_GOOD = (
    "refused on well-known people", "wrong on people never met", "wrong in follow-ups on people never met",
)  # fmt: skip


@dataclass(frozen=True)
class Choice:
    """A chat model of a run, and its score by the check-up: from 0 to 1, or None where none was taken."""

    folder: Path
    manifest: Manifest
    score: float | None


def assistants(run: AnyPath) -> list[Choice]:
    """A run's chat models in the order of the stages, without those made from an earlier state of the run."""
    found = [(name, read_manifest(Path(run) / name)) for name in CHAT_STAGES]
    current = {name: manifest for name, manifest in found if manifest and is_current(Path(run), manifest)}
    return [Choice(Path(run) / name, manifest, _score(name, current)) for name, manifest in current.items()]


def best_of(choices: Sequence[Choice]) -> Choice | None:
    """The one with the best check-up, the latest of equals; without check-ups the latest of all.

    The last stage is often not the best: following a reward model to its end is meant to show how it is gamed.
    """
    scored = [choice for choice in choices if choice.score is not None]
    return max(reversed(scored or choices[-1:]), key=lambda choice: choice.score or 0, default=None)


def _score(stage: str, manifests: dict[str, Manifest]) -> float | None:
    """Mean over the check-up's figures, those that should be low taken from 1."""
    prefix, manifest = (BEFORE, manifests.get("honesty")) if stage == "sft" else (CHECKUP, manifests[stage])
    shares = {
        name.removeprefix(prefix): figure["value"]
        for name, figure in (manifest.figures.items() if manifest else ())
        if name.startswith(prefix)
    }
    return statistics.fmean(1 - v if n in LOW_IS_GOOD else v for n, v in shares.items()) if shares else None
