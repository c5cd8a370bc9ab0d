"""The merges by which a byte-pair encoding makes a text's tokens of its bytes, one after the other.

In each piece of the split pattern the pair of neighbours with the lowest rank is merged, the leftmost one of several,
until no pair is a token (Sennrich et al., arXiv 1508.07909). No merge ever crosses the border of a final token. So the
merges within a token depend on its bytes alone, and what is between the pieces need not be known to replay them.
"""

import heapq
from collections.abc import Mapping
from dataclasses import dataclass

from crawl2chat.tokenizer.cut import Cut
from crawl2chat.tokenizer.encoding import Encoding


@dataclass(frozen=True)
class Merge:
    """Bytes begin..middle and middle..end become one token.

    middle is None where a whole piece was looked up: it is a token to which no merges lead.
    """

    begin: int
    middle: int | None
    end: int
    rank: int  # of the new token, which is its id as well


def merges_of(token: bytes, ranks: Mapping[bytes, int]) -> list[Merge]:
    """The merges, in their order, that make a token of its single bytes; none for a single byte.

    Raises KeyError if it is not in `ranks`.
    """
    borders = list(range(len(token) + 1))
    merges: list[Merge] = []
    while len(borders) > 2:
        pairs = [ranks.get(token[borders[i] : borders[i + 2]]) for i in range(len(borders) - 2)]
        rank = min((rank for rank in pairs if rank is not None), default=None)
        if rank is None:
            return [*merges, Merge(0, None, len(token), ranks[token])]
        at = pairs.index(rank)
        begin, middle, end = borders[at : at + 3]
        merges.append(Merge(begin, middle, end, rank))
        del borders[at + 1]
    return merges


def replay(encoding: Encoding, cut: Cut) -> list[Merge]:
    """All merges on the way to `cut`, in bytes of its text: always the lowest rank that can be merged, leftmost first.

    That is the order in which the merges were learned, wherever they happen in the text.
    """
    known: dict[bytes, list[Merge]] = {}
    waiting: list[tuple[int, int, int, list[Merge]]] = []  # rank, first byte in the text, step, merges of the token
    begin = 0
    for token in cut.tokens():
        if token not in known:
            known[token] = merges_of(token, encoding.ranks)
        if merges := known[token]:
            waiting.append((merges[0].rank, begin, 0, merges))
        begin += len(token)
    heapq.heapify(waiting)
    replayed: list[Merge] = []
    while waiting:
        rank, begin, step, merges = waiting[0]
        merge = merges[step]
        middle = None if merge.middle is None else begin + merge.middle
        replayed.append(Merge(begin + merge.begin, middle, begin + merge.end, rank))
        if step + 1 < len(merges):
            heapq.heapreplace(waiting, (merges[step + 1].rank, begin, step + 1, merges))
        else:
            heapq.heappop(waiting)
    return replayed


def parts_of(token: bytes, ranks: Mapping[bytes, int]) -> tuple[bytes, bytes] | None:
    """The two tokens that a token is merged from; None for a single byte, and for one to which no merges lead."""
    merges = merges_of(token, ranks)
    if not merges or merges[-1].middle is None:
        return None
    return token[: merges[-1].middle], token[merges[-1].middle :]
