from functools import partial
from pathlib import Path

import numpy as np
import pytest

from crawl2chat.parallel.map_shards import map_shards
from crawl2chat.refine.copies.shuffle import (
    MAX_KEY,
    Range,
    cut,
    find_components,
    in_this_process,
    read_head,
    read_parts,
    read_range,
    write_rows,
)

EVERYTHING = Range(0, MAX_KEY)


def components(edges: np.ndarray, folder: Path, part_bytes: int, files: int = 3, map_tasks=in_this_process) -> dict:
    both = np.concatenate([edges, edges[:, ::-1]]).astype(np.uint64)
    paths = [folder / f"{i}.npy" for i in range(files)]
    for i, path in enumerate(paths):
        write_rows(path, both[i::files])
    rows = read_range(find_components(paths, folder / "work", part_bytes, map_tasks), EVERYTHING)
    down = rows[rows[:, 0] > rows[:, 1]].tolist()
    assert len(down) == len(rows) / 2 == len({node for node, _ in down})
    return dict(down)


def in_memory(edges: np.ndarray) -> dict[int, int]:
    """Union-find, plainly."""
    parents = {node: node for node in edges.ravel().tolist()}

    def root(node: int) -> int:
        while parents[node] != node:
            node = parents[node]
        return node

    for a, b in edges.tolist():
        first, second = sorted((root(a), root(b)))
        parents[second] = first
    return {node: root(node) for node in parents if root(node) != node}


@pytest.mark.parametrize(("seed", "part_bytes"), [(0, 16), (0, 10**6), (1, 200), (2, 200), (3, 200), (3, 10**6)])
def test_components_are_those_of_union_find_whatever_the_parts(tmp_path, seed, part_bytes):
    random = np.random.default_rng(seed)
    edges = random.integers(0, 2**64, 60, np.uint64)[random.integers(0, 60, (20 + 15 * seed, 2))]
    edges = edges[edges[:, 0] != edges[:, 1]]
    assert components(edges, tmp_path, part_bytes) == in_memory(edges)


def test_a_long_chain_takes_few_rounds(tmp_path):
    order = np.random.default_rng(0).permutation(3000)
    found = components(np.stack([order[:-1], order[1:]], 1), tmp_path, 20_000)
    assert set(found.values()) == {0}
    assert len(found) == 2999
    assert len(list((tmp_path / "work").iterdir())) / 2 < 15


def test_a_star_and_no_edges_at_all(tmp_path):
    star = np.stack([np.full(500, 250), np.delete(np.arange(501), 250)], 1)
    assert components(star, tmp_path, 1000) == dict.fromkeys(range(1, 501), 0)
    assert find_components([], tmp_path / "none", 1000, in_this_process) == []


def test_processes_find_the_same_and_go_on_where_they_were(tmp_path):
    edges = np.random.default_rng(5).integers(0, 80, (50, 2))
    edges = edges[edges[:, 0] != edges[:, 1]]
    expected = in_memory(edges)
    assert components(edges, tmp_path, 800, map_tasks=partial(map_shards, workers=2)) == expected
    (tmp_path / "work" / "round-1-larger" / "00000" / "edges.npy").touch()
    assert components(edges, tmp_path, 800) == expected


@pytest.mark.parametrize("whole_keys", [True, False])
def test_parts_hold_every_row_once_and_about_as_much_as_asked(tmp_path, whole_keys):
    random = np.random.default_rng(0)
    rows = random.integers(0, 2**64, (5000, 2), np.uint64)
    rows[:2000, 0] = 7  # a key that many share
    paths = [tmp_path / f"{i}.npy" for i in range(4)]
    for i, path in enumerate(paths):
        write_rows(path, rows[i::4])
    parts = [read_range(paths, part) for part in cut(paths, 8000, whole_keys=whole_keys)]
    assert sorted(map(tuple, np.concatenate(parts).tolist())) == sorted(map(tuple, rows.tolist()))
    with_seven = [len(part) for part in parts if 7 in part[:, 0]]
    assert (len(with_seven) == 1) == whole_keys
    assert max(len(part) for part in parts if not whole_keys or 7 not in part[:, 0]) <= 700
    assert len(parts) >= 7


def test_a_range_can_be_read_in_parts(tmp_path):
    rows = np.stack(np.meshgrid(np.arange(20), np.arange(30)), 2).reshape(-1, 2).astype(np.uint64)
    write_rows(tmp_path / "a.npy", rows[::2])
    write_rows(tmp_path / "b.npy", rows[1::2])
    paths = [tmp_path / "a.npy", tmp_path / "b.npy"]
    some = Range(3, 8, 10, 4)
    parts = list(read_parts(paths, some, 320))
    expected = [row for row in sorted(map(tuple, rows.tolist())) if (3, 10) <= row <= (8, 4)]
    assert list(map(tuple, np.concatenate(parts).tolist())) == expected
    assert max(map(len, parts)) < 60
    assert read_head(paths, 5, 7).tolist() == [[5, i] for i in range(7)]
