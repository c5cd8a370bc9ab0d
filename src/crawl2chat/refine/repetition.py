"""Gopher's rules on pages that repeat themselves (arXiv 2112.11446, table A1), with datatrove's definitions."""

import re
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from crawl2chat.refine.settings import GopherRepetitionSettings
from crawl2chat.refine.verdict import Verdict, drop, keep

PARAGRAPH_END = re.compile(r"\n{2,}")
LINE_END = re.compile(r"\n+")


def gopher_repetition(text: str, words: Sequence[str], rules: GopherRepetitionSettings) -> Verdict:
    """Drop a page whose lines, paragraphs or n-grams of words occur again and again."""
    for verdict in _verdicts(text, words, rules):
        if verdict.dropped:
            return verdict
    return keep()


def _verdicts(text: str, words: Sequence[str], rules: GopherRepetitionSettings) -> Iterator[Verdict]:
    paragraphs = PARAGRAPH_END.split(text.strip())
    lines = LINE_END.split(text.strip())
    yield _duplicates("lines", lines, len(text), rules.max_duplicate_lines, rules.max_duplicate_line_chars)
    yield _duplicates(
        "paragraphs", paragraphs, len(text), rules.max_duplicate_paragraphs, rules.max_duplicate_paragraph_chars
    )
    grams = WordGrams(words)
    for n, limit in sorted(rules.max_top_ngrams.items()):
        yield _at_most(limit, grams.top_chars(n) / max(1, len(text)), f"top_{n}_gram")
    for n, limit in sorted(rules.max_duplicate_ngrams.items()):
        yield _at_most(limit, grams.duplicate_chars(n) / max(1, len(text)), f"duplicate_{n}_grams")


def _at_most(limit: float, value: float, reason: str) -> Verdict:
    return drop(reason, value) if value > limit else keep()


def _duplicates(what: str, pieces: Sequence[str], n_chars: int, max_share: float, max_chars: float) -> Verdict:
    count, chars = count_duplicates(pieces)
    verdict = _at_most(max_share, count / len(pieces), f"duplicate_{what}")
    return verdict if verdict.dropped else _at_most(max_chars, chars / max(1, n_chars), f"duplicate_{what[:-1]}_chars")


def count_duplicates(pieces: Sequence[str]) -> tuple[int, int]:
    """How many pieces were seen before, and their characters."""
    seen: set[str] = set()
    count = chars = 0
    for piece in pieces:
        if piece in seen:
            count += 1
            chars += len(piece)
        seen.add(piece)
    return count, chars


class WordGrams:
    """Counts n-grams of words as numbers: ten times as fast as joining strings."""

    def __init__(self, words: Sequence[str]) -> None:
        numbers: dict[str, int] = {}
        self.words = np.array([numbers.setdefault(word, len(numbers)) for word in words], dtype=np.int64)
        # chars_before[i]: characters of the first i words
        self.chars_before = np.concatenate([[0], np.cumsum([len(word) for word in words], dtype=np.int64)])
        self.numbers: dict[int, npt.NDArray[np.int64]] = {1: self.words}

    def top_chars(self, n: int) -> int:
        """Characters, blanks included, in all occurrences of the commonest n-gram that occurs twice or more."""
        if len(self.words) < n:
            return 0
        _, first, counts = np.unique(self._grams(n), return_index=True, return_counts=True)
        if counts.max() < 2:
            return 0
        top = first[counts == counts.max()].min()  # of equally common ones the first
        return int((self.chars_before[top + n] - self.chars_before[top] + n - 1) * counts.max())

    def duplicate_chars(self, n: int) -> int:
        """Characters in n-grams that occurred before on the page, none counted twice."""
        if len(self.words) < n:
            return 0
        grams = self._grams(n)
        seen_before = np.ones(len(grams), dtype=bool)
        seen_before[np.unique(grams, return_index=True)[1]] = False
        chars = free_from = 0
        for i in np.flatnonzero(seen_before).tolist():
            if i >= free_from:
                chars += int(self.chars_before[i + n] - self.chars_before[i])
                free_from = i + n
        return chars

    def _grams(self, n: int) -> npt.NDArray[np.int64]:
        """A number for each n-gram, equal for equal ones: pairs of (n-1)-gram and last word, numbered anew."""
        if n not in self.numbers:
            shorter = self._grams(n - 1)[:-1]
            pairs = shorter * len(self.words) + self.words[n - 1 :]  # both are below the number of words
            self.numbers[n] = np.unique(pairs, return_inverse=True)[1]
        return self.numbers[n]
