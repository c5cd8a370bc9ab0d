"""Group rows by a key over many files, and find the connected components of a graph, a part in memory at a time.

A table is a list of .npy files of rows of unsigned 64-bit numbers, each file sorted by its columns from the left; the
first is the key. A writer need not know how many processes will read: a reader takes a range of rows out of every file.

Components are found by alternating stars (Kiveris et al. 2014, "Connected components in MapReduce and beyond"): every
node reports the smallest node it knows to its neighbours, first to the larger ones, then to the smaller ones, until
each component is a star around its smallest node. A component is never split or joined on the way, so how edges are cut
into parts changes neither the result nor the number of rounds, which grows with the logarithm of the longest path.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from crawl2chat.stages.files import StageError, atomic_write, read_json, write_json

Rows = npt.NDArray[np.uint64]
MAX_KEY = 2**64 - 1
SORTED_COLUMNS = 2  # no two rows of a table agree in both and differ in the others
SAMPLES = 32  # keys looked at for each part that is cut


class MapTasks(Protocol):
    """`map_shards` with its workers chosen, or anything that does the same."""

    def __call__(
        self, function: Callable[[Any, Path], None], shards: Sequence[tuple[Any, Path]], *, label: str
    ) -> None: ...


def in_this_process(function: Callable[[Any, Path], None], shards: Sequence[tuple[Any, Path]], *, label: str) -> None:
    """`map_shards` for work that takes less time than starting a process."""
    for item, output in shards:
        if not output.exists():
            with atomic_write(output) as temporary:
                function(item, temporary)


@dataclass(frozen=True)
class Range:
    """Rows with keys from `low` to `high`, both included.

    Of the lowest key those whose second column is at least `from_second`, of the highest those up to `to_second`.
    """

    low: int = 0
    high: int = MAX_KEY
    from_second: int = 0
    to_second: int = MAX_KEY


ALL = Range()


def write_rows(path: Path, rows: Rows) -> None:
    """rows: (n, columns), in any order; written sorted."""
    with open(path, "wb") as file:
        np.save(file, sort_rows(rows))


def sort_rows(rows: Rows) -> Rows:
    return rows[np.lexsort(rows[:, :SORTED_COLUMNS].T[::-1])]


def unique_rows(rows: Rows) -> Rows:
    """The different ones of sorted rows."""
    return rows[_differs_from_last(rows)]


def group_starts(rows: Rows) -> npt.NDArray[np.intp]:
    """Where in sorted rows a new key begins."""
    return np.flatnonzero(_differs_from_last(rows[:, :1]))


def _differs_from_last(rows: Rows) -> npt.NDArray[np.bool_]:
    new = np.ones(len(rows), bool)
    new[1:] = (rows[1:] != rows[:-1]).any(axis=1)
    return new


def read_range(paths: Sequence[Path], rows: Range) -> Rows:
    """All rows in the range, sorted. Needs twice their memory, whatever the files hold besides."""
    places = _places(paths, rows)
    width = _open(paths[0]).shape[1] if paths else 0
    found = np.empty((sum(stop - start for _, start, stop in places), width), np.uint64)
    filled = 0
    for path, start, stop in places:
        found[filled : filled + stop - start] = _open(path)[start:stop]
        filled += stop - start
    return sort_rows(found)


def read_parts(paths: Sequence[Path], rows: Range, part_bytes: int) -> Iterator[Rows]:
    """The same, in order, about `part_bytes` at a time."""
    for part in cut(paths, part_bytes, rows):
        yield read_range(paths, part)


def read_head(paths: Sequence[Path], key: int, count: int) -> Rows:
    """The first rows of a key, `count` or fewer."""
    seconds = [
        _open(path)[start : min(stop, start + count), 1] for path, start, stop in _places(paths, Range(key, key))
    ]
    first = np.sort(np.concatenate(seconds))[:count]
    return read_range(paths, Range(key, key, 0, int(first[-1]))) if len(first) else read_range(paths, Range(key, key))


def cut(paths: Sequence[Path], part_bytes: int, rows: Range = ALL, *, whole_keys: bool = False) -> list[Range]:
    """Ranges that hold about `part_bytes` each and all rows together; the rows of one key in one range if asked."""
    places = [(path, start, stop) for path, start, stop in _places(paths, rows) if stop > start]
    if not places:
        return []
    row_bytes = _open(places[0][0]).shape[1] * 8
    total = sum(stop - start for _, start, stop in places)
    step = max(1, part_bytes // (SAMPLES * row_bytes))
    # one file at a time, as what is mapped counts as memory
    samples = np.concatenate([np.array(_open(path)[start:stop:step, :2]) for path, start, stop in places])
    if whole_keys or samples.shape[1] == 1:
        samples = np.column_stack([samples[:, 0], np.zeros(len(samples), np.uint64)])
    stand_for = np.concatenate([np.diff([*range(start, stop, step), stop]) for _, start, stop in places])
    order = np.lexsort(samples.T[::-1])
    before = np.cumsum(stand_for[order]) - stand_for[order]
    parts = -(-total * row_bytes // part_bytes)
    at = np.searchsorted(before, np.arange(1, parts) * total / parts)
    cuts = sorted(set(map(tuple, samples[order][at[at < len(order)]].tolist())))
    begins = [(rows.low, rows.from_second), *(cut for cut in cuts if cut > (rows.low, rows.from_second))]
    ends = [*(_before(cut) for cut in begins[1:]), (rows.high, rows.to_second)]
    return [Range(low, high, first, last) for (low, first), (high, last) in zip(begins, ends, strict=True)]


def _before(cut: tuple[int, int]) -> tuple[int, int]:
    key, second = cut
    return (key, second - 1) if second else (key - 1, MAX_KEY)


def _open(path: Path) -> Rows:
    rows: Rows = np.load(path, mmap_mode="r")
    return rows


def _places(paths: Sequence[Path], rows: Range) -> list[tuple[Path, int, int]]:
    """In each file the first row of the range and the one after its last; reads a few pages of it."""
    return [(path, *_find(_open(path), rows)) for path in paths]


def _find(table: Rows, rows: Range) -> tuple[int, int]:
    keys = table[:, 0]
    start = bisect_left(keys, np.uint64(rows.low))
    if rows.from_second:
        of_key = table[start : bisect_right(keys, np.uint64(rows.low)), 1]
        start += bisect_left(of_key, np.uint64(rows.from_second))
    stop = bisect_right(keys, np.uint64(rows.high))
    if rows.to_second < MAX_KEY:
        first = bisect_left(keys, np.uint64(rows.high))
        stop = first + bisect_right(table[first:stop, 1], np.uint64(rows.to_second))
    return start, stop


MAX_ROUNDS = 100
EDGES = "edges.npy"  # (n, 2): each edge from both of its ends
CHANGED = "changed.json"


def find_components(edges: list[Path], work: Path, part_bytes: int, map_tasks: MapTasks) -> list[Path]:
    """Files of (node, smallest node of its component) for all nodes but those, each once, and of the same reversed.

    edges: files of (node, node), each edge in both directions. `work`: a folder, where a killed search goes on.
    """
    for number in range(MAX_ROUNDS):
        larger = _take_step(_large_star, edges, work / f"round-{number}-larger", part_bytes, map_tasks)
        smaller = _take_step(
            _small_star, [part / EDGES for part in larger], work / f"round-{number}-smaller", part_bytes, map_tasks
        )
        edges = [part / EDGES for part in smaller]
        if not any(read_json(part / CHANGED) for part in [*larger, *smaller]):
            return edges
    raise StageError(f"{work}: components of copies have not settled in {MAX_ROUNDS} rounds; please report this")


def _take_step(
    function: Callable[[Any, Path], None], edges: list[Path], out: Path, part_bytes: int, map_tasks: MapTasks
) -> list[Path]:
    tasks = [((edges, keys), out / f"{i:05d}") for i, keys in enumerate(cut(edges, part_bytes))]
    map_tasks(function, tasks, label="clusters")
    return [part for _, part in tasks]


def _large_star(part: tuple[list[Path], Range], out: Path) -> None:
    """Large-star: edges in both directions in; (larger neighbour, smallest known node) out."""
    nodes, neighbours, smallest = _with_smallest(part)
    up = neighbours > nodes
    _write(out, np.stack([neighbours[up], smallest[up]], axis=1), changed=bool((smallest[up] < nodes[up]).any()))


def _small_star(part: tuple[list[Path], Range], out: Path) -> None:
    """Small-star: (node, smaller neighbour) in; edges in both directions, to the smallest of those, out."""
    nodes, neighbours, smallest = _with_smallest(part)
    others = neighbours != smallest
    down = np.concatenate(
        [np.stack([nodes[~others], smallest[~others]], 1), np.stack([neighbours[others], smallest[others]], 1)]
    )
    _write(out, np.concatenate([down, down[:, ::-1]]), changed=bool(others.any()))


def _with_smallest(part: tuple[list[Path], Range]) -> tuple[Rows, Rows, Rows]:
    """Nodes, their neighbours, and for each of these pairs the smallest of the node and all its neighbours."""
    tables, keys = part
    rows = unique_rows(read_range(tables, keys))
    starts = group_starts(rows)
    smallest = np.minimum(rows[starts, 0], rows[starts, 1])  # a node's first neighbour is its smallest
    if keys.from_second and rows[0, 0] == keys.low:  # and may be in the part before this one
        smallest[0] = min(read_head(tables, keys.low, 1)[0, 1], smallest[0])
    return rows[:, 0], rows[:, 1], np.repeat(smallest, np.diff(starts, append=len(rows)))


def _write(out: Path, edges: Rows, *, changed: bool) -> None:
    out.mkdir()
    write_rows(out / EDGES, edges)
    write_json(out / CHANGED, changed)
