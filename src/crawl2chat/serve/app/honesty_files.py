"""What the honesty stage of a run has measured, a page of rows at a time; and questions to begin with."""

from collections import Counter
from pathlib import Path
from typing import Any

from crawl2chat.chat.measured import CARD, QUESTIONS
from crawl2chat.evals.questions import QuestionRow, read_questions
from crawl2chat.honesty.checkup import read_card
from crawl2chat.honesty.identity import Card, identity_questions
from crawl2chat.honesty.settings import HonestySettings
from crawl2chat.honesty.stage import BEFORE_AND_AFTER, COVERAGE
from crawl2chat.serve.app.cached_files import CachedFiles
from crawl2chat.stages.files import StageError, read_json_object, read_jsonl
from crawl2chat.stages.stage import Manifest, read_manifest

PROBES = "probes.jsonl"
KINDS = ("right", "refused", "wrong")
CLASSES = ("known", "maybe", "unknown")
PER_GROUP = 3  # questions of each group that are suggested
BINS = 20  # of a histogram of shares, for each class
NO_STAGE = "nothing was measured here yet: this run has no finished stage honesty, which would do it"
NO_RUN = "this is one model and not a run, so nothing was measured before and after; asking it works"

Row = dict[str, Any]


class HonestyFiles:
    """The stage's folder. A file is read when it is asked for, and again when it has changed; for any threads."""

    def __init__(self, run: Path | None, folder: Path) -> None:
        """run: None for a single model, whose folder may be that of a stage after honesty."""
        self.run = run
        self.folder = run / "honesty" if run else folder
        self._files = CachedFiles()

    @property
    def manifest(self) -> Manifest | None:
        """Of the finished stage, where this is a run that has it."""
        return read_manifest(self.folder) if self.run else None

    @property
    def settings(self) -> HonestySettings:
        """Those of the stage, else the defaults."""
        manifest = self.manifest
        return HonestySettings.model_validate(manifest.settings) if manifest else HonestySettings()

    @property
    def card(self) -> Card | None:
        """Who the model was taught to be, where that is known."""
        return read_card(self.folder) if (self.folder / CARD).is_file() else None

    def figures(self) -> list[Row]:
        """What the stage measured: name, value, unit, interval, count."""
        manifest = self.manifest
        return [{"name": figure.name, **figure.to_json()} for figure in manifest.figure_list()] if manifest else []

    def coverage(self) -> Row | None:
        """The curves of accuracy against coverage, before and after."""
        file = self.folder / COVERAGE
        return self._files.content(file, read_json_object) if self.run and file.is_file() else None

    def questions(self) -> list[QuestionRow]:
        """Those that are only asked at the end; else those that the crawl brought; none where there is no file."""
        places = [self.folder / QUESTIONS, *([self.run / "crawl" / QUESTIONS] if self.run else [])]
        file = next((place for place in places if place.is_file()), None)
        return self._files.content(file, read_questions) if file else []

    def row_of(self, question: str) -> QuestionRow | None:
        """The fact for which this is a wording."""
        return next((row for row in self.questions() if question in row.wordings), None)

    def suggestions(self) -> list[Row]:
        """Some questions of each group, in the order of the file."""
        seen: Counter[str] = Counter()
        found = []
        for row in self.questions():
            seen[row.group] += 1
            if seen[row.group] <= PER_GROUP and row.check == "mentions":
                found.append({"question": row.wordings[0], "answers": list(row.answers), "group": row.group})
        return found

    def probes(self, knowledge: str, group: str) -> tuple[list[Row], Row]:
        """Probed facts of a class and group; and how many there are of each, with a histogram of right answers."""
        rows = self._rows(PROBES)
        of_group = [row for row in rows if group in ("", row["group"])]
        counts = Counter(row["knowledge"] for row in of_group)
        bins = {name: [0] * BINS for name in CLASSES}
        for row in of_group:
            bins[row["knowledge"]][min(int(row["right_share"] * BINS), BINS - 1)] += 1
        about = {"groups": _groups(rows), "counts": counts, "bins": bins}
        return [row for row in of_group if knowledge in ("", row["knowledge"])], about

    def answers(self, group: str, before: str, after: str) -> tuple[list[Row], Row]:
        """Held-out questions of a group whose answers were and are of these kinds; and how many went from what to what.

        Questions about who the model is are left out: `identity` has them.
        """
        own = self._identity_questions()
        rows = [_with_kinds(row) for row in self._rows(BEFORE_AND_AFTER) if row["question"] not in own]
        of_group = [row for row in rows if group in ("", row["group"])]
        moves = Counter(tuple(row["kinds"]) for row in of_group)
        table = [[moves[then, now] for now in KINDS] for then in KINDS]
        chosen = [row for row in of_group if before in ("", row["kinds"][0]) and after in ("", row["kinds"][1])]
        return chosen, {"groups": _groups(rows), "moves": table}

    def identity(self) -> list[Row]:
        """Every wording that asks who the model is: whether it was taught, and the answers before and after if not."""
        card = self.card
        has_rows = self.run and (self.folder / BEFORE_AND_AFTER).is_file()
        answered = {row["question"]: row for row in self._rows(BEFORE_AND_AFTER)} if has_rows else {}
        found = []
        for kind, wordings in (card or Card()).wordings.items():
            for i, wording in enumerate(wordings):
                taught = i < len(wordings) // 2
                row = None if taught else answered.get(wording)
                found.append(
                    {
                        "kind": kind, "question": wording, "taught": taught,
                        "expected": card.expected(kind) if card else None,
                        "before": row and row["before"], "after": row and row["after"],
                        "right": row and row["right"],
                    }
                )  # fmt: skip
        return found

    def _identity_questions(self) -> set[str]:
        return {question.text for question in identity_questions(self.card or Card())}

    def _rows(self, name: str) -> list[Row]:
        """Raises StageError where the stage has not written them."""
        file = self.folder / name
        if not self.run or self.manifest is None or not file.is_file():
            raise StageError(NO_STAGE if self.run else NO_RUN)
        return self._files.content(file, read_jsonl)


def _groups(rows: list[Row]) -> list[str]:
    return list(dict.fromkeys(row["group"] for row in rows))


def _with_kinds(row: Row) -> Row:
    """The row with what both of its answers are."""
    marks = zip(row["right"], row["refused"], strict=True)
    return {**row, "kinds": ["right" if right else "refused" if refused else "wrong" for right, refused in marks]}
