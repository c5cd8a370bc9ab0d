"""An index of passages: SQLite's full-text search (FTS5) ranks them by BM25, in any script, whatever the query holds.

One file, which is only read once it is built. Each thread that searches has its own connection.
"""

import hashlib
import sqlite3
import sys
import tempfile
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from crawl2chat.refine.documents import Document, files_of, read_documents
from crawl2chat.search.passages import MAX_BYTES, passages_of, spaced, title_of, words_of
from crawl2chat.search.vectors import Vectors
from crawl2chat.stages.files import AnyPath, StageError, atomic_write_shared

KEPT = "passages.sqlite"  # next to the documents
VERSION = 1  # of the file's form
MAX_WORDS = 64  # of a query
TITLE_WEIGHT = 2.0  # of a word in the title against one in the text
CANDIDATES = 50  # from each ranking, where there are two
RANK_OFFSET = 60  # reciprocal rank fusion (Cormack et al., SIGIR 2009)
# Letters, digits and marks make words; accents are folded where a character has one
TOKENIZER = "unicode61 remove_diacritics 1 categories 'L* N* M* Co'"


@dataclass(frozen=True)
class Passage:
    """A piece of a page, and where it is from. Equal if number of the page and text are."""

    page: int
    text: str
    title: str = field(default="", compare=False)
    address: str = field(default="", compare=False)


def build_index(
    documents: Iterable[Document],
    file: AnyPath,
    *,
    max_bytes: int | None = MAX_BYTES,
    vectors: Vectors | None = None,
    made_from: str = "",
) -> int:
    """Index the passages of documents; returns how many. The file appears when it is complete.

    max_bytes: as in `passages_of`; None makes each line a passage, without a title. vectors: embeddings to rank by as
    well. made_from: what identifies these documents.
    """
    with atomic_write_shared(Path(file)) as temporary:
        database = sqlite3.connect(temporary)
        database.execute("CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT)")
        database.execute("CREATE TABLE pages (number INTEGER PRIMARY KEY, url TEXT, title TEXT)")
        database.execute("CREATE TABLE passages (id INTEGER PRIMARY KEY, page INTEGER, text TEXT, vector BLOB)")
        database.execute("CREATE INDEX passages_by_page ON passages (page)")
        database.execute("CREATE INDEX pages_by_url ON pages (url)")
        database.execute(f"""CREATE VIRTUAL TABLE words USING fts5(title, text, content='', tokenize="{TOKENIZER}")""")
        count = 0
        with database:
            database.execute("INSERT INTO meta VALUES ('made_from', ?)", (made_from,))
            for number, document in enumerate(documents, 1):
                title = title_of(document.title, document.text) if max_bytes is not None else ""
                database.execute("INSERT INTO pages VALUES (?, ?, ?)", (number, document.url or document.id, title))
                texts = list(passages_of(document.text, max_bytes))
                embedded = vectors.embed([f"{title}\n{text}" for text in texts]) if vectors else [None] * len(texts)
                ids = range(count + 1, count + 1 + len(texts))
                rows = zip(ids, [number] * len(texts), texts, embedded, strict=True)
                database.executemany("INSERT INTO passages VALUES (?, ?, ?, ?)", rows)
                indexed = [(id, spaced(title), spaced(text)) for id, text in zip(ids, texts, strict=True)]
                database.executemany("INSERT INTO words (rowid, title, text) VALUES (?, ?, ?)", indexed)
                count += len(texts)
        database.close()
    return count


def open_index(documents: AnyPath, vectors: AnyPath | None = None, *, keep: bool = True) -> "SearchIndex":
    """Return the index of a refine folder, a folder of documents or a file, as `read_documents` takes them.

    It is kept next to them and built again when they have changed, or are to be embedded otherwise. vectors: a folder
    with embeddings of model2vec's. Where nothing can be written, it lasts as long as this process; keep: False writes
    nothing there either, but takes an index that is there.
    Raises StageError for a place without documents, and for a folder without embeddings.
    """
    place, embeddings = Path(documents), Vectors(vectors) if vectors is not None else None
    stats = [(part.name, part.file.stat()) for part in files_of(place)]
    state = [VERSION, MAX_BYTES, embeddings and embeddings.name, *((n, s.st_size, s.st_mtime_ns) for n, s in stats)]
    made_from = hashlib.sha256(repr(state).encode()).hexdigest()
    file = place / KEPT if place.is_dir() else place.with_name(f".{place.name}.{KEPT}")
    if file.is_file():
        try:
            index = SearchIndex(file, embeddings)
            if index.made_from == made_from:
                return index
        except sqlite3.DatabaseError:  # of another form, or no index at all
            pass
    if keep:
        try:
            build_index(read_documents(place), file, vectors=embeddings, made_from=made_from)
            return SearchIndex(file, embeddings)
        except OSError as error:
            print(f"search: {error}; the index is not kept", file=sys.stderr)
    folder = tempfile.TemporaryDirectory(prefix="crawl2chat-search-")
    file = Path(folder.name) / KEPT
    build_index(read_documents(place), file, vectors=embeddings, made_from=made_from)
    index = SearchIndex(file, embeddings)
    index.folder = folder  # which goes when the index does
    return index


class SearchIndex:
    """A built index, opened for reading; for any number of threads."""

    def __init__(self, file: AnyPath, vectors: Vectors | None = None) -> None:
        """vectors: those that it was built with, to rank by them as well."""
        self.file, self.vectors = Path(file), vectors
        self.folder: tempfile.TemporaryDirectory[str] | None = None
        if not self.file.is_file():
            raise StageError(f"{self.file}: no search index here")
        self._local = threading.local()

    @property
    def database(self) -> sqlite3.Connection:
        """This thread's connection."""
        if not hasattr(self._local, "database"):  # as_uri quotes # and ?
            self._local.database = sqlite3.connect(f"{self.file.resolve().as_uri()}?mode=ro", uri=True)
        connection: sqlite3.Connection = self._local.database
        return connection

    @property
    def made_from(self) -> str:
        return str(self.database.execute("SELECT value FROM meta WHERE name = 'made_from'").fetchone()[0])

    def best(self, query: str, k: int) -> list[Passage]:
        """Return the k best passages for a query in whatever words, a whole question among them.

        Those come first that hold the rarest of its names (capitalised words after the first). If no passage holds any
        of its names, nothing is found: a search for somebody unknown would otherwise find the next best person.
        """
        words = list(dict.fromkeys(words_of(query)))[:MAX_WORDS]
        match = " OR ".join(f'"{word}"' for word in words)  # quoted: no word is an operator of FTS5
        counts = {word: self._count(word) for word in words[1:] if word[0].isupper()}
        names = [word for word in counts if counts[word]]
        if not words or (counts and not names):
            return []
        n = CANDIDATES if self.vectors else k
        by_words = self._by_words(f'"{min(names, key=counts.__getitem__)}" AND ({match})', n) if names else []
        if len(by_words) < n:
            by_words = list(dict.fromkeys([*by_words, *self._by_words(match, n)]))
        ranked = [by_words]
        if self.vectors:
            ranked.append(self.vectors.nearest(self.database, query, CANDIDATES))
        return [self._passage(id) for id in fuse(ranked)[:k]]

    def address(self, page: int) -> str | None:
        """Where the page with this number is from."""
        found = self.database.execute("SELECT url FROM pages WHERE number = ?", (page,)).fetchone()
        return found and str(found[0])

    def _by_words(self, match: str, k: int) -> list[int]:
        rows = self.database.execute(
            "SELECT rowid FROM words WHERE words MATCH ? ORDER BY bm25(words, ?), rowid LIMIT ?",
            (match, TITLE_WEIGHT, k),
        )
        return [id for (id,) in rows]

    def _passage(self, id: int) -> Passage:
        row = self.database.execute(
            "SELECT page, text, title, url FROM passages JOIN pages ON number = page WHERE id = ?", (id,)
        ).fetchone()
        return Passage(*row)

    def _count(self, word: str) -> int:
        """In how many passages a word appears, by the tokenizer's spelling of it (case and accents folded)."""
        (count,) = self.database.execute("SELECT count(*) FROM words WHERE words MATCH ?", (f'"{word}"',)).fetchone()
        return int(count)


def fuse(rankings: Sequence[Sequence[int]]) -> list[int]:
    """Return the items of several rankings, best first: by the sum of 1 / (60 + rank) over those that have them."""
    scores: dict[int, float] = {}
    for ranking in rankings:
        for rank, item in enumerate(ranking, 1):
            scores[item] = scores.get(item, 0.0) + 1 / (RANK_OFFSET + rank)
    return sorted(scores, key=lambda item: (-scores[item], item))
