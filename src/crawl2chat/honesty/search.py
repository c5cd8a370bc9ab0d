"""Search over a run's documents: SQLite's full-text index (FTS5), a paragraph a row, ranked by BM25."""

import re
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from crawl2chat.refine.documents import Document
from crawl2chat.run import StageError, replacing

MOST_WORDS = 60  # of a passage; the model's context has to hold it
NOTHING_FOUND = "Nothing found."


@dataclass(frozen=True)
class Passage:
    """A paragraph and the address of the page that it stands on."""

    url: str
    text: str

    @property
    def source(self) -> str:
        """How the page is named in a conversation: host and path."""
        return re.sub(r"^\w+://(www\.)?", "", self.url)

    def shown(self) -> str:
        """As the model gets to read it, cut to MOST_WORDS words."""
        words = self.text.split()
        return f"{self.source}: {' '.join(words[:MOST_WORDS])}{' …' if len(words) > MOST_WORDS else ''}"


def build_index(documents: Iterable[Document], file: Path) -> int:
    """Index every paragraph of the documents; returns how many. The file appears when it is complete."""
    with replacing(file) as temporary:
        database = sqlite3.connect(temporary)
        database.execute("CREATE VIRTUAL TABLE paragraphs USING fts5(text, url UNINDEXED, tokenize='unicode61')")
        with database:
            database.executemany("INSERT INTO paragraphs (text, url) VALUES (?, ?)", _paragraphs(documents))
        (count,) = database.execute("SELECT count(*) FROM paragraphs").fetchone()
        database.close()
    return int(count)


class SearchIndex:
    """A built index, opened for reading."""

    def __init__(self, file: Path) -> None:
        if not file.is_file():
            raise StageError(f"{file}: no search index here; the honesty stage makes one")
        self.database = sqlite3.connect(f"file:{file}?mode=ro", uri=True)

    def find(self, query: str, limit: int = 1) -> list[Passage]:
        """The best paragraphs that hold every word of the query; none for a query without words."""
        words = re.findall(r"\w+", query)
        if not words:
            return []
        match = " AND ".join(f'"{word}"' for word in words)  # quoted: no word is an operator of FTS5
        rows = self.database.execute(
            "SELECT url, text FROM paragraphs WHERE paragraphs MATCH ? ORDER BY rank, rowid LIMIT ?", (match, limit)
        )
        return [Passage(url, text) for url, text in rows]

    def search(self, query: str) -> str:
        """The tool: the best paragraph with its page, or a word that there is none."""
        if not isinstance(query, str):
            raise ValueError("query: expected a text")
        found = self.find(query)
        return found[0].shown() if found else NOTHING_FOUND


def _paragraphs(documents: Iterable[Document]) -> Iterator[tuple[str, str]]:
    for document in documents:
        for line in document.text.split("\n"):
            if line.strip():
                yield line.strip(), document.url or document.id
