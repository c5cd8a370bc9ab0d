"""A suffix array over integers: all places sorted by what follows them, so that equal stretches are neighbours."""

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


class SuffixArray:
    """Made by prefix doubling (Manber and Myers 1993), in time N log N log L, L items being the longest repetition.

    `order`: the places, sorted; `place`: each one's index in it. We keep the ranks of all stretches of 1, 2, 4 … items,
    about 4 log₂ L bytes per item, since they also give the length that two suffixes have in common.
    """

    def __init__(self, ids: Ints) -> None:
        """ids: any integers; the last must occur once, as then no stretch goes on beyond the end."""
        n = len(ids)
        self.ranks: list[NDArray[np.int32]] = []  # equal for equal stretches of 2^i items
        _, rank = np.unique(ids, return_inverse=True)
        step = 1
        while True:
            self.ranks.append(rank.astype(np.int32))
            following = np.zeros(n, dtype=np.int64)
            following[: n - step] = rank[step:] + 1
            pairs = rank * (n + 1) + following
            self.order = np.argsort(pairs)
            is_new = np.diff(pairs[self.order], prepend=-1) != 0
            rank = np.empty(n, dtype=np.int64)
            rank[self.order] = np.cumsum(is_new) - 1
            if is_new.all():
                break
            step *= 2
        self.place = rank

    def common(self, a: Ints, b: Ints) -> Ints:
        """Return the length that the suffixes at a and b share; of a place with itself, more than any two."""
        length, last = np.zeros(len(a), dtype=np.int64), len(self.order) - 1
        for i in reversed(range(len(self.ranks))):
            rank = self.ranks[i]
            length += (rank[np.minimum(a + length, last)] == rank[np.minimum(b + length, last)]) * 2**i
        return length

    def longest(self, places: Ints, chosen: NDArray[np.bool_]) -> Ints:
        """Return for each place the number of items from there on that also follow one of the chosen places.

        chosen: a mask of all places; none of `places` may be among them.
        """
        index = np.arange(len(self.order))
        is_chosen = chosen[self.order]
        before = np.maximum.accumulate(np.where(is_chosen, index, -1))
        after = np.minimum.accumulate(np.where(is_chosen, index, len(index))[::-1])[::-1]
        length = np.zeros(len(places), dtype=np.int64)
        for neighbour in (before[self.place[places]], after[self.place[places]]):  # no other has more in common
            there = np.flatnonzero((neighbour >= 0) & (neighbour < len(index)))
            in_common = self.common(places[there], self.order[neighbour[there]])
            length[there] = np.maximum(length[there], in_common)
        return length

    def alike(self, places: Ints, lengths: Ints) -> tuple[Ints, Ints]:
        """Return for each place the range in `order` of those followed by the same `lengths` items; end excluded."""
        at = self.place[places]
        before = np.full(len(at), -1)
        after = np.full(len(at), len(self.order))
        return self._last(places, lengths, at, before), self._last(places, lengths, at, after) + 1

    def _last(self, places: Ints, lengths: Ints, inside: Ints, beyond: Ints) -> Ints:
        """Bisect between an index of `order` that shares as many items and one that does not."""
        while (abs(beyond - inside) > 1).any():
            middle = (inside + beyond) // 2
            alike = self.common(places, self.order[middle]) >= lengths
            inside, beyond = np.where(alike, middle, inside), np.where(alike, beyond, middle)
        return inside
