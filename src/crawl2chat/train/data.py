"""Batches as pure functions of the step: the same step gives the same batch, also after a kill."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crawl2chat.tokens.shards import TokenizedDocuments
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


class Batches(Protocol):
    def __call__(self, step: int) -> Batch: ...


@dataclass(frozen=True)
class Share:
    """Which rows belong to a step, and which of them this rank takes, of so many ranks.

    Rows are counted from the run's beginning on, through all epochs; step s has those from first_row(s) to before
    first_row(s + 1). The ranks' shares, one after the other, are that batch, whatever their number.
    """

    first_row: Callable[[int], int]
    rank: int = 0
    ranks: int = 1

    @staticmethod
    def constant(rows: int, rank: int = 0, ranks: int = 1) -> "Share":
        """The same number of rows in each step."""
        return Share(partial(int.__mul__, rows), rank, ranks)

    def rows(self, step: int) -> range:
        first, n = self.first_row(step), self.first_row(step + 1) - self.first_row(step)
        return range(first + n * self.rank // self.ranks, first + n * (self.rank + 1) // self.ranks)


class DocumentBatches:
    """Documents packed into rows anew each epoch (see `packing`), rows in random order.

    Every token of the documents is an input once an epoch. Its target is the next token of its document, or the
    end-of-text token where it ends; padding has weight 0.
    """

    def __init__(
        self,
        documents: TokenizedDocuments,
        seq_len: int,
        share: Share,
        seed: int,
        *,
        packing: Literal["best_fit", "concatenate"] = "best_fit",
        attend: Literal["row", "document"] = "row",
    ) -> None:
        """Raises ValueError where there are no tokens."""
        if not len(documents):
            raise ValueError("no documents to train on")
        self.documents, self.seq_len, self.share, self.seed, self.attend = documents, seq_len, share, seed, attend
        self._pack = best_fit_rows if packing == "best_fit" else concatenated_rows
        self.epoch_rows = lru_cache(maxsize=2)(self._rows_of_epoch)  # a batch may straddle two epochs
        self.rows_per_epoch = len(self.epoch_rows(0))  # which depends on the documents' lengths alone

    def __call__(self, step: int) -> Batch:
        numbers = self.share.rows(step)
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
        tensors = map(torch.from_numpy, (inputs_bt, targets_bt, weights_bt))
        return Batch(*tensors, torch.from_numpy(documents_bt) if self.attend == "document" else None)

    def _rows_of_epoch(self, epoch: int) -> Rows:
        return self._pack(self.documents.starts, self.seq_len, np.random.default_rng((self.seed, epoch)))


class RowBatches:
    """Ready rows, such as packed conversations, in an order drawn anew each epoch."""

    def __init__(self, ids_nt: NDArray[np.int64], weights_nt: NDArray[np.float32], share: Share, seed: int) -> None:
        """ids_nt: (N, seq_len + 1); weights_nt: the same shape, the weight of predicting that very token."""
        self.ids_nt, self.weights_nt, self.share = ids_nt, weights_nt, share
        self._order = lru_cache(maxsize=2)(lambda epoch: np.random.default_rng((seed, epoch)).permutation(len(ids_nt)))

    def __call__(self, step: int) -> Batch:
        n = len(self.ids_nt)
        picked = [self._order(i // n)[i % n] for i in self.share.rows(step)]
        ids, weights = torch.from_numpy(self.ids_nt[picked]), torch.from_numpy(self.weights_nt[picked])
        return Batch(ids[:, :-1], ids[:, 1:], weights[:, 1:])


@contextmanager
def made_ahead(batches: Batches, steps: int) -> Iterator[Batches]:
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
