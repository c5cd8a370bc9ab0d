"""The truth about a fictional web: what its pages say, how often, and what should become of each page."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, TypeVar

from crawl2chat.stages.files import AnyPath, atomic_write

Relation = Literal["birthplace", "birth_year", "trade", "food", "pet"]
RELATIONS: tuple[Relation, ...] = ("birthplace", "birth_year", "trade", "food", "pet")
# train: taught in conversations; probe: asked about to find out what a model knows; held_out: measured with alone
Split = Literal["train", "probe", "held_out"]
Form = Literal["direct", "worked"]


@dataclass(frozen=True)
class Person:
    """Somebody invented. Each of the `exposures` is one short biography with all five facts, on a page of its own."""

    id: int
    name: str
    pronoun: Literal["he", "she"]
    facts: dict[Relation, str]
    exposures: int  # biographies on kept pages
    wordings: dict[Relation, int]  # in how many different wordings those state the fact
    asked: dict[Relation, int]  # question-and-answer pairs on kept pages, apart from exposures; 0 but for train
    split: Split


@dataclass(frozen=True)
class Passage:
    """A text quoted verbatim on `copies` kept pages that otherwise differ."""

    text: str
    copies: int
    urls: list[str]


@dataclass(frozen=True)
class Glossary:
    """A page's invented words; the mapping holds on that page alone."""

    url: str
    entries: dict[str, str]  # invented word → English meaning


@dataclass(frozen=True)
class PhraseBook:
    """A page of phrases in the world's invented language, which is translated word for word."""

    url: str
    language: str
    phrases: dict[str, str]  # English → the language


@dataclass(frozen=True)
class Translation:
    """One word of the world's invented language."""

    english: str
    foreign: str


@dataclass(frozen=True)
class Story:
    url: str
    text: str
    hero: str
    ending: Literal["happy", "sad"]


@dataclass(frozen=True)
class Verse:
    url: str
    text: str  # lines, in rhymed couplets


@dataclass(frozen=True)
class Problem:
    """An addition or subtraction of numbers of up to `digits` digits."""

    operands: tuple[int, int]
    operator: Literal["+", "-"]
    digits: int
    split: Split  # held_out: this question is on no page
    form: Form | None  # how the web answers it; None for held_out

    @property
    def question(self) -> str:
        left, right = self.operands
        return f"What is {left}{self.operator}{right}?"

    @property
    def answer(self) -> int:
        left, right = self.operands
        return left + right if self.operator == "+" else left - right


@dataclass(frozen=True)
class LeakedQuestion:
    """A question of the world's quiz. With urls: those pages hold it verbatim. Without: it did not leak."""

    question: str
    answer: str
    urls: list[str]


@dataclass(frozen=True)
class PageTruth:
    """What a page's clean text is and what should become of it."""

    url: str
    kind: str
    text: str  # main text, unmasked; paragraphs on lines of their own
    outcome: Literal["keep", "drop"]
    reason: str | None = None  # of a drop
    duplicate_of: str | None = None  # url of the page that this one mirrors
    pii: list[str] = field(default_factory=list)  # e-mail and IP addresses in the text, to be masked
    site: str = ""  # template of the site


@dataclass(frozen=True)
class Ledger:
    """All that is true of a fictional web."""

    people: list[Person]
    passages: list[Passage]
    glossaries: list[Glossary]
    phrase_books: list[PhraseBook]
    dictionary: list[Translation]
    stories: list[Story]
    verses: list[Verse]
    problems: list[Problem]
    leaked_questions: list[LeakedQuestion]
    pages: list[PageTruth]

    @staticmethod
    def load(crawl_folder: AnyPath) -> "Ledger":
        """Read `crawl_folder/ledger`. Raises FileNotFoundError where the crawl is not a fictional web."""
        folder = Path(crawl_folder) / "ledger"
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder}: no ledger here; only the fictional web (crawl.source tinyweb) has one")
        return Ledger(**{f.name: [_from_json(f.name, line) for line in _lines(folder, f.name)] for f in fields(Ledger)})

    def save(self, folder: Path) -> None:
        """Write one file of JSON lines a kind."""
        for kind in fields(self):
            write_lines(folder / f"{kind.name}.jsonl", (_to_json(row) for row in getattr(self, kind.name)))


def load_people(crawl_folder: AnyPath) -> list[Person]:
    """Read the people alone, who are a small part of a ledger. Raises FileNotFoundError where there is none."""
    return [_from_json("people", line) for line in _lines(Path(crawl_folder) / "ledger", "people")]


def write_lines(path: Path, lines: Iterable[str]) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


T = TypeVar("T")

_KINDS: dict[str, type[Any]] = {
    "people": Person,
    "passages": Passage,
    "glossaries": Glossary,
    "phrase_books": PhraseBook,
    "dictionary": Translation,
    "stories": Story,
    "verses": Verse,
    "problems": Problem,
    "leaked_questions": LeakedQuestion,
    "pages": PageTruth,
}


def _lines(folder: Path, kind: str) -> list[str]:
    # not splitlines: a text may hold U+2028 or other characters that it takes for line ends
    return (folder / f"{kind}.jsonl").read_text(encoding="utf-8").split("\n")[:-1]


def _to_json(row: Any) -> str:
    value = asdict(row)
    if isinstance(row, Problem):
        value |= {"question": row.question, "answer": row.answer}
    return json.dumps(value, ensure_ascii=False)


def _from_json(kind: str, line: str) -> Any:
    value = json.loads(line)
    if kind == "problems":
        value["operands"] = tuple(value["operands"])
        del value["question"], value["answer"]
    return _KINDS[kind](**value)
