"""Batches as pure functions of the step: the same step gives the same batch, also after a kill."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crawl2chat.tokens.shards import TokenizedDocuments


@dataclass(frozen=True)
class Batch:
    """Inputs, the tokens that follow them, and how much each counts in the loss; all (rows, seq_len)."""

    inputs_bt: Tensor
    targets_bt: Tensor
    weights_bt: Tensor


class Batches(Protocol):
    def __call__(self, step: int) -> Batch: ...


class DocumentBatches:
    """Documents laid end to end in an order drawn anew each epoch and cut into rows of seq_len + 1 tokens.

    Neighbouring rows share one token, so each token is predicted once an epoch but for the very first and what is
    left at the end when the rows are full. The rows are
    drawn in an order of their own: those of one long document would otherwise fill whole batches.
    """

    def __init__(self, documents: TokenizedDocuments, seq_len: int, rows: int, seed: int) -> None:
        self.documents, self.seq_len, self.rows, self.seed = documents, seq_len, rows, seed
        self.rows_per_epoch = (int(documents.starts[-1]) - 1) // seq_len
        if self.rows_per_epoch < 1:
            raise ValueError(f"{int(documents.starts[-1])} training tokens don't fill one sequence of {seq_len}")
        self._order = lru_cache(maxsize=2)(self._draw_order)  # a batch may straddle two epochs

    def __call__(self, step: int) -> Batch:
        first = step * self.rows
        rows_bt = torch.from_numpy(np.stack([self._row(first + i) for i in range(self.rows)]))
        return Batch(rows_bt[:, :-1], rows_bt[:, 1:], torch.ones(self.rows, self.seq_len))

    def _row(self, index: int) -> NDArray[np.int64]:
        epoch, place_in_epoch = divmod(index, self.rows_per_epoch)
        row_order, order, ends = self._order(epoch)
        at, needed = int(row_order[place_in_epoch]) * self.seq_len, self.seq_len + 1
        parts: list[NDArray[np.int64]] = []
        place = int(np.searchsorted(ends, at, side="right"))
        while needed:
            document = self.documents[order[place]]
            offset = at - (int(ends[place]) - len(document))
            part = document[offset : offset + needed].astype(np.int64)
            parts.append(part)
            at, needed, place = at + len(part), needed - len(part), place + 1
        return np.concatenate(parts)

    def _draw_order(self, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Order of the rows, order of the documents, and where each document ends when laid in that order."""
        generator = np.random.default_rng((self.seed, epoch))
        order = generator.permutation(len(self.documents))
        return generator.permutation(self.rows_per_epoch), order, np.cumsum(np.diff(self.documents.starts)[order])


class RowBatches:
    """Ready rows, such as packed conversations, in an order drawn anew each epoch."""

    def __init__(self, ids_nt: NDArray[np.int64], weights_nt: NDArray[np.float32], rows: int, seed: int) -> None:
        """ids_nt: (N, seq_len + 1); weights_nt: the same shape, the weight of predicting that very token."""
        self.ids_nt, self.weights_nt, self.rows, self.seed = ids_nt, weights_nt, rows, seed
        self._order = lru_cache(maxsize=2)(lambda epoch: np.random.default_rng((seed, epoch)).permutation(len(ids_nt)))

    def __call__(self, step: int) -> Batch:
        n = len(self.ids_nt)
        picked = [self._order(i // n)[i % n] for i in range(step * self.rows, (step + 1) * self.rows)]
        ids, weights = torch.from_numpy(self.ids_nt[picked]), torch.from_numpy(self.weights_nt[picked])
        return Batch(ids[:, :-1], ids[:, 1:], weights[:, 1:])
