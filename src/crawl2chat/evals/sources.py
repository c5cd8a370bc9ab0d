"""Where the words of an answer come from: its matches in documents, each with its place in the first of them."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from crawl2chat.match.matches import Match, find_matches, items_of
from crawl2chat.refine.documents import Document

AROUND = 160  # characters of a document on either side of a match
BEGINNING = 200  # characters of a document's beginning


@dataclass(frozen=True)
class Source:
    """A match, and excerpts of the first document that has it: its beginning, and before, in and after the match."""

    match: Match
    beginning: str
    before: str
    quoted: str  # the match as the document writes it, with the document's own white space
    after: str


def find_sources(text: str, documents: Callable[[], Iterable[Document]], min_words: int) -> list[Source]:
    """Return the text's matches of at least `min_words` words in their order, each with its place in a document.

    documents: called twice, as the texts of documents with a match are only known after the first reading.
    """
    (matches,) = find_matches([text], documents(), min_words)
    wanted = {match.document for match in matches}
    texts: dict[str, str] = {}
    if wanted:
        for document in documents():
            if document.id in wanted:
                texts.setdefault(document.id, document.text)
                if len(texts) == len(wanted):
                    break
    return [_source(match, text[match.begin : match.end], texts[match.document]) for match in matches]


def _source(match: Match, quoted: str, document: str) -> Source:
    begin, end = _place(items_of(quoted), document)
    return Source(
        match, document[:BEGINNING], document[max(0, begin - AROUND) : begin], document[begin:end],
        document[end : end + AROUND],
    )  # fmt: skip


def _place(items: Sequence[str], document: str) -> tuple[int, int]:
    """Where these items are in the document, whatever the white space between them."""
    for found in re.finditer(r"\s*".join(map(re.escape, items)), document):
        if items_of(found[0]) == list(items):
            return found.span()
    return 0, 0  # cut otherwise than alone, as ICU may cut words of scripts without spaces
