"""Group rows by a key over many files, with no more than a part of them in memory.

A table is a list of .npy files of rows of unsigned 64-bit numbers, each file sorted by its columns from the left; the
first is the key. Whoever writes need not know how many will read: a reader takes a range of keys out of every file.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from crawl2chat.run import replacing

Rows = npt.NDArray[np.uint64]
MAX_KEY = 2**64 - 1
SORTED_COLUMNS = 3  # more never differ: the second or third is the document
SAMPLES = 32  # keys looked at for each part that is cut


class MapTasks(Protocol):
    """`map_shards` with its workers chosen, or anything that does the same."""

    def __call__(
        self, function: Callable[[Any, Path], None], shards: Sequence[tuple[Any, Path]], *, label: str
    ) -> None: ...


def in_this_process(function: Callable[[Any, Path], None], shards: Sequence[tuple[Any, Path]], *, label: str) -> None:
    """`map_shards` for work that is over sooner than a process would have started."""
    for item, output in shards:
        if not output.exists():
            with replacing(output) as temporary:
                function(item, temporary)


@dataclass(frozen=True)
class Range:
    """Keys from `low` to `high`, both included."""

    low: int
    high: int


def write_rows(path: Path, rows: Rows) -> None:
    """rows: (n, columns), in any order; written sorted."""
    with open(path, "wb") as file:
        np.save(file, sort_rows(rows))


def sort_rows(rows: Rows) -> Rows:
    return rows[np.lexsort(rows[:, :SORTED_COLUMNS].T[::-1])]


def unique_rows(rows: Rows) -> Rows:
    """The different ones of sorted rows."""
    return rows[_differs_from_last(rows)]


def group_starts(rows: Rows, columns: int = 1) -> npt.NDArray[np.intp]:
    """Where in sorted rows a new value of the first `columns` begins."""
    return np.flatnonzero(_differs_from_last(rows[:, :columns]))


def _differs_from_last(rows: Rows) -> npt.NDArray[np.bool_]:
    new = np.ones(len(rows), bool)
    new[1:] = (rows[1:] != rows[:-1]).any(axis=1)
    return new


def read_range(paths: Sequence[Path], keys: Range) -> Rows:
    """All rows with a key in the range, sorted. Needs twice their memory, whatever the files hold besides."""
    places = [(path, *_find(path, keys)) for path in paths]
    width = _open(paths[0]).shape[1] if paths else 0
    rows = np.empty((sum(stop - start for _, start, stop in places), width), np.uint64)
    filled = 0
    for path, start, stop in places:
        rows[filled : filled + stop - start] = _open(path)[start:stop]
        filled += stop - start
    return sort_rows(rows)


def cut(paths: Sequence[Path], part_bytes: int) -> list[Range]:
    """Ranges of keys that hold about `part_bytes` each and all rows together; rows of one key stay in one range."""
    tables = [table for table in map(_open, paths) if len(table)]
    if not tables:
        return []
    row_bytes = tables[0].shape[1] * 8
    total = sum(len(table) for table in tables)
    step = max(1, part_bytes // (SAMPLES * row_bytes))
    keys = np.concatenate([table[::step, 0] for table in tables])
    rows = np.concatenate([np.diff([*range(0, len(table), step), len(table)]) for table in tables])
    order = np.argsort(keys, kind="stable")
    before = np.cumsum(rows[order]) - rows[order]
    parts = -(-total * row_bytes // part_bytes)
    at = np.searchsorted(before, np.arange(1, parts) * total / parts)
    firsts = sorted({int(key) for key in keys[order][at[at < len(keys)]]} - {0})
    return [Range(low, high) for low, high in zip([0, *firsts], [*(f - 1 for f in firsts), MAX_KEY], strict=True)]


def _open(path: Path) -> Rows:
    rows: Rows = np.load(path, mmap_mode="r")
    return rows


def _find(path: Path, keys: Range) -> tuple[int, int]:
    """First row of the range and the one behind its last; reads a few pages of the file."""
    column = _open(path)[:, 0]
    return bisect_left(column, np.uint64(keys.low)), bisect_right(column, np.uint64(keys.high))
