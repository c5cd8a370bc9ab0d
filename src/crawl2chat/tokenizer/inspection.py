"""Looking into an encoding: how it cuts a text, by which merges, and what its vocabulary holds.

The merges: in each piece of the split pattern the pair of neighbours with the lowest rank is merged, the leftmost one
of several, until no pair is a token (Sennrich et al., arXiv 1508.07909). No merge ever crosses the border of a final
token. So the merges within a token depend on its bytes alone, and what is between the pieces need not be known to
replay them.
"""

import heapq
import unicodedata
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from crawl2chat.tokenizer.encoding import Encoding, to_nfc

SIGNS = {" ": "·", "\n": "⏎", "\r": "␍", "\t": "⇥", "\u00a0": "⍽"}  # as `common/ui.js` shows them
UNSEEN = ("Cc", "Cf", "Zl", "Zp", "Zs", "Cs", "Co")


@dataclass(frozen=True)
class Cut:
    """Tokens of a text, and groups of them: the smallest runs of tokens that hold whole graphemes.

    A grapheme is what a reader takes for one character: é written with two code points, an emoji of seven.
    """

    content: bytes  # the text in UTF-8, as the encoding reads it
    ids: np.ndarray  # (tokens,) int64
    ends: np.ndarray  # (tokens,) int64: the byte of `content` after each token
    group_ends: np.ndarray  # (groups,) int64: the token after each group

    @property
    def bytes_per_token(self) -> float:
        return len(self.content) / max(1, len(self.ids))

    def tokens(self) -> list[bytes]:
        """The bytes of each token."""
        return [self.content[begin:end] for begin, end in pairwise([0, *self.ends.tolist()])]


def cut(encoding: Encoding, text: str) -> Cut:
    """Encode ordinary text. Halves of surrogate pairs, which are not text, become U+FFFD."""
    text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return cut_ids(encoding, encoding.encode(text), to_nfc(text) if encoding.nfc else text)


def cut_ids(encoding: Encoding, ids: Sequence[int], text: str) -> Cut:
    """Groups of ids that decode to `text`."""
    array = np.array(ids, np.int64)
    ends = encoding.lengths[array].cumsum() if len(ids) else array
    content = text.encode()
    at_border = np.isin(ends, grapheme_ends(text))
    return Cut(content, array, ends, np.flatnonzero(at_border) + 1)


def grapheme_ends(text: str) -> np.ndarray:
    """The byte of the text's UTF-8 after each grapheme (UAX 29), int64."""
    if text.isascii():
        ends = np.arange(1, len(text) + 1, dtype=np.int64)
        return ends[[i for i in range(len(text)) if text[i : i + 2] != "\r\n"]] if "\r\n" in text else ends
    from icu4py.breakers import CharacterBreaker

    return np.cumsum([len(grapheme.encode()) for grapheme in CharacterBreaker(text, "en")], dtype=np.int64)


def visible(token: bytes) -> str:
    """A token's text with signs for white space and control characters; ⟨e2⟩ for a byte of a part of a character."""
    return "".join(map(_visible, token.decode("utf-8", "surrogateescape")))


def _visible(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # a byte that is not UTF-8 where it is
        return f"⟨{ord(character) - 0xDC00:02x}⟩"
    if character in SIGNS:
        return SIGNS[character]
    return f"⟨{ord(character):x}⟩" if unicodedata.category(character) in UNSEEN else character


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


@dataclass(frozen=True)
class Entry:
    """A token of a vocabulary, and how it was made."""

    id: int
    content: bytes  # a control token's name
    control: bool
    parts: tuple[tuple[int, bytes], tuple[int, bytes]] | None  # the two tokens that are merged, where it is a merge


def find(encoding: Encoding, text: str, *, ignore_case: bool, offset: int, limit: int) -> tuple[int, list[Entry]]:
    """How many tokens contain the text, and `limit` of them in the order of their ids, from the `offset`-th on.

    An empty text is contained in all. Upper and lower case are ignored as far as a token is UTF-8.
    """
    wanted = text.encode("utf-8", "surrogatepass")
    tokens = encoding.by_id
    if ignore_case:
        folded = text.casefold()
        found = [id for id, token in tokens.items() if folded in token.decode(errors="ignore").casefold()]
    else:
        found = [id for id, token in tokens.items() if wanted in token]
    return len(found), [entry(encoding, id) for id in found[offset : offset + limit]]


def around(encoding: Encoding, id: int, limit: int) -> tuple[int, list[Entry]]:
    """The size of the vocabulary, and `limit` of its tokens from this id on, or the last ones."""
    ids = list(encoding.by_id)
    first = max(0, min(bisect_left(ids, id), len(ids) - limit))
    return len(ids), [entry(encoding, id) for id in ids[first : first + limit]]


def entry(encoding: Encoding, id: int) -> Entry:
    """Raises KeyError for an id that is not used."""
    token = encoding.by_id[id]
    if id in encoding.controls.values():
        return Entry(id, token, True, None)
    parts = parts_of(token, encoding.ranks)
    return Entry(
        id, token, False, parts and ((encoding.ranks[parts[0]], parts[0]), (encoding.ranks[parts[1]], parts[1]))
    )
