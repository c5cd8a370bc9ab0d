"""Batches as pure functions of the step: the same step gives the same batch, also after a kill.

A row of pretraining is made up of pieces of documents, packed by best fit or laid end to end and cut. A piece is a run
of tokens of one document. An epoch's rows hold each token of the documents exactly once; what a row lacks is padding.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crawl2chat.tokenizer.shards import TokenizedDocuments

AHEAD = 2  # batches made while the model is at work

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Batch:
    """Inputs, the tokens that follow them, and how much each counts in the loss; all (rows, seq_len).

    documents_bt, where attention is to end with a document: the number of each token's document within its row.
    """

    inputs_bt: Tensor
    targets_bt: Tensor
    weights_bt: Tensor
    documents_bt: Tensor | None = None

    def parts(self) -> list[Tensor]:
        """The tensors that there are, in this order."""
        parts = (self.inputs_bt, self.targets_bt, self.weights_bt, self.documents_bt)
        return [part for part in parts if part is not None]


class Batches(Protocol):
    """The whole batch of a step, whatever the number of ranks that share it.

    The step is all of the state: a run that goes on from step s calls for s, and has its batch at once.
    """

    def __call__(self, step: int) -> Batch: ...


@lru_cache(maxsize=4)
def epoch_order(count: int, seed: int, epoch: int) -> list[int]:
    """The order in which an epoch takes `count` things."""
    return cast(list[int], np.random.default_rng((seed, epoch)).permutation(count).tolist())


def in_epochs(
    count: int, per_step: int, seed: int, step: int, order: Callable[[int, int, int], Sequence[int]] = epoch_order
) -> list[int]:
    """Which `per_step` of `count` things a step takes: all of them once per epoch, each time in a new order.

    A step may be in two epochs. order(count, seed, epoch): how an epoch's order is drawn.
    """
    places = (divmod(i, count) for i in range(step * per_step, (step + 1) * per_step))
    return [order(count, seed, epoch)[place] for epoch, place in places]


class DocumentBatches:
    """Documents packed into rows again each epoch (`best_fit_rows`, `concatenated_rows`), rows in random order.

    Every token of the documents is an input once per epoch. Its target is the next token of its document, or the
    end-of-text token where it ends; padding has weight 0.
    """

    def __init__(
        self,
        documents: TokenizedDocuments,
        seq_len: int,
        rows: int,
        seed: int,
        *,
        packing: Literal["best_fit", "concatenate"] = "concatenate",
        attend: Literal["row", "document"] = "row",
    ) -> None:
        """rows: of each step. Raises ValueError where there are no documents."""
        if not len(documents):
            raise ValueError("no documents to train on")
        self.documents, self.seq_len, self.seed, self.attend = documents, seq_len, seed, attend
        self.rows = rows
        self._pack = best_fit_rows if packing == "best_fit" else concatenated_rows
        self.epoch_rows = lru_cache(maxsize=2)(self._rows_of_epoch)  # a batch may straddle two epochs
        self.rows_per_epoch = len(self.epoch_rows(0))  # which depends on the documents' lengths alone

    def __call__(self, step: int) -> Batch:
        numbers = range(step * self.rows, (step + 1) * self.rows)
        shape = len(numbers), self.seq_len
        inputs_bt = np.full(shape, self.documents.ids[0], dtype=np.int64)  # padded with end of text
        targets_bt = inputs_bt.copy()
        weights_bt = np.zeros(shape, dtype=np.float32)
        documents_bt = np.full(shape, -1)  # padding sees padding
        for row, number in enumerate(numbers):
            epoch, place = divmod(number, self.rows_per_epoch)
            begins, lengths = self.epoch_rows(epoch)[place]
            offsets = np.cumsum(lengths) - lengths
            at = np.repeat(begins - offsets, lengths) + np.arange(lengths.sum())
            inputs_bt[row, : len(at)] = self.documents.ids[at]
            # Where a document ends, the next one's end-of-text token follows; the first one's follows the last.
            targets_bt[row, : len(at)] = self.documents.ids[(at + 1) % len(self.documents.ids)]
            weights_bt[row, : len(at)] = 1
            documents_bt[row, : len(at)] = np.repeat(np.arange(len(lengths)), lengths)
        return Batch(
            torch.from_numpy(inputs_bt),
            torch.from_numpy(targets_bt),
            torch.from_numpy(weights_bt),
            torch.from_numpy(documents_bt) if self.attend == "document" else None,
        )

    def documents_cut(self) -> int:
        """Documents of which no row of the first epoch holds the whole."""
        rows, starts = self.epoch_rows(0), self.documents.starts
        of_piece = np.searchsorted(starts, rows.begins, side="right") - 1
        return len(self.documents) - int((np.diff(starts)[of_piece] == rows.lengths).sum())

    def _rows_of_epoch(self, epoch: int) -> "Rows":
        return self._pack(self.documents.starts, self.seq_len, np.random.default_rng((self.seed, epoch)))


class RowBatches:
    """Ready rows, such as packed conversations, in an order drawn again each epoch."""

    def __init__(self, ids_nt: NDArray[np.int64], weights_nt: NDArray[np.float32], rows: int, seed: int) -> None:
        """ids_nt: (N, seq_len + 1); weights_nt: the same shape, the weight of predicting that very token."""
        self.ids_nt, self.weights_nt, self.rows = ids_nt, weights_nt, rows
        self.seed = seed

    def __call__(self, step: int) -> Batch:
        picked = in_epochs(len(self.ids_nt), self.rows, self.seed, step)
        ids, weights = torch.from_numpy(self.ids_nt[picked]), torch.from_numpy(self.weights_nt[picked])
        return Batch(ids[:, :-1], ids[:, 1:], weights[:, 1:])


def random_batches(vocab_size: int, rows: int, seq_len: int) -> Batches:
    """Return batches of uniformly drawn tokens, different in each step, to measure with."""

    def batch(step: int) -> Batch:
        generator = torch.Generator().manual_seed(step)
        ids = torch.randint(vocab_size, (rows, seq_len + 1), generator=generator)
        return Batch(ids[:, :-1], ids[:, 1:], torch.ones(rows, seq_len))

    return batch


@contextmanager
def prefetched(batches: Batches, steps: int) -> Iterator[Batches]:
    """The same batches, the next ones made by a thread meanwhile; what it raises, the call for that step raises.

    A thread is enough: it makes a batch in a hundredth of the time that a step takes (bench/loader.py), copies
    nothing between processes, and can't outlive the trainer. No batch is made for `steps` and beyond.
    """
    made: dict[int, Future[Batch]] = {}
    with ThreadPoolExecutor(1, "batches") as thread:

        def batch(step: int) -> Batch:
            for next_step in range(step, min(step + AHEAD + 1, steps)):
                if next_step not in made:
                    made[next_step] = thread.submit(batches, next_step)
            return made.pop(step).result()

        try:
            yield batch
        finally:
            thread.shutdown(wait=True, cancel_futures=True)


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
