"""Which pieces of documents make up a row of training: packed by best fit, or laid end to end and cut.

A piece is a run of tokens of one document. An epoch's rows hold each token of the documents exactly once, so
nothing is lost; what a row lacks is padding. Both ways are functions of seed and epoch alone.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Rows:
    """The rows of an epoch: row r has the pieces from `starts[r]` to `starts[r + 1]`."""

    begins: Ints  # (pieces) place of each one's first token among all tokens
    lengths: Ints  # (pieces) tokens
    starts: Ints  # (rows + 1)

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, row: int) -> tuple[Ints, Ints]:
        """Begins and lengths of a row's pieces."""
        of_row = slice(self.starts[row], self.starts[row + 1])
        return self.begins[of_row], self.lengths[of_row]

    def __iter__(self) -> Iterator[tuple[Ints, Ints]]:
        return (self[row] for row in range(len(self)))


def best_fit_rows(document_starts: Ints, seq_len: int, generator: np.random.Generator) -> Rows:
    """Rows that begin where a document or a piece of a long one begins, and that short documents fill.

    Only documents of more than seq_len tokens are cut, each into pieces of seq_len and a rest (best-fit packing of
    Ding et al., arXiv 2404.10830, with a row's pieces and the rows themselves in random order).
    document_starts: (documents + 1), where each begins among all tokens, and the end.
    """
    n_pieces = -(-np.diff(document_starts) // seq_len)
    first = np.cumsum(n_pieces) - n_pieces
    ends = np.repeat(document_starts[1:], n_pieces)
    begins = np.repeat(document_starts[:-1] - first * seq_len, n_pieces) + np.arange(len(ends)) * seq_len
    order = generator.permutation(len(begins))
    begins, lengths = begins[order], np.minimum(seq_len, ends - begins)[order]
    row_of_piece = best_fit(lengths, seq_len)
    n_rows = int(row_of_piece.max()) + 1
    row_of_piece = generator.permutation(n_rows)[row_of_piece]
    by_row = np.argsort(row_of_piece, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(row_of_piece, minlength=n_rows))])
    return Rows(begins[by_row], lengths[by_row], starts)


def concatenated_rows(document_starts: Ints, seq_len: int, generator: np.random.Generator) -> Rows:
    """Documents laid end to end in random order and cut every seq_len tokens; only the last row is padded.

    The rows are then put in an order of their own: those of one long document would otherwise fill whole batches.
    """
    order = generator.permutation(len(document_starts) - 1)
    laid = np.concatenate([[0], np.cumsum(np.diff(document_starts)[order])])
    cuts = np.union1d(laid, np.arange(0, laid[-1], seq_len))
    lengths = np.diff(cuts)
    document = np.searchsorted(laid, cuts[:-1], side="right") - 1
    begins = document_starts[order[document]] + cuts[:-1] - laid[document]
    row_of_piece = generator.permutation(-(-laid[-1] // seq_len))[cuts[:-1] // seq_len]
    by_row = np.argsort(row_of_piece, kind="stable")
    return Rows(begins[by_row], lengths[by_row], np.concatenate([[0], np.cumsum(np.bincount(row_of_piece))]))


def best_fit(lengths_n: Ints, room: int) -> Ints:
    """Row of each item, (n): from the longest on, each goes to the row with the least room that still takes it.

    Best fit decreasing, for all items of one length at a time: the rows with equally much room take as many of them
    as they hold. So the work grows with the number of lengths, not of items: 15 million documents take seconds.
    lengths_n: from 1 to `room`.
    """
    narrow = np.uint16 if room < 2**16 else np.uint32  # 16 bits are sorted by radix, five times as fast
    by_length = np.argsort((room - lengths_n).astype(narrow), kind="stable")
    ends = np.cumsum(np.bincount(lengths_n, minlength=room + 1)[::-1])[::-1]  # of those at least so long
    row_of_item = np.empty(len(lengths_n), dtype=np.int64)
    with_room: list[list[Ints]] = [[] for _ in range(room + 1)]
    has_some = np.zeros(room + 1, dtype=bool)
    n_rows = 0

    def put(rows: Ints, left: int) -> None:
        if len(rows):
            with_room[left].append(rows)
            has_some[left] = True

    for length in range(room, 0, -1):
        items = by_length[ends[length + 1] if length < room else 0 : ends[length]]
        while len(items):
            left = length + int(has_some[length:].argmax())
            if has_some[left]:
                rows = with_room[left].pop()
                has_some[left] = bool(with_room[left])
            else:
                left = room
                rows = np.arange(n_rows, n_rows - (-len(items) // (room // length)))
                n_rows += len(rows)
            each = left // length
            taken, items = items[: each * len(rows)], items[each * len(rows) :]
            row_of_item[taken] = np.repeat(rows, each)[: len(taken)]
            full, rest = divmod(len(taken), each)
            put(rows[:full], left - each * length)
            put(rows[full : full + 1], left - rest * length)
            put(rows[full + 1 :], left)
    return row_of_item
