"""Finding tokens in a vocabulary, by what they contain or by their ids."""

from bisect import bisect_left
from dataclasses import dataclass

from crawl2chat.tokenizer.encoding import Encoding
from crawl2chat.tokenizer.replay import parts_of


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
