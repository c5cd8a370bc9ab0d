"""Files of a run, read when they are asked for and again when they have changed; for any threads."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

Content = TypeVar("Content")


class CachedFiles:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._read: dict[Path, tuple[tuple[int, int], Any]] = {}

    def content(self, file: Path, read: Callable[[Path], Content]) -> Content:
        """What `read` makes of the file as it is now; always the same function for the same file."""
        stat = file.stat()
        state = stat.st_mtime_ns, stat.st_size
        with self._lock:
            known = self._read.get(file)
            if known is None or known[0] != state:
                known = self._read[file] = state, read(file)
        content: Content = known[1]
        return content
