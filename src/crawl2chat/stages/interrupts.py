"""The signals that end a command in an orderly way.

SIGINT is Ctrl-C, SIGTERM how schedulers take a machine back, SIGHUP how a closed terminal or connection says goodbye.
"""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SAME_REQUEST_SECONDS = 2.0  # a terminal and torchrun may both pass on one Ctrl-C

Handler = Any  # a function, SIG_DFL or SIG_IGN; what was there before may also be None (set by another language)

message = "interrupted"  # for the person who interrupted; a command that can be resumed adds that


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP, raised the way Python raises Ctrl-C, so that the same clean-up serves all."""

    def __init__(self, number: int = signal.SIGTERM) -> None:
        super().__init__()
        self.number = number


def interruption(number: int) -> KeyboardInterrupt:
    """The exception for a signal."""
    return KeyboardInterrupt() if number == signal.SIGINT else Terminated(number)


def exit_status(error: KeyboardInterrupt) -> int:
    """128 plus the number of the signal, as shells report it."""
    return 128 + (error.number if isinstance(error, Terminated) else signal.SIGINT)


def handle(handler: Handler) -> dict[int, Handler]:
    """Have these signals handled so; returns what handled them before, for `restore`.

    SIGHUP stays ignored where it was: that is what `nohup` asks for.
    """
    numbers = [n for n in SIGNALS if n != signal.SIGHUP or signal.getsignal(n) != signal.SIG_IGN]
    return {number: signal.signal(number, handler) for number in numbers}


def restore(before: dict[int, Handler]) -> None:
    for number, handler in before.items():
        signal.signal(number, handler)


@contextlib.contextmanager
def raised() -> Iterator[None]:
    """In the block SIGINT raises KeyboardInterrupt, the others Terminated; during an import they end the process.

    Outside the main thread nothing changes, as Python allows signal handlers only there.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = handle(_raise)
    try:
        yield
    finally:
        restore(before)


class Stop:
    """In the block the signals only set `asked`, so that a step can be finished and saved; its end raises them.

    Another signal, some seconds later, raises at once. Outside the main thread nothing changes.
    """

    def __init__(self) -> None:
        self.asked = False
        self._number: int = signal.SIGINT
        self._asked_at = 0.0
        self._before: dict[int, Handler] = {}

    def __enter__(self) -> "Stop":
        if threading.current_thread() is threading.main_thread():
            self._before = handle(self._ask)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        restore(self._before)
        if self.asked and error is None:
            raise self.interruption()

    def interruption(self) -> KeyboardInterrupt:
        """The exception for the signal that was heard, or that another process heard."""
        return interruption(self._number)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked and time.monotonic() - self._asked_at > SAME_REQUEST_SECONDS:
            raise interruption(number)
        if not self.asked:
            self.asked, self._number, self._asked_at = True, number, time.monotonic()


def end_quietly() -> None:
    """From here on the signals end the process without a word: its work is done and its exit status printed."""
    if threading.current_thread() is threading.main_thread():
        handle(signal.SIG_DFL)


def _raise(number: int, frame: FrameType | None) -> None:
    error = interruption(number)
    if _importing(frame):  # which may swallow an exception or make an ImportError of it; nothing is half done here
        with contextlib.suppress(Exception):
            sys.stdout.flush()
        with contextlib.suppress(OSError):
            os.write(2, f"{message}\n".encode())
        os._exit(exit_status(error))
    raise error


def _importing(frame: FrameType | None) -> bool:
    while frame:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False
