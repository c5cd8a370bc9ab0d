"""Batches as pure functions of the step: the same step gives the same batch, also after a kill."""

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
from crawl2chat.train.packing import Rows, best_fit_rows, concatenated_rows

AHEAD = 2  # batches made while the model is at work


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
    """Documents packed into rows again each epoch (see `packing`), rows in random order.

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

    def _rows_of_epoch(self, epoch: int) -> Rows:
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
