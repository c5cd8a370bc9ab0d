"""An n-gram model over token ids: interpolated modified Kneser-Ney (Chen & Goodman 1998, sections 2.7 and 3)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
FALLBACK = (0.5, 1.0, 1.5)  # KenLM's discounts, where the n-grams are too few to estimate them


@dataclass(frozen=True)
class _Order:
    """The n-grams of one length, numbered by their places in `keys`, and their contexts, the (n−1)-grams."""

    keys: Ints  # sorted: number of the context · vocabulary + last token
    counts: Ints
    discounts: Floats  # by min(count, 3): 0, D1, D2, D3+
    totals: Ints  # of each context: the counts of its n-grams together
    discounted: Floats  # of each context: what discounts take from that


class KneserNey:
    """Probabilities of a token behind the n−1 tokens before it, h, each order mixed with the one below:

    p(w | h) = (max(c(hw) − D(c(hw)), 0) + p(w | h without its first token) · Σ D(c(h·))) / Σ c(h·)

    c counts occurrences, and below the highest order the different tokens before an n-gram; D is D1, D2 or D3+, by
    the count. Single tokens are mixed with 1/vocabulary.
    """

    def __init__(self, ids: NDArray[np.integer], vocab_size: int, order: int = 5) -> None:
        """ids: documents laid end to end, as a language model reads them. 5M ids of a Zipf law take 11 s and 0.6 GB."""
        self.vocab_size = vocab_size
        ids = np.asarray(ids, dtype=np.int64)
        order = min(order, len(ids))
        keys: list[Ints] = []
        counts: list[Ints] = []
        numbers = np.zeros(len(ids) + 1, dtype=np.int64)  # of the n-gram that begins at each place
        for n in range(1, order + 1):
            shorter = numbers
            unique, first, numbers, occurrences = np.unique(
                shorter[: len(ids) - n + 1] * vocab_size + ids[n - 1 :],
                return_index=True, return_inverse=True, return_counts=True,
            )  # fmt: skip
            if n > 1:
                counts[-1] = np.bincount(shorter[first + 1], minlength=len(keys[-1]))
            keys.append(unique)
            counts.append(occurrences)
        n_contexts = [1, *map(len, keys)]
        self.orders = [_make_order(*given, vocab_size) for given in zip(keys, counts, n_contexts[:-1], strict=True)]

    def nats(self, ids: NDArray[np.integer]) -> Floats:
        """−ln p of every token in a sequence (as many as there are); the very first one, of no context, counts 0."""
        ids = np.asarray(ids, dtype=np.int64)
        p = np.full(len(ids), 1 / self.vocab_size)
        numbers = np.zeros(len(ids) + 1, dtype=np.int64)  # as above; −1 for an n-gram that was never seen
        for n, order in enumerate(self.orders[: len(ids)], 1):
            contexts = numbers[: len(ids) - n + 1]
            keys = contexts * self.vocab_size + ids[n - 1 :]
            places = np.minimum(np.searchsorted(order.keys, keys), len(order.keys) - 1)
            found = (order.keys[places] == keys) & (contexts >= 0)
            count = np.where(found, order.counts[places], 0)
            totals = np.where(contexts >= 0, order.totals[contexts], 0)
            kept = count - order.discounts[np.minimum(count, 3)]
            mixed = (kept + order.discounted[contexts] * p[n - 1 :]) / np.maximum(totals, 1)
            p[n - 1 :] = np.where(totals > 0, mixed, p[n - 1 :])
            numbers = np.where(found, places, -1)
        nats = -np.log(p)
        nats[:1] = 0
        return nats


def _make_order(keys: Ints, counts: Ints, n_contexts: int, vocab_size: int) -> _Order:
    discounts = discounts_of(counts)
    contexts = keys // vocab_size
    totals = np.bincount(contexts, counts, minlength=n_contexts).astype(np.int64)
    discounted = np.bincount(contexts, discounts[np.minimum(counts, 3)], minlength=n_contexts).astype(np.float64)
    return _Order(keys, counts, discounts, totals, discounted)


def discounts_of(counts: Ints) -> Floats:
    """0, D1, D2 and D3+ by how many n-grams have a count of 1 to 4 (Chen & Goodman 1998, equation 26)."""
    n = np.bincount(np.minimum(counts, 5), minlength=6)
    discounts = np.array([0.0, *FALLBACK])
    if n[1:5].all():
        k = np.arange(1, 4)
        estimated = k - (k + 1) * n[1] / (n[1] + 2 * n[2]) * n[2:5] / n[1:4]
        if ((estimated >= 0) & (estimated <= k)).all():
            discounts[1:] = estimated
    return discounts
