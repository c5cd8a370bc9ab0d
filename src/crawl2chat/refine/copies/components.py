"""Connected components of a graph of any size, a part of its edges in memory at a time.

Alternating stars (Kiveris et al. 2014, "Connected components in MapReduce and beyond"): every node reports
the smallest node it knows to its neighbours, first to the larger ones, then to the smaller ones, until each component
is a star around its smallest node. A component is never split or joined on the way, so how edges are cut into parts
changes neither the result nor the number of rounds, which grows with the logarithm of the longest path.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from crawl2chat.refine.copies.shuffle import (
    MapTasks,
    Range,
    Rows,
    cut,
    group_starts,
    read_head,
    read_range,
    unique_rows,
    write_rows,
)
from crawl2chat.stages.files import StageError, write_json

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
        if not any(json.loads((part / CHANGED).read_text(encoding="utf-8")) for part in [*larger, *smaller]):
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
