"""Drop lines or paragraphs that an earlier document has already, as CCNet, C4 and Dolma do.

They are found after the copies, among the documents that stay: a page that is dropped must not take its lines from one
that is kept, and pages would be less alike once the lines that they share were gone from some of them.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import xxhash

from crawl2chat.refine.copies.copies import Copies, Shard, map_parts
from crawl2chat.refine.copies.shuffle import MapTasks, Range, group_starts, read_range, write_rows
from crawl2chat.refine.settings import DedupSettings

TOO_SHORT = 0  # in place of the hash of a line too short to count
SEPARATORS = {"line": "\n", "paragraph": "\n\n"}


@dataclass(frozen=True)
class Repeated:
    """What was found, in files of (place of a document, hash): its shard is not the first that has this line."""

    earlier: list[Path] = field(default_factory=list)

    def of(self, shard: Shard) -> set[int]:
        """Hashes of lines that documents of earlier shards have."""
        if not self.earlier or not shard.count:
            return set()
        return set(read_range(self.earlier, shard.places)[:, 1].tolist())


def find_repeated(
    shards: Sequence[Shard], found: Copies, work: Path, settings: DedupSettings, part_bytes: int, map_tasks: MapTasks
) -> Repeated:
    """Lines of more than one shard, copies left out. Neither workers nor `part_bytes` change the result."""
    if settings.lines == "off":
        return Repeated()
    keys = [(shard, work / "lines" / shard.folder.name) for shard in shards if shard.count]
    map_tasks(partial(write_line_keys, found=found, settings=settings), keys, label="lines")
    earlier = map_parts(
        write_earlier, [path for _, path in keys], work / "earlier", part_bytes, map_tasks, "lines", whole_keys=True
    )
    return Repeated(earlier)


def write_line_keys(shard: Shard, out: Path, found: Copies, settings: DedupSettings) -> None:
    """(hash, place of the first document that has the line), each line of the shard once."""
    dropped, _ = found.of(shard)
    first: dict[int, int] = {}
    place = shard.first
    for batch in shard.batches(["text"]):
        for i, text in enumerate(batch["text"].to_pylist(), place):
            if i not in dropped:
                for _, number in _pieces(text, settings):
                    first.setdefault(number, i)
        place += len(batch)
    first.pop(TOO_SHORT, None)
    write_rows(out, np.array(list(first.items()), np.uint64).reshape(-1, 2))


def write_earlier(part: tuple[list[Path], Range], out: Path) -> None:
    """(place, hash) of each line but where it is first."""
    rows = read_range(*part)
    write_rows(out, np.delete(rows, group_starts(rows), axis=0)[:, ::-1])


def drop_lines(text: str, seen: set[int], settings: DedupSettings) -> tuple[str, int]:
    """The text without lines whose hash was `seen`, and how many they are; adds its own to `seen`.

    What a text repeats of itself stays: that is for the repetition rules to judge.
    """
    pieces = list(_pieces(text, settings))
    kept = [piece for piece, number in pieces if number not in seen]
    seen.update(number for _, number in pieces if number != TOO_SHORT)
    if len(kept) == len(pieces):
        return text, 0
    joined = SEPARATORS[settings.lines].join(kept)
    return re.sub(r"\n{3,}", "\n\n", joined).strip(), len(pieces) - len(kept)


def _pieces(text: str, settings: DedupSettings) -> Iterator[tuple[str, int]]:
    for piece in text.split(SEPARATORS[settings.lines]):
        plain = " ".join(piece.lower().split())
        yield piece, xxhash.xxh3_64_intdigest(plain.encode()) if len(plain) >= settings.min_line_chars else TOO_SHORT
