"""Words of a text and 64-bit numbers for its n-grams, the same in every process."""

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
import xxhash

from crawl2chat.refine.text import words

FACTOR = np.uint64(0x9E3779B97F4A7C15)  # odd, so that nothing is lost modulo 2^64

Hashes = npt.NDArray[np.uint64]


def words_of(text: str) -> list[str]:
    """Words in lower case, without punctuation, line ends and Markdown's marks."""
    return words.words_of(text.lower().replace("_", " "))


def ngrams(text: str, lengths: Iterable[int]) -> Iterator[tuple[int, Hashes]]:
    """For each of the lengths (in words, ascending) that the text reaches: a number for each n-gram, in order."""
    found = words_of(text)
    known = {word: xxhash.xxh3_64_intdigest(word.encode("utf-8", "replace")) for word in set(found)}
    of_word = np.fromiter((known[word] for word in found), np.uint64, len(found))
    grams, n = of_word, 1
    for length in lengths:
        if length > len(found):
            return
        while n < length:  # a polynomial modulo 2^64, so that order counts
            grams = grams[:-1] * FACTOR + of_word[n:]
            n += 1
        yield n, grams
