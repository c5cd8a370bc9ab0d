"""Is it prose, and does it repeat itself? Gopher's rules (arXiv 2112.11446, table A1), each giving a verdict.

Quality: number of words, mean word length, hash signs and ellipses per word, lines that begin with a bullet, lines that
end with an ellipsis, words with a letter, stop words. Repetition: duplicate paragraphs and lines, by number and by
characters; the most frequent 2- to 4-gram, and duplicate 5- to 10-grams, by characters. All are done.

The verdicts are those of datatrove (https://github.com/huggingface/datatrove, `GopherQualityFilter` and
`GopherRepetitionFilter`) on the same words, except where something else is meant:
- words are what `words.py` finds, without the punctuation around them; datatrove asks a tokenizer of the language,
  for which a comma is a word as well;
- empty lines, which separate paragraphs, are not lines for the quality rules;
- hash signs that mark a heading do not count, and marks of headings, lists and tables are not words;
- stop words are those of the page's language; the rule is skipped if there is no list for it.
N-grams are compared by 64-bit hashes, and counted only if a bound that is cheaper to find does not already show that a
page passes.
"""

import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from crawl2chat.refine.rules import Text, Verdict, drop, first_drop, heading_level, keep, share_of_lines
from crawl2chat.refine.settings import GopherQualitySettings, GopherRepetitionSettings
from crawl2chat.refine.text.language import stop_words_by_language
from crawl2chat.refine.text.ngram_hash import longer_ngrams
from crawl2chat.refine.text.words import has_unspaced

BULLETS = ("-", "•", "・")
ELLIPSES = ("...", "…")


def gopher_quality(page: Text, rules: GopherQualitySettings, language: str = "en") -> Verdict:
    """All of Gopher's quality rules, in datatrove's order. `language`: whose stop words are looked for."""
    if not rules.enabled:
        return keep()
    checks = (word_count, mean_word_length, hash_signs, ellipses, bullet_lines, ellipsis_lines, letter_words)
    verdict = first_drop(page, rules, checks)
    return verdict if verdict.dropped else few_stop_words(page, rules, language)


def word_count(page: Text, rules: GopherQualitySettings) -> Verdict:
    """Pages too short to say anything, or too long to be a page."""
    count = len(page.words)
    if count < rules.min_words:
        return drop("too_few_words", count)
    return drop("too_many_words", count) if count > rules.max_words else keep()


def mean_word_length(page: Text, rules: GopherQualitySettings) -> Verdict:
    """Single letters, or code and addresses without blanks."""
    mean = len("".join(page.words)) / max(1, len(page.words))
    if mean < rules.min_mean_word_length:
        return drop("short_words", mean)
    return drop("long_words", mean) if mean > rules.max_mean_word_length else keep()


def hash_signs(page: Text, rules: GopherQualitySettings) -> Verdict:
    """Hash tags."""
    marks = page.text.count("#") - sum(map(heading_level, page.lines)) if "#" in page.text else 0
    ratio = marks / max(1, len(page.words))
    return drop("hash_signs", ratio) if ratio > rules.max_symbol_ratio else keep()


def ellipses(page: Text, rules: GopherQualitySettings) -> Verdict:
    """Teasers."""
    count = sum(map(page.text.count, ELLIPSES))
    if count and has_unspaced(page.text):
        count -= page.text.count("……")  # one, as Chinese and Japanese write it
    ratio = count / max(1, len(page.words))
    return drop("ellipses", ratio) if ratio > rules.max_symbol_ratio else keep()


def bullet_lines(page: Text, rules: GopherQualitySettings) -> Verdict:
    """Lists without prose."""
    share = share_of_lines(page, lambda line: line.lstrip().startswith(BULLETS))
    return drop("bullet_lines", share) if share > rules.max_bullet_lines else keep()


def ellipsis_lines(page: Text, rules: GopherQualitySettings) -> Verdict:
    """Search results and front pages: every text breaks off."""
    share = share_of_lines(page, lambda line: line.rstrip().endswith(ELLIPSES))
    return drop("ellipsis_lines", share) if share > rules.max_ellipsis_lines else keep()


def letter_words(page: Text, rules: GopherQualitySettings) -> Verdict:
    """Tables of numbers."""
    enough = rules.min_letter_words * len(page.words)
    if sum(map(str.isalpha, page.words)) >= enough:  # of nothing but letters, which is quickly found
        return keep()
    share = sum(any(map(str.isalpha, word)) for word in page.words) / max(1, len(page.words))
    return drop("few_letter_words", share) if share < rules.min_letter_words else keep()


def few_stop_words(page: Text, rules: GopherQualitySettings, language: str = "en") -> Verdict:
    """Prose contains function words; menus and keyword lists do not."""
    stop_words = rules.stop_words or stop_words_by_language().get(language)
    if not stop_words:
        return keep()
    found = len(set(page.words).intersection(stop_words))
    return drop("few_stop_words", found) if found < rules.min_stop_words else keep()


PARAGRAPH_END = re.compile(r"\n{2,}")


def gopher_repetition(text: str, words: Sequence[str], rules: GopherRepetitionSettings) -> Verdict:
    """Drop a page whose paragraphs, lines or n-grams of words occur again and again.

    text: with no white space at its ends, as extraction leaves it; "" passes.
    """
    if not text or not rules.enabled:
        return keep()
    for verdict in _verdicts(text, words, rules):
        if verdict.dropped:
            return verdict
    return keep()


def _verdicts(text: str, words: Sequence[str], rules: GopherRepetitionSettings) -> Iterator[Verdict]:
    yield repeated_paragraphs(text, rules)
    yield repeated_lines(text, rules)
    grams = WordGrams(words)
    yield common_grams(grams, len(text), rules.max_top_ngrams)
    yield repeated_grams(grams, len(text), rules.max_duplicate_ngrams)


def repeated_paragraphs(text: str, rules: GopherRepetitionSettings) -> Verdict:
    """Forms, and pages that were assembled twice."""
    paragraphs = PARAGRAPH_END.split(text) if "\n\n\n" in text else text.split("\n\n")
    count, chars = count_duplicates(paragraphs)
    if count / len(paragraphs) > rules.max_duplicate_paragraphs:
        return drop("duplicate_paragraphs", count / len(paragraphs))
    return _at_most(rules.max_duplicate_paragraph_chars, chars / len(text), "duplicate_paragraph_chars")


def repeated_lines(text: str, rules: GopherRepetitionSettings) -> Verdict:
    """Buttons and labels: `Reply`, `Read more`."""
    lines = list(filter(None, text.split("\n")))
    count, chars = count_duplicates(lines)
    if count / len(lines) > rules.max_duplicate_lines:
        return drop("duplicate_lines", count / len(lines))
    return _at_most(rules.max_duplicate_line_chars, chars / len(text), "duplicate_line_chars")


def common_grams(grams: "WordGrams", n_chars: int, limits: Mapping[int, float]) -> Verdict:
    """One phrase in every line."""
    for n, limit in sorted(limits.items()):
        if grams.top_chars_bound(n) > limit * n_chars:
            share = grams.top_chars(n) / n_chars
            if share > limit:
                return drop(f"top_{n}_gram", share)
    return keep()


def repeated_grams(grams: "WordGrams", n_chars: int, limits: Mapping[int, float]) -> Verdict:
    """Passages that come again, in whatever lines they stand."""
    if not limits:
        return keep()
    shortest, least = min(limits), min(limits.values()) * n_chars
    if grams.repeats(shortest) * grams.longest(shortest) <= least or grams.duplicate_chars_bound(shortest) <= least:
        return keep()
    for n, limit in sorted(limits.items()):
        share = grams.duplicate_chars(n) / n_chars
        if share > limit:
            return drop(f"duplicate_{n}_grams", share)
    return keep()


def _at_most(limit: float, value: float, reason: str) -> Verdict:
    return drop(reason, value) if value > limit else keep()


def count_duplicates(pieces: Sequence[str]) -> tuple[int, int]:
    """How many pieces were seen before, and their characters."""
    seen = set(pieces)
    if len(seen) == len(pieces):
        return 0, 0
    return len(pieces) - len(seen), sum(map(len, pieces)) - sum(map(len, seen))


class WordGrams:
    """Counts the n-grams of a page's words, each known by a number."""

    def __init__(self, words: Sequence[str]) -> None:
        self._numbers = {1: np.fromiter(map(hash, words), np.int64, len(words)).view(np.uint64)}
        lengths = np.fromiter(map(len, words), np.int64, len(words))
        self._chars_before: npt.NDArray[np.int64] = np.concatenate([[0], np.cumsum(lengths)])  # of each word
        self._counts: dict[int, int] = {}

    def top_chars(self, n: int) -> int:
        """Characters, blanks included, in all occurrences of the commonest n-gram; of equally common ones the first."""
        grams = self._grams(n)
        if not len(grams):
            return 0
        _, first, counts = np.unique(grams, return_index=True, return_counts=True)
        top = first[counts == counts.max()].min()
        return int((self._chars(n)[top] + n - 1) * counts.max())

    def top_chars_bound(self, n: int) -> int:
        """At least `top_chars`: the longest n-gram as often as the commonest, which no longer n-gram can surpass."""
        longest = self.longest(n)
        return (longest + n - 1) * self._commonest(min(n, 2)) if longest else 0

    def duplicate_chars(self, n: int) -> int:
        """Characters in n-grams that occurred before on the page; the next one looked at begins after such a one."""
        lengths = self._chars(n).tolist()
        seen: set[int] = set()
        chars = free_from = 0
        for i, gram in enumerate(self._grams(n).tolist()):
            if i < free_from:
                continue
            if gram in seen:
                chars += lengths[i]
                free_from = i + n
            seen.add(gram)
        return chars

    def duplicate_chars_bound(self, n: int) -> int:
        """At least `duplicate_chars` of n and of all longer n-grams: characters of words in an n-gram seen before."""
        grams = self._grams(n)
        seen_before = np.ones(len(grams), bool)
        seen_before[np.unique(grams, return_index=True)[1]] = False
        begins = np.flatnonzero(seen_before)
        free = np.maximum(begins, np.concatenate([[0], begins[:-1] + n]))  # after the one before
        return int((self._chars_before[begins + n] - self._chars_before[free]).sum())

    def repeats(self, n: int) -> int:
        """How many n-grams occurred before on the page."""
        ordered = np.sort(self._grams(n))
        return int(np.count_nonzero(ordered[1:] == ordered[:-1]))

    def longest(self, n: int) -> int:
        """Characters of the longest n-gram, blanks not counted; 0 without any."""
        return int(self._chars(n).max(initial=0))

    def _commonest(self, n: int) -> int:
        """How often the commonest n-gram occurs."""
        if n not in self._counts:
            ordered = np.sort(self._grams(n))
            is_first = np.ones(len(ordered) + 1, bool)  # and one after the end
            np.not_equal(ordered[1:], ordered[:-1], out=is_first[1:-1])
            firsts = np.flatnonzero(is_first)
            self._counts[n] = int((firsts[1:] - firsts[:-1]).max())
        return self._counts[n]

    def _chars(self, n: int) -> npt.NDArray[np.int64]:
        """(n-grams,) characters of each, blanks not counted."""
        return self._chars_before[n:] - self._chars_before[:-n]

    def _grams(self, n: int) -> npt.NDArray[np.uint64]:
        """A number for each n-gram: a polynomial of its words' modulo 2^64."""
        if n not in self._numbers:
            self._numbers[n] = longer_ngrams(self._grams(n - 1), self._numbers[1])
        return self._numbers[n]
