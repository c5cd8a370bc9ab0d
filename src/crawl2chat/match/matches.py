"""Which passages of a text are copied verbatim from documents, of which there may be any number: each is read once.

Documents are reduced to the stretches that share N items in a row with one of the texts. A suffix array over these
and the texts then gives the longest match at every place. So memory grows with what is found, not with what is read.
"""

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, repeat

import numpy as np

from crawl2chat.match.suffix_array import Ints, SuffixArray
from crawl2chat.refine.documents import Document
from crawl2chat.refine.text.ngram_hash import ngram_hashes
from crawl2chat.refine.text.words import MARKS, spaced
from crawl2chat.tokenizer import Tokenizer
from crawl2chat.tokenizer.shards import TokenizedDocuments

MIN_WORDS = 8  # fewer in a row are common phrases
ITEM = re.compile(rf"[\w{MARKS}]+|[^\w\s]")  # a word, or one mark of punctuation


@dataclass(frozen=True)
class Match:
    """A passage of a text that is also in a document, and would not be if it were longer on either side."""

    begin: int  # in the text, characters
    end: int
    words: int
    copies: int  # number of times that it is in the documents
    document: str  # id of the first one that contains it
    url: str  # its address, if known


@dataclass(frozen=True)
class Item:
    """What is compared: a word or a mark of punctuation, and its place in the text (characters)."""

    text: str
    begin: int
    end: int


def items_of(text: str) -> list[str]:
    """Return the text's words and marks of punctuation in order, without white space."""
    return ITEM.findall(spaced(text))


def placed_items(text: str) -> Iterator[Item]:
    """The same with their places."""
    end = 0
    for item in items_of(text):
        begin = text.index(item, end)
        end = begin + len(item)
        yield Item(item, begin, end)


def training_texts(tokenizer: Tokenizer, documents: TokenizedDocuments) -> Iterator[Document]:
    """Yield the texts that a model was trained on, from its tokens; the ids are their numbers."""
    for i in range(len(documents)):
        yield Document(str(i), tokenizer.decode(documents[i][1:].tolist()))  # without the end-of-text token


def find_matches(texts: Sequence[str], documents: Iterable[Document], min_words: int = MIN_WORDS) -> list[list[Match]]:
    """Return each text's matches of at least `min_words` words, in order; they may overlap, but none is within another.

    Words (runs of letters, digits and "_"; ICU's words where a script has no spaces) and marks of punctuation are
    compared one by one, and case matters. White space is not compared, nor are tokens, as these are cut differently
    after a quotation mark.
    A match is within one document. Takes about 0.5 µs per token of the documents on a core (100 million: a minute)
    and some 100 bytes per word that they share with a text. Raises ValueError for `min_words` below 1.
    """
    if min_words < 1:
        raise ValueError(f"min_words = {min_words}: must be at least 1")
    items = [list(placed_items(text)) for text in texts]
    vocabulary = {item: i for i, item in enumerate({item.text: None for text in items for item in text}, 1)}
    ids = [np.array([vocabulary[item.text] for item in text], dtype=np.int64) for text in items]
    shared = _Shared(ids, min_words)
    for document in documents:
        known = map(vocabulary.get, items_of(document.text), repeat(0))
        shared.add(document, np.fromiter(known, dtype=np.int64))
    matches: list[list[Match]] = [[] for _ in texts]
    for text, first, length, n_copies, origin in _longest(ids, shared, min_words):
        covered = items[text][first : first + length]
        n_words = sum(_is_word(item.text) for item in covered)
        if n_words >= min_words:
            matches[text].append(Match(covered[0].begin, covered[-1].end, n_words, n_copies, *origin))
    return matches


def _longest(
    texts: Sequence[Ints], shared: "_Shared", least: int
) -> Iterator[tuple[int, int, int, int, tuple[str, str]]]:
    """Yield matches of at least `least` items: text, first item, number of items, copies, origin of the first copy."""
    if not shared.stretches:
        return
    parts = [*shared.stretches, *texts]
    joined = np.concatenate(
        [np.append(part, -1 - i) for i, part in enumerate(parts)]
    )  # no match crosses into the next part
    begins = np.cumsum([0, *(len(part) + 1 for part in parts)])
    n_stretches = len(shared.stretches)
    of_documents = np.arange(len(joined)) < begins[n_stretches]
    suffixes = SuffixArray(joined)
    places = np.flatnonzero(~of_documents)
    lengths = suffixes.longest(places, of_documents)
    whole = (lengths >= least) & (np.diff(lengths, prepend=0) >= 0)  # and not within the match that begins before it
    places, lengths = places[whole], lengths[whole]
    for place, length, low, high in zip(places, lengths, *suffixes.alike(places, lengths), strict=True):
        text = int(np.searchsorted(begins, place, side="right")) - 1 - n_stretches
        alike = suffixes.order[low:high]
        copies = alike[of_documents[alike]]
        origin = shared.origins[int(np.searchsorted(begins, copies.min(), side="right")) - 1]
        yield text, int(place - begins[n_stretches + text]), int(length), len(copies), origin


def covered_words(text: str, matches: Sequence[Match]) -> tuple[int, int]:
    """Return how many of a text's words are in its matches (as `find_matches` gives them), and how many it has."""
    words = [item.begin for item in placed_items(text) if _is_word(item.text)]
    matches_at = matches_by_place(matches)
    return sum(bool(matches_at(word)) for word in words), len(words)


def matches_by_place(matches: Sequence[Match]) -> Callable[[int], Sequence[Match]]:
    """Return a function from a place in the text to the matches there; they end in the order in which they begin."""
    begins, ends = [match.begin for match in matches], [match.end for match in matches]
    return lambda place: matches[bisect_right(ends, place) : bisect_right(begins, place)]


def cut_by_matches(text: str, matches: Sequence[Match]) -> Iterator[tuple[str, Match | None]]:
    """Cut the text wherever the longest match at a place changes or ends; the pieces together are the text."""
    matches_at = matches_by_place(matches)

    def longest(item: tuple[int, int]) -> Match | None:
        return max(matches_at(item[0]), key=lambda match: match.words, default=None)

    end = 0
    for match, items in groupby(((item.begin, item.end) for item in placed_items(text)), longest):
        places = list(items)
        begin = places[0][0]
        if match is not None:  # without the white space before it
            yield text[end:begin], None
            end = begin
        yield text[end : places[-1][1]], match
        end = places[-1][1]
    yield text[end:], None


class _Shared:
    """The stretches of documents that share at least `n` items in a row with a text."""

    def __init__(self, texts: Sequence[Ints], n: int) -> None:
        self.n = n
        self.wanted = np.unique(
            np.concatenate([np.zeros(0, np.uint64), *(ngram_hashes(ids.astype(np.uint64), n) for ids in texts)])
        )
        self.stretches: list[Ints] = []
        self.origins: list[tuple[str, str]] = []  # of each stretch: its document's id and address

    def add(self, document: Document, ids: Ints) -> None:
        if not len(self.wanted):
            return
        windows = ngram_hashes(ids.astype(np.uint64), self.n)
        hits = np.flatnonzero(self.wanted[np.searchsorted(self.wanted[:-1], windows)] == windows)
        if len(hits):
            for run in np.split(hits, np.flatnonzero(np.diff(hits) > 1) + 1):
                self.stretches.append(ids[run[0] : run[-1] + self.n])
                self.origins.append((document.id, document.url))


def _is_word(item: str) -> bool:
    return item[0].isalnum() or item[0] == "_"
