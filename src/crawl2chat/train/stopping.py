"""Being asked to stop: a checkpoint is written first."""

import signal
import threading
import time
from types import FrameType, TracebackType

SAME_REQUEST_SECONDS = 2.0  # a terminal and torchrun may both pass on one Ctrl-C


class Stop:
    """In the block, Ctrl-C and SIGTERM (how clusters take a machine back) set `asked` instead of ending the process.

    Another one, later, ends it at once. Outside the main thread nothing changes, as Python allows handlers only there.
    """

    def __init__(self) -> None:
        self.asked = False
        self._asked_at = 0.0
        self._before = {}  # type: ignore[var-annotated]  # handlers as the signal module types them

    def __enter__(self) -> "Stop":
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._ask) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked and time.monotonic() - self._asked_at > SAME_REQUEST_SECONDS:
            raise KeyboardInterrupt
        self._asked_at = self._asked_at if self.asked else time.monotonic()
        self.asked = True
