"""The same text twice: equal pages by a hash, nearly equal ones by MinHash (Broder 1997; buckets as in FineWeb)."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xxhash

from crawl2chat.refine.settings import DedupSettings
from crawl2chat.refine.text.ngram_hash import FACTOR, Hashes, ngram_hashes, word_hashes
from crawl2chat.refine.text.words import words_of

# Written with every signature; raise it when the numbers that the same text gets change.
SIGNATURE_VERSION = 2
IN_CACHE = 512  # shingles whose values under all hash functions fit into a processor's cache
CHUNK = 4096  # shingles, or texts, at a time, so that many need little memory
MAX_LEADERS = 1000


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
    words = words_of(lowered) if settings.near else []
    if not words:
        return Signature(exact, np.zeros(0, np.uint64), np.zeros(0, np.uint8))
    shingles = _mix(ngram_hashes(word_hashes(words), min(settings.ngram, len(words))))
    minima = _minima(shingles, settings)
    buckets = [xxhash.xxh3_64_intdigest(row.tobytes()) for row in minima.reshape(settings.buckets, -1)]
    return Signature(exact, np.array(buckets, np.uint64), minima.astype(np.uint8))


def _mix(x: Hashes) -> Hashes:
    """Finaliser of splitmix64: spreads every bit over all others (Steele et al. 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _minima(grams: Hashes, settings: DedupSettings) -> Hashes:
    """Under each of the hash functions the smallest value that any shingle gets."""
    count = settings.buckets * settings.hashes_per_bucket
    # numpy's generators may change between versions, and signatures with them; this may not
    numbers = _mix(np.arange(2 * count, dtype=np.uint64) + np.uint64(settings.seed) * FACTOR)
    factors, offsets = numbers[:count] | np.uint64(1), numbers[count:]
    minima = np.full(count, np.iinfo(np.uint64).max, np.uint64)
    for i in range(0, len(grams), IN_CACHE):
        hashed = grams[i : i + IN_CACHE, None] * factors
        hashed += offsets
        np.minimum(minima, hashed.min(axis=0), out=minima)
    return _mix(minima)  # low bits of a product are poor; similarity is estimated from them


def alike(
    keys: Hashes, low_bytes: npt.NDArray[np.uint8], min_similarity: float
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Pairs of texts (two arrays of indices) that share a key and are similar as a whole.

    keys: (n,) sorted, within a key the best text first. low_bytes: (n, hashes). Many pages that quote one passage
    can share a key too, so the texts of a key are compared with the first of them; those that are not like it with
    the first of the rest, and so on. Only the first MAX_LEADERS texts of a key lead, or pages none of which is like
    another would take quadratic time.
    """
    firsts, seconds = [], []
    starts = _starts(keys)
    may_lead = np.arange(len(keys)) - np.repeat(starts, np.diff(starts, append=len(keys))) < MAX_LEADERS
    left = np.arange(len(keys))
    while len(left):
        starts = _starts(keys[left])
        leaders = np.repeat(left[starts], np.diff(starts, append=len(left)))
        led = (leaders != left) & may_lead[leaders]
        leaders, left = leaders[led], left[led]
        similar = np.zeros(len(left), bool)
        for i in range(0, len(left), CHUNK):
            some = slice(i, i + CHUNK)
            agree = np.mean(low_bytes[left[some]] == low_bytes[leaders[some]], axis=1)
            similar[some] = (agree - 1 / 256) / (1 - 1 / 256) >= min_similarity  # bytes agree by chance as well
        firsts.append(leaders[similar])
        seconds.append(left[similar])
        left = left[~similar]
    none = np.zeros(0, np.intp)
    return np.concatenate([none, *firsts]), np.concatenate([none, *seconds])


def _starts(keys: Hashes) -> npt.NDArray[np.intp]:
    return np.flatnonzero(np.append(True, keys[1:] != keys[:-1])[: len(keys)])
