"""Search over a run's documents: SQLite's full-text index (FTS5), one paragraph per row, ranked by BM25."""

import re
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from crawl2chat.evals.knowledge import mentions
from crawl2chat.refine.documents import Document
from crawl2chat.stages.files import AnyPath, StageError, atomic_write

INDEX = "search.sqlite"  # in the folder of the stage honesty
MAX_WORDS = 60  # of a passage; the model's context has to hold it
NOTHING_FOUND = "Nothing found."


@dataclass(frozen=True)
class Passage:
    """A paragraph and the number of the page that it is on."""

    page: int
    text: str


def shown(query: str, found: Passage | None) -> str:
    """What a model gets to read of a search: `Page 12: Ada keeps a goat.` and, on a line of its own, the query.

    A page goes by its number, since addresses are long. The query comes last, right before the answer: a model of
    a million parameters otherwise forgets over the passage what was asked. Cut to MAX_WORDS words.
    """
    if found is None:
        return NOTHING_FOUND
    words = found.text.split()
    return f"Page {found.page}: {' '.join(words[:MAX_WORDS])}{' …' if len(words) > MAX_WORDS else ''}\n{query}"


def build_index(documents: Iterable[Document], file: AnyPath) -> int:
    """Index every paragraph of the documents; returns how many. The file appears when it is complete."""
    with atomic_write(Path(file)) as temporary:
        database = sqlite3.connect(temporary)
        database.execute("CREATE TABLE pages (number INTEGER PRIMARY KEY, url TEXT)")
        database.execute("CREATE VIRTUAL TABLE paragraphs USING fts5(text, page UNINDEXED, tokenize='unicode61')")
        with database:
            for number, document in enumerate(documents, 1):
                database.execute("INSERT INTO pages VALUES (?, ?)", (number, document.url or document.id))
                lines = [(line.strip(), number) for line in document.text.split("\n") if line.strip()]
                database.executemany("INSERT INTO paragraphs (text, page) VALUES (?, ?)", lines)
        (count,) = database.execute("SELECT count(*) FROM paragraphs").fetchone()
        database.close()
    return int(count)


def find_index(place: AnyPath) -> Path | None:
    """The search index of a run, or of the run that the folder of a stage belongs to; None where there is none."""
    place = Path(place).resolve()
    files = [folder / "honesty" / INDEX for folder in (place, place.parent)]
    return next((file for file in files if file.is_file()), None)


class SearchIndex:
    """A built index, opened for reading."""

    def __init__(self, file: AnyPath) -> None:
        file = Path(file)
        if not file.is_file():
            raise StageError(f"{file}: no search index here; the honesty stage makes one")
        self.database = sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True)  # as_uri quotes # and ?

    def find(self, query: str) -> Passage | None:
        """The best paragraph for a query in whatever words, a whole question among them.

        It must hold the rarest of the query's names (capitalised words after the first): a search for somebody
        unknown would otherwise find the next best person. Without names any word will do.
        """
        words = re.findall(r"\w+", query)
        if not words:
            return None
        match = " OR ".join(f'"{word}"' for word in words)  # quoted: no word is an operator of FTS5
        names = [word for word in words[1:] if word[0].isupper()]
        if names:
            match = f'"{min(names, key=self._count)}" AND ({match})'
        found = self.database.execute(
            "SELECT page, text FROM paragraphs WHERE paragraphs MATCH ? ORDER BY rank, rowid LIMIT 1", (match,)
        ).fetchone()
        return Passage(*found) if found else None

    def passage_of(self, source: str, question: str, answers: Sequence[str]) -> Passage | None:
        """The paragraph of the document with this url or id that holds an answer; None without one.

        Of several, the one with the most words of the question.
        """
        rows = self.database.execute(
            "SELECT page, text FROM paragraphs JOIN pages ON number = page WHERE url = ? ORDER BY paragraphs.rowid",
            (source,),
        )
        asked = set(re.findall(r"\w+", question.lower()))
        holding = [Passage(*row) for row in rows if any(mentions(row[1], answer) for answer in answers)]
        return max(holding, key=lambda p: len(asked & set(re.findall(r"\w+", p.text.lower()))), default=None)

    def address(self, page: int) -> str | None:
        """Where the page with this number is from."""
        found = self.database.execute("SELECT url FROM pages WHERE number = ?", (page,)).fetchone()
        return found and str(found[0])

    def search(self, asked: str, query: str = "") -> str:
        """The tool: the best paragraph for the query, or for what was asked; or a word that there is none."""
        if not isinstance(query, str):
            raise ValueError("query: expected a text")
        return shown(query or asked, self.find(query or asked))

    def _count(self, word: str) -> int:
        """In how many paragraphs a word appears, by the tokenizer's spelling of it (case and accents folded)."""
        (count,) = self.database.execute(
            "SELECT count(*) FROM paragraphs WHERE paragraphs MATCH ?", (f'"{word}"',)
        ).fetchone()
        return int(count)
