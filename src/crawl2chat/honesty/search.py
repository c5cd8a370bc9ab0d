"""Search as our own models are taught it: one paragraph, of a page that goes by its number; and as others get it."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from crawl2chat.chat.toolbox import Tool, built_in
from crawl2chat.chat.tools import OfferForm
from crawl2chat.evals.judging import mentions
from crawl2chat.refine.documents import Document
from crawl2chat.search import Passage, index
from crawl2chat.stages.files import AnyPath, StageError

__all__ = ["INDEX", "MAX_WORDS", "NOTHING_FOUND", "Passage", "SearchIndex", "build_index", "find_index", "shown"]

INDEX = "search.sqlite"  # in the folder of the stage honesty
MAX_WORDS = 60  # of a passage; the model's context has to hold it
NOTHING_FOUND = "Nothing found."


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
    return index.build_index(documents, file, max_bytes=None)


def find_index(place: AnyPath) -> Path | None:
    """The search index of a run, or of the run that the folder of a stage belongs to; None where there is none."""
    place = Path(place).resolve()
    files = [folder / "honesty" / INDEX for folder in (place, place.parent)]
    return next((file for file in files if file.is_file()), None)


class SearchIndex(index.SearchIndex):
    """A built index of paragraphs."""

    def find(self, query: str) -> Passage | None:
        """The best paragraph for a query in whatever words, a whole question among them.

        It must hold the rarest of the query's names (capitalised words after the first): a search for somebody
        unknown would otherwise find the next best person. Without names any word will do.
        """
        words = re.findall(r"\w+", query)
        if not words:
            return None
        match = " OR ".join(f'"{word}"' for word in words)
        names = [word for word in words[1:] if word[0].isupper()]
        if names:
            match = f'"{min(names, key=self._count)}" AND ({match})'
        found = self._by_words(match, 1)
        return self._passage(found[0]) if found else None

    def passage_of(self, source: str, question: str, answers: Sequence[str]) -> Passage | None:
        """The paragraph of the document with this url or id that holds an answer; None without one.

        Of several, the one with the most words of the question.
        """
        rows = self.database.execute(
            "SELECT passages.id FROM passages JOIN pages ON number = page WHERE url = ? ORDER BY passages.id", (source,)
        )
        asked = set(re.findall(r"\w+", question.lower()))
        passages = [self._passage(id) for (id,) in rows.fetchall()]
        holding = [passage for passage in passages if any(mentions(passage.text, answer) for answer in answers)]
        return max(holding, key=lambda p: len(asked & set(re.findall(r"\w+", p.text.lower()))), default=None)

    def search(self, asked: str, query: str = "") -> str:
        """The tool: the best paragraph for the query, or for what was asked; or a note that there is none."""
        if not isinstance(query, str):
            raise ValueError("query: expected a text")
        return shown(query or asked, self.find(query or asked))


def find_tools(
    folder: Path,
    names: Sequence[str],
    form: OfferForm | None,
    documents: AnyPath | None,
    vectors: AnyPath | None = None,
) -> tuple[dict[str, Tool], Callable[[int], str | None]]:
    """Return the package's own tools by name, and where a page is from by the number that a search of paragraphs gives.

    folder: of the model or its run. form: how tools are offered; a model that was taught to gets paragraphs.
    Raises StageError as `built_in`.
    """
    if "search" not in names:
        return built_in(names), lambda page: None
    if form != "names":
        return built_in(names, find_documents(folder, documents, vectors)), lambda page: None
    found = find_documents(folder, documents).file if documents is not None else find_index(folder)
    paragraphs = SearchIndex(found or folder / "honesty" / INDEX)
    tools = built_in(names, paragraphs)
    tools["search"] = replace(tools["search"], function=paragraphs.search)
    return tools, paragraphs.address


def find_documents(folder: Path, documents: AnyPath | None, vectors: AnyPath | None = None) -> index.SearchIndex:
    """Return the index of these documents, or of those of the run that a model's folder belongs to.

    Raises StageError where there are none.
    """
    if documents is not None:
        return index.open_index(documents, vectors)
    place = folder.resolve()
    found = next((run / "refine" for run in (place, place.parent) if (run / "refine" / "documents").is_dir()), None)
    if found is None:
        raise StageError(f"{folder}: no documents to search; name a folder of them (--documents)")
    return index.open_index(found, vectors)
