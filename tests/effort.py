"""Whether time grows with the size of the input alone, whatever else the machine does."""

import gc
import time
from collections.abc import Callable

FLOOR = 0.2  # seconds of processor time, below which a measurement says nothing
REFERENCE = 0.027  # seconds of a million turns of an empty loop, on the quiet machine where bounds were set


def slowness() -> float:
    """How many times as long this machine, busy as it is now, takes as the one where bounds were set; at least 1."""

    def turns(share: float) -> None:
        for _ in range(round(1_000_000 * share)):
            pass

    return max(1.0, sorted(_seconds(turns, 1.0) for _ in range(5))[2] / REFERENCE)


def assert_linear(work: Callable[[float], object], *, of: float = 1 / 8) -> None:
    """Eight times the input must take less than 24 times the processor time: linear ways take 8 times, quadratic 64.

    work: does its work on this share of the input. The whole is measured once if that shows it.
    """
    gc.collect()
    gc.freeze()  # the collector would walk what earlier tests left, at the cost of what is measured
    try:
        whole = _seconds(work, 1.0)
        part = min(_seconds(work, of) for _ in range(3))
        floor = FLOOR * slowness()
        if whole >= floor + 24 * part:  # once more: the first call may have paid for what is made only once
            whole = min(_seconds(work, 1.0) for _ in range(2))
        assert whole < floor + 24 * part, f"{whole:.2f} s for the whole, {part:.3f} s for {of} of it"
    finally:
        gc.unfreeze()


def _seconds(work: Callable[[float], object], share: float) -> float:
    began = time.process_time()
    work(share)
    return time.process_time() - began
