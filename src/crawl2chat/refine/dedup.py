"""The same text twice: equal pages by a hash, nearly equal ones by MinHash (Broder 1997; buckets as in FineWeb)."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xxhash

from crawl2chat.refine.settings import DedupSettings

# Written with every signature; raise it when the numbers that the same text gets change.
SIGNATURE_VERSION = 1
IN_CACHE = 512  # shingles whose values under all hash functions fit into a processor's cache
WORD = re.compile(r"\w+")
GOLDEN = 0x9E3779B97F4A7C15  # 2^64 divided by the golden ratio, odd
CHUNK = 4096  # shingles at a time, so that a long page needs little memory

Hashes = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class Signature:
    """What deduplication needs to know of a text.

    exact: 128-bit hash of the text but for case and white space. buckets: (n_buckets,) a hash of each bucket's
    minima. low_bytes: (n_buckets * hashes_per_bucket,) the lowest byte of each minimum, to estimate similarity.
    """

    exact: bytes
    buckets: Hashes
    low_bytes: npt.NDArray[np.uint8]


def sign(text: str, settings: DedupSettings) -> Signature:
    """Signature of a text; texts shorter than an n-gram are one shingle, and texts without words differ from all."""
    lowered = text.lower()
    exact = xxhash.xxh3_128_digest(" ".join(lowered.split()).encode())
    minima = _minima(shingles(WORD.findall(lowered), settings.ngram) if settings.near else _NONE, settings)
    if minima is None:
        return Signature(exact, np.zeros(0, np.uint64), np.zeros(0, np.uint8))
    buckets = [xxhash.xxh3_64_intdigest(row.tobytes()) for row in minima.reshape(settings.buckets, -1)]
    return Signature(exact, np.array(buckets, np.uint64), minima.astype(np.uint8))


_NONE: Hashes = np.zeros(0, np.uint64)


def shingles(words: list[str], n: int) -> Hashes:
    """A 64-bit number for each n-gram of words, the same for the same ones."""
    if not words:
        return _NONE
    known: dict[str, int] = {}
    numbers = np.empty(len(words), np.uint64)
    for i, word in enumerate(words):
        number = known.get(word)
        if number is None:
            number = known[word] = xxhash.xxh3_64_intdigest(word.encode())
        numbers[i] = number
    n = min(n, len(words))
    grams = np.zeros(len(words) - n + 1, np.uint64)
    for i in range(n):  # a polynomial modulo 2^64, so that order counts
        grams = grams * np.uint64(GOLDEN) + numbers[i : i + len(grams)]
    return _mix(grams)


def _mix(x: Hashes) -> Hashes:
    """Finaliser of splitmix64: spreads every bit over all others (Steele et al. 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _minima(grams: Hashes, settings: DedupSettings) -> Hashes | None:
    """Under each of the hash functions the smallest value that any shingle gets."""
    if not len(grams):
        return None
    count = settings.buckets * settings.hashes_per_bucket
    # numpy's generators may change between versions, and signatures with them; this may not
    numbers = _mix(np.arange(2 * count, dtype=np.uint64) + np.uint64(settings.seed) * np.uint64(GOLDEN))
    factors, offsets = numbers[:count] | np.uint64(1), numbers[count:]
    minima = np.full(count, np.iinfo(np.uint64).max, np.uint64)
    for i in range(0, len(grams), IN_CACHE):
        hashed = grams[i : i + IN_CACHE, None] * factors
        hashed += offsets
        np.minimum(minima, hashed.min(axis=0), out=minima)
    return _mix(minima)  # low bits of a product are poor; similarity is estimated from them


@dataclass(frozen=True)
class Copy:
    """A text to drop: a copy of `kept` (an index), found by its exact or its near resemblance."""

    kept: int
    exact: bool


def find_copies(
    exact: list[bytes], buckets: Hashes, low_bytes: npt.NDArray[np.uint8], lengths: list[int], settings: DedupSettings
) -> dict[int, Copy]:
    """Index → the copy that stays instead, for every text that is to be dropped.

    buckets: (texts, n_buckets), low_bytes: (texts, hashes); rows of zeros where a text has no words. Of each
    cluster the longest text stays, of equally long ones the first. Copies of copies are one cluster.
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    copies: dict[int, Copy] = {}
    if settings.exact:
        first: dict[bytes, int] = {}
        for i in order:
            kept = first.setdefault(exact[i], i)
            if kept != i:
                copies[i] = Copy(kept, exact=True)
    if settings.near:
        left = [i for i in order if i not in copies]
        leaders = _cluster(buckets[left], low_bytes[left], settings)
        moved = {left[i]: left[leader] for i, leader in enumerate(leaders) if leader != i}
        copies = {i: Copy(moved.get(copy.kept, copy.kept), copy.exact) for i, copy in copies.items()}
        copies |= {i: Copy(kept, exact=False) for i, kept in moved.items()}
    return copies


def _cluster(buckets: Hashes, low_bytes: npt.NDArray[np.uint8], settings: DedupSettings) -> list[int]:
    """For each text the first one of its cluster. Texts come best first."""
    parents = list(range(len(buckets)))

    def root(i: int) -> int:
        while parents[i] != i:
            parents[i] = parents[parents[i]]
            i = parents[i]
        return i

    has_words = np.asarray(buckets.any(axis=1))
    for column in buckets.T:
        order = np.argsort(column, kind="stable")
        starts = np.flatnonzero(np.diff(column[order], prepend=~column[order[:1]]))
        sizes = np.diff(starts, append=len(order))
        for start, size in zip(starts[sizes > 1].tolist(), sizes[sizes > 1].tolist(), strict=True):
            group = order[start : start + size]
            if has_words[group[0]]:
                for a, b in _alike(group, low_bytes, settings.min_similarity):
                    first, second = sorted((root(a), root(b)))
                    parents[second] = first
    return [root(i) for i in range(len(parents))]


def _alike(
    group: npt.NDArray[np.intp], low_bytes: npt.NDArray[np.uint8], min_similarity: float
) -> Iterator[tuple[int, int]]:
    """Pairs of one bucket that are similar as a whole: many pages that quote one passage can share a bucket too."""
    while len(group) > 1:
        first, group = group[0], group[1:]
        agree = np.mean(low_bytes[group] == low_bytes[first], axis=1)
        alike = (agree - 1 / 256) / (1 - 1 / 256) >= min_similarity  # bytes agree by chance as well
        yield from ((int(first), i) for i in group[alike].tolist())
        group = group[~alike]
