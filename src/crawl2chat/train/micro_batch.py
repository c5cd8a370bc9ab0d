"""How much goes through the model at once, and what becomes of a step for which memory runs out."""

import contextlib
import gc
import sys
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch

from crawl2chat.run import StageError
from crawl2chat.train.settings import TrainSettings

T = TypeVar("T")

CPU_TOKENS = 2048


class MicroBatch:
    """The rows of a forward pass; where the setting leaves them open, the most that have fitted so far.

    A batch that doesn't fit is done anew in halves, its gradients discarded: the optimiser's step is that of the
    whole batch, whatever the split.
    """

    def __init__(self, settings: TrainSettings, ranks: int, device: str, label: str) -> None:
        """ranks: how many share the batch; several would wait for what one of them does anew, so there none does."""
        self.batch_rows, self.seq_len, self.label = -(-settings.batch_rows // ranks), settings.seq_len, label
        wanted = settings.micro_batch_tokens or (settings.batch_tokens if device == "cuda" else CPU_TOKENS)
        self.rows = rows_within(max(1, wanted // self.seq_len), self.batch_rows)
        self.open = not settings.micro_batch_tokens and ranks == 1

    def fitting(self, attempt: Callable[[int], T], discard: Callable[[], None]) -> T:
        """`attempt(rows)`, again with fewer rows each time that memory runs out, after `discard()`.

        Where the rows were set, or one is too much, memory's error goes on to `out_of_memory_says`.
        """
        while True:
            try:
                return attempt(self.rows)
            except (RuntimeError, MemoryError) as error:
                if not (self.open and self.rows > 1 and ran_out_of_memory(error)):
                    raise
            # the error is gone here, and with its traceback the tensors of the attempt
            discard()
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            self.rows = self._fewer()
            print(
                f"{self.label}: memory ran out; going on with {self.rows * self.seq_len} tokens a forward pass, "
                f"{self.batch_rows * self.seq_len} a step as before",
                file=sys.stderr,
            )

    def advice(self) -> str:
        """What to lower, and to what."""
        if self.rows == 1:
            return (
                f"one sequence of {self.seq_len} tokens at a time doesn't fit; lower {self.label}.seq_len or the "
                "model's depth or width"
            )
        return (
            f"set {self.label}.micro_batch_tokens = {self._fewer() * self.seq_len} (now {self.rows * self.seq_len}); "
            f"a step keeps its {self.batch_rows * self.seq_len}"
        )

    def _fewer(self) -> int:
        return rows_within(self.rows // 2, self.batch_rows)


def rows_within(most: int, batch_rows: int) -> int:
    """The most rows, up to `most`, that divide the batch evenly."""
    return next(rows for rows in range(min(most, batch_rows), 0, -1) if batch_rows % rows == 0)


def ran_out_of_memory(error: BaseException) -> bool:
    """CUDA has an error of its own for it; torch's CPU allocator says it in words; Python and numpy raise theirs."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "DefaultCPUAllocator: can't allocate" in str(
        error
    )


@contextlib.contextmanager
def out_of_memory_says(label: str, advice: Callable[[], str]) -> Iterator[None]:
    """Turn an error that means that memory ran out into a StageError with advice."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not ran_out_of_memory(error):
            raise
        raise StageError(f"{label}: out of memory; {advice()}") from error
