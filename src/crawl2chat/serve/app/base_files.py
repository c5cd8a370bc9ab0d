"""What a run measured of its base model: figures as they are drawn, and the texts behind them, some rows at a time.

A run that pretrained its model has the stage `base`. Of an imported model `eval --suite base` writes figures of another
form to the run's folder `evals`, one file for each model that was measured.
"""

import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from crawl2chat.evals.base.continuation import HELD_OUT, PROMPT_TOKENS, copies_level
from crawl2chat.evals.base.people import People
from crawl2chat.report.captions import (
    NOTES,
    OUTSIDE_NOTES,
    RATES,
    Curves,
    Part,
    by_part,
    curves_of,
    outside_curves_of,
    rates_of,
)
from crawl2chat.report.names import readable_name
from crawl2chat.report.plots import LEVELS
from crawl2chat.serve.app.jsonl_index import JsonlIndex, Row
from crawl2chat.stages.figures import Figure
from crawl2chat.stages.files import StageError, read_json_object
from crawl2chat.stages.stage import STARTED, Manifest, read_manifest

VIEWS: dict[str, tuple[str, ...]] = {  # of the page, and the parts of the suite that each shows
    "compression": ("compression",),
    "recitation": ("recitation", "continuation"),
    "knowledge": ("facts",),
    "games": ("in_context", "prompting"),
    "letters": ("spelling", "sums"),
}
OUTSIDE_VIEWS: dict[str, tuple[str, ...]] = {  # and for a model from elsewhere, by how figures' names begin
    "compression": ("bits_per_byte",),
    "recitation": (),
    "knowledge": ("about_itself",),
    "games": ("translation", "translation_shuffled"),
    "letters": ("letters", "sums_at_once", "sums_by_steps"),
}
TRAINING_TEXT_NEEDED = ("recitation", "knowledge")  # views whose own figures need to know what a model learned from
BEGINNING = 160  # characters of a text in a list
SUGGESTED = 1500  # characters of a text to compress
RECITATION, GAMES, CONTINUATIONS = "recitation.jsonl", "in-context.jsonl", "continuations.jsonl"

Summary = TypeVar("Summary")


@dataclass(frozen=True)
class Prompted:
    """A line of recitation.jsonl, as far as lists and filters need it. of: "beginning", or tokens of the prompt."""

    copies: int
    of: str
    words: int
    words_right: int
    begins: str


@dataclass(frozen=True)
class Played:
    """A line of in-context.jsonl. ends: of its page, where the question is."""

    group: str
    right: str
    said: str
    ends: str


@dataclass(frozen=True)
class Answered:
    """An answer of `eval --suite base`; right: None where nothing is right or wrong."""

    part: str
    right: bool | None


class BaseFiles:
    """The files of a run, read again when they have changed."""

    def __init__(self, run: Path | None) -> None:
        self.run = run
        folder = run / "base" if run else Path(os.devnull)  # in which there is no file
        self._recitals = JsonlIndex(folder / RECITATION, _prompted)
        self._games = JsonlIndex(folder / GAMES, _played)
        self._answers: dict[Path, JsonlIndex[Answered]] = {}
        self._people: tuple[int, People] | None = None  # and when their file was changed

    @property
    def manifest(self) -> Manifest | None:
        return read_manifest(self.run / "base") if self.run else None

    def problem(self) -> str | None:
        """Why nothing was measured, and which command would do it; None if something was."""
        if self.run is None:
            return "This is one model and not a run, so nothing was measured of it here. You can ask it now, below."
        if self.manifest or self.outside():
            return None
        pretrained = read_manifest(self.run / "pretrain")
        if pretrained is None:
            return "This run has no finished stage pretrain yet, so there is no base model to measure."
        if pretrained.stage != "pretrain":
            return (
                "This run began with a model from elsewhere, of which nothing was measured yet. This does it, with any "
                f"text for the compression: crawl2chat eval {self.run} --suite base --data TEXT"
            )
        state = "was begun and has not finished" if (self.run / "base" / STARTED).exists() else "has not run yet"
        return f"The stage base, which measures what this page shows, {state}: crawl2chat eval {self.run} --suite base"

    def outside(self) -> dict[str, Path]:
        """The files of `eval --suite base` of a model from elsewhere, by the name of the stage that was measured."""
        folder = self.run / "evals" if self.run else None
        files = sorted(folder.glob("base-*.json")) if folder and folder.is_dir() else []
        files = [file for file in files if read_json_object(file).get("suite") == "base"]
        return {file.stem.removeprefix("base-"): file for file in files}

    def parts(self, view: str, outside: str) -> tuple[list[dict[str, Any]], bool]:
        """Each part of a view as it is drawn, and whether the one that the view is called after is among them.

        outside: whose figures of `eval`; "" for those of the stage.
        """
        if not outside:
            manifest = self.manifest
            found = dict(by_part(manifest.figure_list() if manifest else []))
            parts = [NOTES[name] for name in VIEWS[view] if NOTES[name] in found]
            drawn = [_drawn(part, found[part], curves_of(found[part])) for part in parts]
            return drawn, NOTES[VIEWS[view][0]] in found
        content = read_json_object(self._outside_file(outside))
        every = [Figure.from_json(name, fields) for name, fields in content["figures"].items()]
        figures = [figure for figure in every if figure.name.partition("/")[0] in OUTSIDE_VIEWS[view]]
        drawn = [_drawn(OUTSIDE_NOTES[view], figures, outside_curves_of(figures))] if figures else []
        return drawn, bool(figures) and view not in TRAINING_TEXT_NEEDED

    def has(self) -> dict[str, bool]:
        """Which files there are to show rows of."""
        return {
            "recitation": self._recitals.file.is_file(),
            "games": self._games.file.is_file(),
            "people": self.people() is not None,
        }

    def passages(self, copies: int | None, of: str) -> tuple[list[tuple[int, Prompted]], dict[str, Any]]:
        """Passages with about so many copies, those with most first; and how many there are and are recited of each.

        copies: to the nearest power of two, as in the figures.
        """
        rows = [(i, row) for i, row in enumerate(self._written(self._recitals).summaries())]
        prompted = [(i, row) for i, row in rows if row.of == of]
        by_copies: dict[int, list[bool]] = {}
        for _, row in sorted(prompted, key=lambda pair: pair[1].copies):
            by_copies.setdefault(copies_level(row.copies), []).append(row.words_right == row.words)
        chosen = [(i, row) for i, row in prompted if copies in (None, copies_level(row.copies))]
        chosen.sort(key=lambda pair: -pair[1].copies)
        about = {
            "copies": [{"copies": n, "passages": len(marks), "whole": sum(marks)} for n, marks in by_copies.items()],
            "of": sorted({row.of for _, row in rows}, key=lambda name: int(name) if name.isdigit() else 0),
        }
        return chosen, about

    def passage(self, number: int) -> Row:
        """A passage with what was given and what followed. Raises StageError for a row that is not there."""
        row = _one(self._written(self._recitals), number)
        before, given, rest = cut_text(row["passage"], row["prompt"], row["words"])
        return {
            "row": number, "of": _prompted(row).of, "before": before, "given": given, "rest": rest, **row,
            "departs": departure(rest, row["words_right"]),
        }  # fmt: skip

    def groups(self) -> list[dict[str, Any]]:
        """Each kind of page and number of examples, with how many answers were right."""
        marks: dict[str, list[bool]] = {}
        for row in self._written(self._games).summaries():
            marks.setdefault(row.group, []).append(row.said == row.right)
        return [{"group": group, "pages": len(of), "right": sum(of)} for group, of in marks.items()]

    def pages_of(self, group: str) -> list[tuple[int, Played]]:
        """Numbers and summaries of a group's pages, in their order."""
        return [(i, row) for i, row in enumerate(self._written(self._games).summaries()) if row.group == group]

    def page(self, number: int) -> Row:
        return {"row": number, **_one(self._written(self._games), number)}

    def answers(self, outside: str, part: str) -> list[int]:
        """Numbers of the rows that a model from elsewhere answered in a part, such as translation/French/4."""
        return [i for i, row in enumerate(self._answers_of(outside).summaries()) if row.part == part]

    def answer_parts(self, outside: str, view: str) -> list[dict[str, Any]]:
        """The parts of a view of which there are answers, with how many of them are right."""
        answers = self._answers_of(outside)
        marks: dict[str, list[bool | None]] = {}
        for row in answers.summaries() if answers.file.is_file() else ():
            if row.part.partition("/")[0] in OUTSIDE_VIEWS[view]:
                marks.setdefault(row.part, []).append(row.right)
        return [
            {
                "part": part,
                "title": readable_name(part),
                "answers": len(of),
                "right": sum(filter(None, of)) if None not in of else None,
            }
            for part, of in marks.items()
        ]

    def answer_rows(self, outside: str, numbers: Sequence[int]) -> list[Row]:
        return self._answers_of(outside).rows(numbers)

    def people(self) -> People | None:
        """Those of the made-up web; None where the crawl is another."""
        file = self.run / "crawl" / "ledger" / "people.jsonl" if self.run else None
        if not file or not file.is_file():
            return None
        changed = file.stat().st_mtime_ns
        if self._people is None or self._people[0] != changed:
            self._people = changed, People(file.parent.parent)
        return self._people[1]

    def texts(self) -> list[dict[str, str]]:
        """Texts of this run to compress: one that was held out, a passage with many copies and one with few."""
        found = []
        file = self._recitals.file.with_name(CONTINUATIONS)
        if file.is_file():
            with open(file, "rb") as lines:
                second = next(islice(lines, 1, 2), b"")  # the first document has no prompt, and so only its beginning
            try:
                row = json.loads(second or b"{}")
            except ValueError as error:
                raise StageError(f"{file}: line 2 is not what the stage writes: {error}") from error
            if row.get("setting") == HELD_OUT:
                found.append({"title": "a text that was held out", "text": (row["prompt"] + row["text"])[-SUGGESTED:]})
        if self._recitals.file.is_file():
            rows = self.passages(None, "beginning")[0]
            for place in (0, -1) if len(rows) > 1 else ():
                row = _one(self._written(self._recitals), rows[place][0])
                n = row["copies"]
                title = f"a passage with {n:,} {'copy' if n == 1 else 'copies'} in the training text"
                found.append({"title": title, "text": row["passage"][:SUGGESTED]})
        return found

    def _written(self, index: JsonlIndex[Summary]) -> JsonlIndex[Summary]:
        """Raises StageError for a file that the stage has not written."""
        if not index.file.is_file():
            pages = "it writes that only of the made-up web's pages, whose truth is known"
            raise StageError(self.problem() or f"{index.file.name}: the stage base has not written it; {pages}")
        return index

    def _outside_file(self, outside: str) -> Path:
        found = self.outside().get(outside)
        if found is None:
            raise StageError(f"this run has no figures of eval --suite base for {outside[:100]!r}")
        return found

    def _answers_of(self, outside: str) -> JsonlIndex[Answered]:
        figures = self._outside_file(outside)
        file = figures.with_name(f"{figures.stem}.answers.jsonl")
        return self._answers.setdefault(file, JsonlIndex(file, lambda row: Answered(row["part"], row.get("right"))))


def cut_text(passage: str, prompt: str, words: int) -> tuple[str, str, str]:
    """What is before a prompt in its passage, the prompt, and what follows it, which has so many words.

    A token may hold a part of a character: that character, which the prompt has as U+FFFD, counts to the other sides.
    """
    given = prompt.strip("\ufffd")
    ends = [found.start() + len(given) for found in re.finditer(f"(?={re.escape(given)})", passage)]
    end = next((end for end in ends if len(passage[end:].split()) == words), len(given))
    return passage[: end - len(given)], passage[end - len(given) : end], passage[end:]


def departure(rest: str, words_right: int) -> int | None:
    """Where the first word begins that is not as it should be; None if there is none."""
    words = list(islice(re.finditer(r"\S+", rest), words_right, words_right + 1))
    return words[0].start() if words else None


def _prompted(row: Row) -> Prompted:
    passage = row["passage"]
    begun = row["prompt_tokens"] == PROMPT_TOKENS and passage.startswith(row["prompt"].strip("\ufffd"))
    of = "beginning" if begun else str(int(row["prompt_tokens"]))
    return Prompted(row["copies"], of, row["words"], row["words_right"], passage[:BEGINNING])


def _played(row: Row) -> Played:
    return Played(row["group"], row["right"], row["said"], row["prompt"][-BEGINNING:])


def _one(index: JsonlIndex[Any], number: int) -> Row:
    found = index.rows([number])
    if not found:
        raise StageError(f"{index.file.name} has no row {number}")
    return found[0]


def _drawn(part: Part, figures: Sequence[Figure], curves: Sequence[Curves]) -> dict[str, Any]:
    """A part of the suite: its plots, how to read it, and all its figures as a table."""
    rates = [{"what": name, **_shown(figure)} for name, figure in rates_of(figures).items()]
    return {
        "title": part.title,
        "note": part.note,
        "bars": {"title": RATES, "rates": rates} if rates else None,
        "curves": [
            {
                "title": plot.title,
                "x": plot.x_label,
                "y": plot.y_label,
                "series": [{"name": name, "points": list(_points(found))} for name, found in plot.series.items()],
            }
            for plot in curves
        ],
        "figures": [{"what": readable_name(figure.name), **_shown(figure)} for figure in figures],
    }


def _points(figures: Sequence[Figure]) -> Iterator[dict[str, Any]]:
    """The points of a series; level: what one that is the same at every x is called, as that of guessing is."""
    for figure in figures:
        x = figure.name.partition("/")[2]
        yield {"x": x, "level": LEVELS.get(x), **_shown(figure)}


def _shown(figure: Figure) -> dict[str, Any]:
    return {"value": figure.value, "interval": figure.interval, "count": figure.count, "text": str(figure)}
