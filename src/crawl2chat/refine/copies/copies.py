"""Find the copies among all documents of a crawl, by way of files: memory holds a shard or a part, never the crawl.

keys     each group   exact hash, and each bucket's hash with what similarity is estimated from
pairs    each part    documents with the same hash, or the same bucket and alike
clusters in rounds    connected components of the pairs
kept     each group   of the documents that stay in place of others: id and address
dropped  each part    these, sorted by the document that is dropped
counts   each part    how many copies each document that stays has

A group is as many shards as have keys for a part. So there are about as many files as parts, and as every part looks
into every file, a month of Common Crawl takes 3,000 × 3,000 looks, not 3,000 × 90,000.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from crawl2chat.refine.copies import dedup
from crawl2chat.refine.copies.shuffle import (
    MapTasks,
    Range,
    Rows,
    cut,
    find_components,
    read_head,
    read_parts,
    read_range,
    write_rows,
)
from crawl2chat.refine.settings import DedupSettings
from crawl2chat.stages.files import StageError

DOCUMENTS = "documents.parquet"  # in a shard's folder
BATCH = 1000
HALF_HASH = 8  # bytes
PAIR_BYTES = 2**20  # at a time: one document may stay in place of many
STRING_COST = 25  # a row of `dropped` takes this many times the memory of a number
# A document is one number that sorts the better copy first: what its length lacks of the longest, then its place
# among all. Texts longer than 2^24 - 1 characters count as equally long.
PLACE_BITS = 40
MAX_LENGTH = 2 ** (64 - PLACE_BITS) - 1
DROPPED = pa.schema(
    [("place", pa.uint64()), ("kept_id", pa.string()), ("kept_url", pa.string()), ("exact", pa.bool_())]
)


@dataclass(frozen=True)
class Copy:
    """A document to drop: the id and address of the one that stays, and whether some document has its exact text."""

    kept_id: str
    kept_url: str
    exact: bool


@dataclass(frozen=True)
class Shard:
    """A folder with documents and their signatures; `first` is the place of its first document among all."""

    folder: Path
    first: int
    count: int

    @property
    def places(self) -> Range:
        return Range(self.first, self.first + self.count - 1)

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        yield from pq.ParquetFile(self.folder / DOCUMENTS).iter_batches(BATCH, columns=list(columns))


@dataclass(frozen=True)
class Group:
    """Shards in a row, looked at together."""

    shards: tuple[Shard, ...]

    @property
    def first(self) -> int:
        return self.shards[0].first

    @property
    def places(self) -> Range:
        return Range(self.first, self.shards[-1].places.high)

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        for shard in self.shards:
            yield from shard.batches(columns)


@dataclass(frozen=True)
class Copies:
    """What was found, in files by ranges of places. `of` reads what concerns one shard."""

    counts: list[tuple[Range, Path]]  # (place of the document that stays, number of its copies)
    dropped: list[tuple[Range, Path]]  # tables of DROPPED

    def of(self, shard: Shard) -> tuple[dict[int, Copy], dict[int, int]]:
        """Place → copy for each document to drop, and place → number of copies for each that stays in place of some."""
        if not shard.count:
            return {}, {}
        places = shard.places
        copies: dict[int, Copy] = {}
        for path in _overlapping(self.dropped, places):
            for row in _between(path, places).to_pylist():
                copies[row["place"]] = Copy(row["kept_id"], row["kept_url"], row["exact"])
        counts: Counter[int] = Counter()
        if counted := _overlapping(self.counts, places):
            for place, count in read_range(counted, places).tolist():
                counts[place] += count  # one document's copies may be in two parts
        return copies, dict(counts)


def _overlapping(files: Sequence[tuple[Range, Path]], places: Range) -> list[Path]:
    return [path for keys, path in files if keys.low <= places.high and places.low <= keys.high]


def open_shards(folders: Sequence[Path]) -> list[Shard]:
    """Raises StageError if signatures are of another version."""
    shards: list[Shard] = []
    first = 0
    for folder in folders:
        file = pq.ParquetFile(folder / DOCUMENTS)
        version = (file.schema_arrow.metadata or {}).get(b"signature_version", b"none").decode()
        if version != str(dedup.SIGNATURE_VERSION):
            raise StageError(
                f"{folder}: its signatures are of version {version}, not {dedup.SIGNATURE_VERSION}; "
                "refine again with --force"
            )
        shards.append(Shard(folder, first, file.metadata.num_rows))
        first += file.metadata.num_rows
    return shards


def find_copies(
    shards: Sequence[Shard], work: Path, settings: DedupSettings, part_bytes: int, map_tasks: MapTasks
) -> Copies:
    """Of each cluster the longest text stays, of equally long ones the first. Copies of copies are one cluster.

    Neither workers nor `part_bytes` change the result. A second call with the same `work` and `part_bytes` goes on
    where the first was killed.
    """
    groups = _group(shards, settings, part_bytes)
    keys = [(group, work / "keys" / f"{i:05d}") for i, group in enumerate(groups)]
    map_tasks(partial(write_keys, settings=settings), keys, label="keys")
    n_hashes, _ = _sizes(settings)
    # the second half of an exact hash must be equal, of the low bytes of a signature enough
    compare = {"exact": (HALF_HASH, 1.0), "near": (n_hashes, settings.min_similarity)}
    exact, near = (
        map_parts(
            partial(write_pairs, n_bytes=n_bytes, min_similarity=similarity),
            [path / f"{name}.npy" for _, path in keys],
            work / name,
            part_bytes,
            map_tasks,
            "pairs",
        )
        for name, (n_bytes, similarity) in compare.items()
    )
    edges = [path / "edges.npy" for path in [*exact, *near]]
    stars = find_components(edges, work / "clusters", part_bytes // 4, map_tasks)  # sorting them takes more memory
    if not stars:
        return Copies([], [])
    found = [(path, work / "found" / f"{i:05d}") for i, path in enumerate(stars)]
    map_tasks(write_found, found, label="clusters")
    by_kept = [path / "by_kept.npy" for _, path in found]
    kept = [((group, by_kept), work / "kept" / f"{i:05d}") for i, group in enumerate(groups)]
    map_tasks(write_kept, kept, label="kept")
    parts = cut([path / "by_copy.npy" for _, path in found], max(8, part_bytes // STRING_COST))
    tables, same = [path for _, path in kept], [path / "copies.npy" for path in exact]
    dropped = [((tables, same, places), work / "dropped" / f"{i:05d}") for i, places in enumerate(parts)]
    map_tasks(write_dropped, dropped, label="dropped")
    counted = cut(by_kept, part_bytes)
    counts = [((by_kept, places), work / "counts" / f"{i:05d}.npy") for i, places in enumerate(counted)]
    map_tasks(write_counts, counts, label="counts")
    return Copies(*(_by_range(ranges, tasks) for ranges, tasks in ((counted, counts), (parts, dropped))))


def _by_range(ranges: Sequence[Range], tasks: Sequence[tuple[Any, Path]]) -> list[tuple[Range, Path]]:
    return [(places, path) for places, (_, path) in zip(ranges, tasks, strict=True)]


def _group(shards: Sequence[Shard], settings: DedupSettings, part_bytes: int) -> list[Group]:
    """All shards that have documents, as many to a group as have keys for a part, and at least one."""
    groups: list[list[Shard]] = []
    for shard in shards:
        if not shard.count:
            continue
        if groups and keys_bytes([*groups[-1], shard], settings) <= part_bytes:
            groups[-1].append(shard)
        else:
            groups.append([shard])
    return [Group(tuple(of_group)) for of_group in groups]


def keys_bytes(shards: Sequence[Shard], settings: DedupSettings) -> int:
    """About what all keys of these documents take."""
    _, n_words = _sizes(settings)
    return sum(shard.count for shard in shards) * 8 * (3 + settings.buckets * (2 + n_words))


def _sizes(settings: DedupSettings) -> tuple[int, int]:
    """Hashes of a signature, and numbers of 64 bits that their low bytes fill."""
    n_hashes = settings.buckets * settings.hashes_per_bucket
    return n_hashes, -(-n_hashes // 8)


def map_parts(
    function: Callable[[Any, Path], None],
    tables: list[Path],
    out: Path,
    part_bytes: int,
    map_tasks: MapTasks,
    label: str,
    *,
    whole_keys: bool = False,
) -> list[Path]:
    """Call `function((tables, range of keys), output)` for every part of the tables; returns the outputs."""
    tasks = [
        ((tables, keys), out / f"{i:05d}") for i, keys in enumerate(cut(tables, part_bytes, whole_keys=whole_keys))
    ]
    map_tasks(function, tasks, label=label)
    return [path for _, path in tasks]


def write_keys(group: Group, out: Path, settings: DedupSettings) -> None:
    """exact.npy: (hash, document, its second half). near.npy: (bucket's hash, document, low bytes …) per bucket."""
    exact: list[Rows] = []
    near: list[Rows] = []
    n_hashes, n_words = _sizes(settings)
    place = group.first
    for batch in group.batches(["characters", "exact", "buckets", "low_bytes"]):
        documents = _number(np.asarray(batch["characters"]).astype(np.uint64), place)
        place += len(documents)
        if settings.exact:
            hashes = np.frombuffer(b"".join(batch["exact"].to_pylist()), np.uint64).reshape(-1, 2)
            exact.append(np.column_stack([hashes[:, 0], documents, hashes[:, 1]]))
        signed = np.asarray(pc.binary_length(batch["buckets"])) > 0  # texts without words have no signature
        if settings.near and signed.any():
            buckets = np.frombuffer(b"".join(batch["buckets"].to_pylist()), np.uint64).reshape(-1, settings.buckets)
            low = np.zeros((len(buckets), 8 * n_words), np.uint8)
            low[:, :n_hashes] = np.frombuffer(b"".join(batch["low_bytes"].to_pylist()), np.uint8).reshape(-1, n_hashes)
            rows = np.column_stack([documents[signed], low.view(np.uint64)])
            near += [np.column_stack([bucket, rows]) for bucket in buckets.T]
    out.mkdir()
    write_rows(out / "exact.npy", np.concatenate(exact) if exact else np.zeros((0, 3), np.uint64))
    write_rows(out / "near.npy", np.concatenate(near) if near else np.zeros((0, 2 + n_words), np.uint64))


def write_pairs(part: tuple[list[Path], Range], out: Path, n_bytes: int, min_similarity: float) -> None:
    """Documents that share a key and agree in enough of `n_bytes` bytes.

    edges.npy: (document, document), from both ends. copies.npy: (place,) of the worse one of each pair.
    """
    tables, keys = part
    rows = read_range(tables, keys)
    if keys.from_second:  # the first key's leaders may be in the parts before this one
        head = read_head(tables, keys.low, dedup.MAX_LEADERS)
        rows = np.concatenate([head[head[:, 1] < keys.from_second], rows])
    low_bytes = rows[:, 2:].view(np.uint8)[:, :n_bytes]
    first, second = dedup.alike(rows[:, 0].copy(), low_bytes, min_similarity)
    pairs = np.stack([rows[first, 1], rows[second, 1]], axis=1)
    out.mkdir()
    write_rows(out / "edges.npy", np.concatenate([pairs, pairs[:, ::-1]]))
    write_rows(out / "copies.npy", _place(pairs[:, 1:]))


def write_found(stars: Path, out: Path) -> None:
    """by_kept.npy: (place of the document that stays, place of its copy). by_copy.npy: (place of the copy,)."""
    rows: Rows = np.load(stars)
    rows = _place(rows[rows[:, 1] < rows[:, 0], ::-1])
    out.mkdir()
    write_rows(out / "by_kept.npy", rows)
    write_rows(out / "by_copy.npy", rows[:, 1:])


def write_kept(item: tuple[Group, list[Path]], out: Path) -> None:
    """A table of DROPPED (exact unknown) of the copies of this group's documents; each row group is sorted by place."""
    group, found = item
    names = pa.Table.from_batches(group.batches(["id", "url"]))
    with pq.ParquetWriter(out, DROPPED) as writer:
        for pairs in read_parts(found, group.places, PAIR_BYTES):
            pairs = pairs[np.argsort(pairs[:, 1])]
            kept = names.take(pa.array((pairs[:, 0] - np.uint64(group.first)).astype(np.int64)))
            columns = [pa.array(pairs[:, 1]), kept["id"], kept["url"], pa.nulls(len(pairs), pa.bool_())]
            writer.write_table(pa.table(columns, DROPPED))


def write_counts(part: tuple[list[Path], Range], out: Path) -> None:
    """(place of a document that stays, how many of its copies this part has)."""
    places, counts = np.unique(read_range(*part)[:, 0], return_counts=True)
    write_rows(out, np.stack([places, counts.astype(np.uint64)], axis=1))


def write_dropped(item: tuple[list[Path], list[Path], Range], out: Path) -> None:
    """A table of DROPPED of all copies in a range of places, sorted."""
    kept, exact, places = item
    table = pa.concat_tables([_between(path, places) for path in kept]).sort_by("place")
    same = np.isin(np.asarray(table["place"]), _column(exact, places))
    pq.write_table(table.set_column(3, DROPPED.field("exact"), pa.array(same)), out, row_group_size=BATCH)


def _between(table: Path, places: Range) -> pa.Table:
    """Rows of a Parquet file; row groups without any are skipped."""
    low, high = (pa.scalar(place, pa.uint64()) for place in (places.low, places.high))
    return pq.read_table(table, filters=(pc.field("place") >= low) & (pc.field("place") <= high))


def _column(tables: list[Path], keys: Range) -> Rows:
    return read_range(tables, keys)[:, 0] if tables else np.zeros(0, np.uint64)


def _number(characters: Rows, first: int) -> Rows:
    lacks = np.uint64(MAX_LENGTH) - np.minimum(characters, np.uint64(MAX_LENGTH))
    return (lacks << np.uint64(PLACE_BITS)) | np.arange(first, first + len(characters), dtype=np.uint64)


def _place(documents: npt.NDArray[np.uint64]) -> Rows:
    return documents & np.uint64(2**PLACE_BITS - 1)
