"""How much goes through the model at once, and what becomes of a step for which memory runs out."""

import contextlib
import gc
import sys
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch

from crawl2chat.stages.files import StageError
from crawl2chat.train.settings import TrainSettings

T = TypeVar("T")

CPU_TOKENS = 2048


class MicroBatch:
    """The tokens of a forward pass; where the setting leaves them open, the most that have fitted so far.

    A batch that doesn't fit is done anew with half as many, its gradients discarded: the optimiser's step is that of
    the whole batch, whatever the split. Of several ranks none can do so, since the others would wait for it.
    """

    def __init__(self, settings: TrainSettings, device: str, label: str, *, alone: bool = True) -> None:
        self.seq_len, self.label = settings.seq_len, label
        self.tokens = settings.micro_batch_tokens or (settings.batch_tokens if device == "cuda" else CPU_TOKENS)
        self.open = alone and not settings.micro_batch_tokens
        self.tried = self.tokens // self.seq_len  # rows, at the last attempt

    def rows(self, n: int) -> int:
        """Rows of a forward pass: the most that divide a batch of n evenly."""
        return rows_within(self.tokens // self.seq_len, n)

    def fitting(self, n: int, attempt: Callable[[int], T], discard: Callable[[], None]) -> T:
        """`attempt(rows)` at a batch of n rows, again with fewer at once after memory ran out, and after `discard()`.

        Where the tokens were set, or one row is too much, memory's error goes on to `explain_out_of_memory`.
        """
        while True:
            self.tried = self.rows(n)
            try:
                return attempt(self.tried)
            except (RuntimeError, MemoryError) as error:
                if not (self.open and self.tried > 1 and ran_out_of_memory(error)):
                    raise
            # the error is gone here, and with its traceback the tensors of the attempt
            discard()
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            self.tokens = self.tried // 2 * self.seq_len
            print(
                f"{self.label}: memory ran out; going on with {self.rows(n) * self.seq_len} tokens a forward pass, "
                f"{n * self.seq_len} a step as before",
                file=sys.stderr,
            )

    def advice(self) -> str:
        """What to lower, and to what."""
        if self.tried < 2:
            return (
                f"one sequence of {self.seq_len} tokens at a time doesn't fit; lower {self.label}.seq_len or the "
                "model's depth or width"
            )
        now, fewer = self.tried * self.seq_len, self.tried // 2 * self.seq_len
        return f"set {self.label}.micro_batch_tokens = {fewer} (now {now}); a step keeps its {self.label}.batch_tokens"


def rows_within(most: int, n: int) -> int:
    """The most rows, up to `most` but one at least, that divide n evenly."""
    return next(rows for rows in range(max(1, min(most, n)), 0, -1) if n % rows == 0)


def ran_out_of_memory(error: BaseException) -> bool:
    """CUDA has an error of its own for it; torch's CPU allocator says it in words; Python and numpy raise theirs."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "DefaultCPUAllocator: can't allocate" in str(
        error
    )


@contextlib.contextmanager
def explain_out_of_memory(label: str, advice: Callable[[], str]) -> Iterator[None]:
    """Turn an error that means that memory ran out into a StageError with advice."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not ran_out_of_memory(error):
            raise
        raise StageError(f"{label}: out of memory; {advice()}") from error
