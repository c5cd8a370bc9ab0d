"""Held-out problems of a run, one at a time, and what its stages measured of thinking."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from crawl2chat.chat.asking import WAYS
from crawl2chat.chat.measured import PROBLEMS, share_out
from crawl2chat.evals.tasks import Problem, read_problems
from crawl2chat.serve.app.cached_files import CachedFiles
from crawl2chat.serve.app.context import TITLES
from crawl2chat.stages.figures import Figure
from crawl2chat.stages.stage import read_manifest
from crawl2chat.stages.table import CHAT_STAGES

NO_PROBLEMS = "There are no held-out problems here (problems.jsonl of a run’s crawl or of its stages), so type one."
NOT_MEASURED = (
    "Nothing was measured of thinking here: the stages base, sft and honesty do it, in a run that has problems."
)
# What figures of the three ways are called by each stage that measures them; several names, as problems that are not
# the made-up web's sums have another.
FIGURES: dict[str, dict[str, tuple[str, ...]]] = {
    "base": {"at once": ("sums_at_once",), "step by step": ("sums_step_by_step",)},
    "sft": {
        "at once": ("sums_at_once", "problems_at_once"),
        "step by step": ("sums_step_by_step", "problems_step_by_step"),
    },
    "honesty": {way: (way,) for way in WAYS},
}
# How often the same problems are right after each stage: what the check-up calls it, behind "sums" or "problems".
CHECKED = ("at once", "step by step", "asked plainly")
BEFORE_AND_AFTER = {
    "pass_at_1": "right answers per draw (pass@1)",
    "greedy": "most probable answers that are right",
    "answer_tokens": "tokens per answer",
    "entropy": "how undecided the model is, nats per token",
}

Row = dict[str, Any]


class ThinkingFiles:
    """Files of a run, or of a single model's folder; for any threads."""

    def __init__(self, run: Path | None, folder: Path) -> None:
        self.run, self.folder = run, folder
        self._files = CachedFiles()

    def problems(self) -> list[Problem]:
        """Those that nothing was learned from: what the latest stage measured with, else what the crawl holds out.

        Raises StageError for a file that can't be used.
        """
        places = [self.run / stage for stage in reversed(CHAT_STAGES)] if self.run else [self.folder]
        file = next((place / PROBLEMS for place in places if (place / PROBLEMS).is_file()), None)
        if file is None:
            file = self.run / "crawl" / PROBLEMS if self.run else None
            return self._files.content(file, _held_out) if file and file.is_file() else []
        return self._files.content(file, read_problems)

    def groups(self) -> dict[str, list[Problem]]:
        """The problems by difficulty, in the order of their groups' names."""
        groups: dict[str, list[Problem]] = {}
        for problem in self.problems():
            groups.setdefault(problem.group, []).append(problem)
        return dict(sorted(groups.items()))

    def find(self, question: str) -> Problem | None:
        return next((problem for problem in self.problems() if problem.text == question), None)

    def measured(self) -> list[Row]:
        """Of each stage that measured the ways: shares right and tokens spent, by group and way."""
        found = []
        for stage, names in FIGURES.items():
            figures = self._figures(stage)
            rows = [
                {
                    "group": _group_name(stage, group), "way": way, **figures[f"{name}/{group}"].to_json(),
                    "tokens": tokens.value if (tokens := figures.get(f"tokens {name}/{group}")) else None,
                }
                for way, kinds in names.items() for name in kinds for group in _groups(figures, name)
            ]  # fmt: skip
            if rows:
                found.append({"stage": stage, "title": _title(stage), "rows": rows})
        return found

    def checked(self) -> list[Row]:
        """The check-up's figures of the same problems before honesty, and after it and each later stage."""
        found = []
        for stage, prefix in (("honesty", "before checkup/"), *((stage, "checkup/") for stage in CHAT_STAGES[1:])):
            figures = self._figures(stage)
            shares: dict[str, Row] = {}
            for way in CHECKED:
                named = (figures.get(f"{prefix}{what} {way}") for what in ("sums", "problems"))
                if figure := next(filter(None, named), None):
                    shares[way] = figure.to_json()
            if shares:
                found.append({"title": "before honesty" if "before" in prefix else _title(stage), "shares": shares})
        return found

    def reinforced(self) -> list[Row]:
        """What reinforcement learning changed: figures before and after, by name and group."""
        figures = self._figures("reinforce")
        found = []
        for name, words in BEFORE_AND_AFTER.items():
            for group in ("", *_groups(figures, f"{name}_after")):
                end = f"/{group}" if group else ""
                pair = [figures.get(f"{name}_{when}{end}") for when in ("before", "after")]
                if all(pair):
                    found.append({"what": words, "group": group, "figures": [one and one.to_json() for one in pair]})
        return found

    def _figures(self, stage: str) -> Mapping[str, Figure]:
        manifest = read_manifest(self.run / stage) if self.run else None
        return {figure.name: figure for figure in manifest.figure_list()} if manifest else {}


def _held_out(file: Path) -> list[Problem]:
    return share_out(read_problems(file), file)[1]


def _groups(figures: Mapping[str, Figure], name: str) -> Sequence[str]:
    return [figure.removeprefix(f"{name}/") for figure in figures if figure.startswith(f"{name}/")]


def _group_name(stage: str, group: str) -> str:
    """The base suite names its groups by the digits alone."""
    return f"{group} digits" if stage == "base" else group


def _title(stage: str) -> str:
    return TITLES["pretrain" if stage == "base" else stage]
