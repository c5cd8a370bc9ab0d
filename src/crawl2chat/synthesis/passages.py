"""Passages to ask about, and what they are asked for later: to teach, to probe, or only to measure."""

import heapq
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import xxhash

from crawl2chat.evals.questions import SPLITS
from crawl2chat.refine.documents import Document
from crawl2chat.refine.text.words import SENTENCE_ENDS, split_words, words_of
from crawl2chat.synthesis.settings import SynthesizeSettings

FEWEST_WORDS = 12  # of a passage that is worth a question
SPLIT_BY_DOCUMENT_FROM = 20  # documents; of fewer, passages are shared out, or one book would be all in one split
RARE_SHARE, RARE_COUNT = 0.02, 3  # of all passages: a word in more of them says nothing about a question's subject
LINE = "\n"
SENTENCE_END = re.compile(rf"(?<=[{re.escape(''.join(sorted(SENTENCE_ENDS)))}])\s+")


@dataclass(frozen=True)
class Passage:
    """Some paragraphs of a document; `source` says where they are from, as the file of questions has it."""

    text: str
    source: str
    split: str


@dataclass(frozen=True)
class Words:
    """What is known of words, in lower case: those in so many passages that they name no subject, and those that are
    written in lower case somewhere, and so are not names where a sentence begins with them."""

    common: frozenset[str]
    lower: frozenset[str]


def choose_passages(documents: Iterable[Document], settings: SynthesizeSettings) -> tuple[list[Passage], Words]:
    """Return passages of some documents, and what is known of the words in these.

    Which documents, and the split of each, follows from a hash of its address or id, so that they stay the same when
    other documents come or go.
    """
    keyed = ((_share_of(document.url or document.id, "chosen"), document) for document in documents)
    chosen = heapq.nsmallest(settings.documents, keyed, key=lambda pair: pair[0])
    by_document = len(chosen) >= SPLIT_BY_DOCUMENT_FROM
    passages: list[Passage] = []
    spread: Counter[str] = Counter()
    lower: set[str] = set()
    n_texts = 0
    for _, document in chosen:
        name, texts = document.url or document.id, list(cut(document.text, settings.words))
        n_texts += len(texts)
        for text in texts:
            words = set(words_of(text))
            spread.update({word.lower() for word in words})
            lower.update(word for word in words if word[0].islower())
        n = min(settings.passages, len(texts))
        for text in (texts[i * len(texts) // n] for i in range(n)):
            source = text if any(map(str.isspace, name)) else name  # with spaces, it would be taken for a passage
            passages.append(Passage(text, source, split_of(name if by_document else text, settings)))
    common = frozenset(word for word, n in spread.items() if n > max(RARE_COUNT, RARE_SHARE * n_texts))
    return passages, Words(common, frozenset(lower))


def cut(text: str, most_words: int) -> Iterator[str]:
    """Whole paragraphs as far as they fit into `most_words`, longer ones by sentences; short remains are left out."""
    passage, n_words = "", 0
    for line in text.split("\n"):
        pieces = [line] if len(split_words(line)) <= most_words else SENTENCE_END.split(line)
        for i, piece in enumerate(pieces):
            words = split_words(piece)[:most_words]
            if n_words + len(words) > most_words:
                if n_words >= FEWEST_WORDS:
                    yield passage
                passage, n_words = "", 0
            if words:
                kept = " ".join(piece.split()[:most_words])
                passage += f"{(' ' if i else LINE) if passage else ''}{kept}"
                n_words += len(words)
    if n_words >= FEWEST_WORDS:
        yield passage


def split_of(name: str, settings: SynthesizeSettings) -> str:
    """The split of whatever has this name."""
    share = _share_of(name, "split")
    train, probe, held_out = SPLITS
    return held_out if share < settings.held_out else probe if share < settings.held_out + settings.probe else train


def _share_of(name: str, what: str) -> float:
    """From 0 to 1, equally often each, by a hash of the name."""
    return xxhash.xxh3_64_intdigest(f"{what} {name}".encode("utf-8", "replace")) / 2**64
