"""Two texts side by side: line next to line, with the words that only one of them has marked."""

import difflib
import re
from collections.abc import Iterator
from itertools import zip_longest
from typing import NamedTuple

MAX_LINES = 2000  # and words of a line: finding differences takes time with their square
_WORD = re.compile(r"\s*\S+\s*")


class Piece(NamedTuple):
    text: str
    differs: bool  # the other text does not have it


class Row(NamedTuple):
    """A line of each text; None where one has no line like the other's."""

    left: list[Piece] | None
    right: list[Piece] | None

    @property
    def differs(self) -> bool:
        return self.left is None or self.right is None or any(piece.differs for piece in (*self.left, *self.right))


def side_by_side(left: str, right: str) -> Iterator[Row]:
    """Rows of the lines of both texts that are not empty, at most the first MAX_LINES of each."""
    before, after = lines_of(left), lines_of(right)
    for tag, i, i_end, j, j_end in difflib.SequenceMatcher(None, before, after).get_opcodes():
        for old, new in zip_longest(before[i:i_end], after[j:j_end]):
            if tag == "equal":
                yield Row([Piece(old, False)], [Piece(new, False)])
            elif old is None or new is None:
                yield Row(*([Piece(line, True)] if line else None for line in (old, new)))
            else:
                yield Row(*_words(old, new))


def lines_of(text: str) -> list[str]:
    return [line for line in text.split("\n") if line.strip()][:MAX_LINES]


def _words(old: str, new: str) -> tuple[list[Piece], list[Piece]]:
    before: list[str] = _WORD.findall(old)[:MAX_LINES]
    after: list[str] = _WORD.findall(new)[:MAX_LINES]
    plain = [word.strip() for word in before], [word.strip() for word in after]
    left: list[Piece] = []
    right: list[Piece] = []
    for tag, i, i_end, j, j_end in difflib.SequenceMatcher(None, plain[0], plain[1]).get_opcodes():
        for pieces, words in ((left, before[i:i_end]), (right, after[j:j_end])):
            if words:
                pieces.append(Piece("".join(words), tag != "equal"))
    return left, right
