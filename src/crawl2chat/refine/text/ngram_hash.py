"""64-bit numbers for n-grams, equal for equal ones and seldom for others, the same in every process."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import xxhash

from crawl2chat.refine.text import words

FACTOR = np.uint64(0x9E3779B97F4A7C15)  # 2^64 divided by the golden ratio; odd, so that nothing is lost modulo 2^64

Hashes = npt.NDArray[np.uint64]


def ngram_hashes(numbers: Hashes, n: int) -> Hashes:
    """(items,) → (items - n + 1,): for every n items in a row a polynomial modulo 2^64, so that order counts."""
    grams = numbers
    for _ in range(n - 1):
        grams = longer_ngrams(grams, numbers)
    return grams


def longer_ngrams(grams: Hashes, numbers: Hashes) -> Hashes:
    """The numbers of the n-grams with one item more. numbers: of the items."""
    return grams[:-1] * FACTOR + numbers[len(numbers) - len(grams) + 1 :]


def word_hashes(found: Sequence[str]) -> Hashes:
    """(words,) a number for each word."""
    known = {word: xxhash.xxh3_64_intdigest(word.encode("utf-8", "replace")) for word in set(found)}
    return np.fromiter(map(known.__getitem__, found), np.uint64, len(found))


def words_of(text: str) -> list[str]:
    """Words in lower case, without punctuation, line ends and Markdown's marks."""
    return words.words_of(text.lower().replace("_", " "))


def text_ngrams(text: str, lengths: Iterable[int]) -> Iterator[tuple[int, Hashes]]:
    """For each of the lengths (in words, ascending) that the text reaches: a number for each n-gram, in order."""
    numbers = word_hashes(words_of(text))
    grams, n = numbers, 1
    for length in lengths:
        if length > len(numbers):
            return
        while n < length:
            grams, n = longer_ngrams(grams, numbers), n + 1
        yield n, grams
