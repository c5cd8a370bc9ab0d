"""Files of JSON lines of any length, of which a page shows some rows: only a summary of each row is kept in memory."""

import json
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Generic, TypeVar

from crawl2chat.stages.files import StageError

Summary = TypeVar("Summary")
Row = dict[str, Any]


class JsonlIndex(Generic[Summary]):
    """Summaries of a file's rows, read again when the file has changed; for any threads.

    A last line without its end is one that is being written, and is left for the next time.
    """

    def __init__(self, file: Path, summarise: Callable[[Row], Summary]) -> None:
        self.file, self._summarise = file, summarise
        self._lock = threading.Lock()
        self._state: tuple[int, int, int] | None = None
        self._places: list[int] = []
        self._summaries: list[Summary] = []

    def summaries(self) -> list[Summary]:
        """One for each row, in their order. Raises StageError for a line that can't be read, OSError without a file."""
        with self._lock, open(self.file, "rb") as file:
            self._refresh(file)
            return self._summaries

    def rows(self, numbers: Sequence[int]) -> list[Row]:
        """The rows with these numbers, from 0; those that the file does not have are left out."""
        with self._lock, open(self.file, "rb") as file:  # which may be replaced meanwhile, but is read to its end
            self._refresh(file)
            found = []
            for number in numbers:
                if 0 <= number < len(self._places):
                    file.seek(self._places[number])
                    found.append(json.loads(file.readline()))
            return found

    def _refresh(self, file: BinaryIO) -> None:
        stat = os.fstat(file.fileno())
        state = stat.st_ino, stat.st_mtime_ns, stat.st_size
        if state == self._state:
            return
        places, summaries, at = [], [], 0
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                break
            try:
                summaries.append(self._summarise(json.loads(line)))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise StageError(f"{self.file}: line {number} is not what the stage writes: {error!r}") from error
            places.append(at)
            at += len(line)
        self._state, self._places, self._summaries = state, places, summaries
