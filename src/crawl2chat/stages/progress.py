"""Where long work is, how fast it goes and how long it will still take: a live bar, or lines in a log."""

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as RichProgress

LINE_EVERY_SECONDS = 15.0  # in a log, where a bar can't move


class Progress:
    """`with Progress("refine", total=8) as bar: bar.update(3, "412 pages/s")`; it adds the time left itself.

    Nothing is shown with `quiet`, as in all but one of several processes that share the work; inside another bar that
    is shown; and with `after` for that many seconds, for work that is usually short.
    """

    shown: "Progress | None" = None

    def __init__(self, label: str, total: int, unit: str = "", *, quiet: bool = False, after: float = 0.0) -> None:
        self.label, self.total, self.unit, self.after = label, total, unit, after
        self.console = Console(stderr=True, quiet=quiet or Progress.shown is not None)
        self.first: tuple[float, int] | None = None
        self.last_line, self.done = 0.0, 0
        self.bar = RichProgress(
            TextColumn("{task.description:<10}"), BarColumn(24), TextColumn("{task.fields[text]}"),
            console=self.console, transient=True,
        )  # fmt: skip
        self.task = self.bar.add_task(label, total=total, text="")

    def __enter__(self) -> "Progress":
        self.started = time.monotonic()
        if not self.after:
            self._show()
        return self

    def _show(self) -> None:
        if Progress.shown is None and not self.console.quiet:
            Progress.shown = self
            if self.console.is_terminal:
                self.bar.start()

    def update(self, done: int, text: str = "") -> None:
        now = time.monotonic()
        self.first = self.first or (now, done)  # what a resumed run found done says nothing of its speed
        if now - self.started < self.after:
            return
        self._show()
        line = f"{self.unit} {done:,}/{self.total:,}  {text}  {self._time_left(now, done)}".strip()
        if self.console.is_terminal:
            self.bar.update(self.task, completed=done, text=line)
        elif now - self.last_line >= LINE_EVERY_SECONDS or done == self.total:
            self.last_line = now
            self.say(f"{self.label}  {line}")

    def advance(self, more: int) -> None:
        """Count this many more as done."""
        self.done += more
        self.update(self.done)

    def say(self, text: str) -> None:
        """A line that stays, above the bar."""
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if Progress.shown is self:
            Progress.shown = None
            if self.console.is_terminal:
                self.bar.stop()

    def _time_left(self, now: float, done: int) -> str:
        assert self.first is not None
        began, done_then = self.first
        if done <= done_then:
            return ""
        left = (now - began) / (done - done_then) * (self.total - done)
        return f"{int(left // 60)}:{int(left % 60):02d} left"
