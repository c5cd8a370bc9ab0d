"""The refine stage: pages (WARC) in, documents (Parquet) out, and a record of every page that is dropped."""

import json
import os
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from crawl2chat.crawl import Place, list_warcs, read_warc
from crawl2chat.figures import Figure
from crawl2chat.refine import copies, dedup, funnel, lines
from crawl2chat.refine.copies import Copies, Copy, Shard
from crawl2chat.refine.extract import require_extractor
from crawl2chat.refine.lines import Repeated
from crawl2chat.refine.pages import Document, Reject, refine_pages
from crawl2chat.refine.settings import DedupSettings, RefineSettings
from crawl2chat.refine.shuffle import MapTasks, in_this_process
from crawl2chat.refine.urls import load_blocklists
from crawl2chat.run import write_json
from crawl2chat.shards import engine_running, map_shards, split_cores

SHARDS = "shards"  # what each WARC gave, and the work of deduplication; removed at the end
FUNNEL = "funnel.json"  # written when documents and rejects are complete
ROWS = 1000  # a row group
PLACE = pa.struct([("warc", pa.string()), ("offset", pa.int64()), ("within", pa.int64())])
DOCUMENTS = pa.schema(
    [
        ("id", pa.string()),
        ("url", pa.string()),
        ("text", pa.string()),
        ("language", pa.string()),
        ("language_score", pa.float32()),
        ("place", PLACE),
    ]
)
KEPT = DOCUMENTS.append(pa.field("copies", pa.int32()))  # documents that were dropped as copies of this one
SIGNED = pa.schema(
    [
        *DOCUMENTS,
        ("emails", pa.int32()),
        ("ips", pa.int32()),
        ("characters", pa.int64()),
        ("exact", pa.binary()),
        ("buckets", pa.binary()),
        ("low_bytes", pa.binary()),
    ],
    metadata={"signature_version": str(dedup.SIGNATURE_VERSION)},
)
REJECTS = pa.schema(
    [
        ("url", pa.string()),
        ("step", pa.string()),
        ("reason", pa.string()),
        ("value", pa.float64()),
        ("detail", pa.string()),
        ("copy_of", pa.string()),  # id of the document that stayed; it names the cluster too
        ("place", PLACE),
    ]
)


def refine(crawl: Path, out: Path, settings: RefineSettings) -> list[Figure]:
    """Refine the WARCs of a crawl stage, of a folder, or one WARC file.

    Leaves documents/ and rejects/ (Parquet, a part a WARC; every page and every fault is in exactly one of them)
    and funnel.json. A killed run goes on behind the last WARC that was finished.
    """
    with engine_running(settings.engine):
        return _refine(crawl, out, settings)


def _refine(crawl: Path, out: Path, settings: RefineSettings) -> list[Figure]:
    began = time.monotonic()
    figures = []
    if not (out / FUNNEL).exists():
        warcs = [(path, _name(path, crawl)) for path in list_warcs(crawl)]
        shards = [out / SHARDS / f"{i:05d}" for i in range(len(warcs))]
        blocklists = [path for path in (settings.blocklist, _blocklist_of(crawl)) if path]
        require_extractor(settings.extractor)
        load_blocklists(blocklists)  # a missing file is told now, not by a worker
        at_once, each = split_cores(settings.engine, settings.workers, len(warcs))
        todo = [shard for shard in shards if not shard.exists()]
        map_shards(
            partial(refine_warc, blocklists=blocklists, settings=settings, workers=each),
            list(zip(warcs, shards, strict=True)),
            label="refine",
            workers=at_once,
            engine=settings.engine,
            cores_each=each,
        )
        pages = sum(_read_counts(shard)["pages"] for shard in todo)
        figures.append(Figure("speed", pages / (time.monotonic() - began), "pages/s", count=pages))
        write_json(out / FUNNEL, _deduplicate(shards, out, settings))
    shutil.rmtree(out / SHARDS, ignore_errors=True)
    if not json.loads((out / FUNNEL).read_text(encoding="utf-8"))["kept"]:
        print(f"refine: no page was kept; {out}/rejects says why of each", file=sys.stderr)
    return funnel.figures(json.loads((out / FUNNEL).read_text(encoding="utf-8"))) + figures


def refine_warc(
    warc: tuple[str, str], out: Path, blocklists: list[str], settings: RefineSettings, workers: int
) -> None:
    """Refine one WARC (path, name in the results) into a folder: documents with signatures, rejects, counts."""
    path, name = warc
    out.mkdir(parents=True)
    passed: Counter[str] = Counter()
    pages = read_warc(path, max_record_bytes=settings.max_record_bytes, skipped=passed)
    results = refine_pages(pages, load_blocklists(blocklists), settings, workers)
    n_documents = n_rejects = 0
    with (
        pq.ParquetWriter(out / "documents.parquet", SIGNED, compression="zstd") as documents,
        pq.ParquetWriter(out / "rejects.parquet", REJECTS, compression="zstd") as rejects,
    ):
        for batch in _batches(results, ROWS):
            kept = [_document_row(result, name) for result in batch if isinstance(result, Document)]
            dropped = [_reject_row(result, name) for result in batch if isinstance(result, Reject)]
            documents.write_table(pa.Table.from_pylist(kept, SIGNED))
            rejects.write_table(pa.Table.from_pylist(dropped, REJECTS))
            n_documents += len(kept)
            n_rejects += len(dropped)
    write_json(out / "counts.json", {"pages": n_documents + n_rejects, "passed": passed})


def _blocklist_of(crawl: Path) -> str:
    """A crawl may bring a list of its own, as the fictional web does of its invented hosts."""
    file = crawl / "blocklist.txt"
    return str(file) if file.is_file() else ""


def _deduplicate(folders: list[Path], out: Path, settings: RefineSettings) -> dict[str, Any]:
    """Write each shard's documents but for copies, and its rejects with them. Returns the funnel."""
    shards = copies.open_shards(folders)
    part_bytes = int(settings.partition_mb * 2**20)
    # another size cuts elsewhere, and what a killed run left must not be mixed with it
    work = out / SHARDS / f"dedup-{part_bytes}"
    map_tasks: MapTasks = in_this_process
    if copies.keys_bytes(shards, settings.dedup) > part_bytes:
        map_tasks = partial(map_shards, workers=settings.workers or None, engine=settings.engine)
    found = copies.find_copies(shards, work, settings.dedup, part_bytes, map_tasks)
    repeated = lines.find_repeated(shards, found, work, settings.dedup, part_bytes, map_tasks)
    written = [(shard, work / "written" / shard.folder.name) for shard in shards]
    map_tasks(partial(write_shard, found=found, repeated=repeated, settings=settings.dedup), written, label="write")
    dropped: Counter[tuple[str, str]] = Counter()
    sums: Counter[str] = Counter()
    masked: Counter[str] = Counter()
    passed: Counter[str] = Counter()
    for shard, path in written:
        for table in ("documents", "rejects"):
            (out / table).mkdir(exist_ok=True)
            if (path / f"{table}.parquet").exists():  # else it was moved before a kill
                os.replace(path / f"{table}.parquet", out / table / f"part-{shard.folder.name}.parquet")
        counts = _read_counts(path)
        dropped.update({(step, reason): count for step, reason, count in counts["dropped"]})
        sums.update(counts["sums"])
        masked.update(counts["masked"])
        passed.update(_read_counts(shard.folder)["passed"])
    return funnel.funnel(sums["documents"], dropped, +masked, passed, sums["characters"]) | {
        "lines_dropped": sums["lines_dropped"],
        "line_characters_dropped": sums["line_characters_dropped"],
        "signature_version": dedup.SIGNATURE_VERSION,
    }


def write_shard(shard: Shard, out: Path, found: Copies, repeated: Repeated, settings: DedupSettings) -> None:
    """Documents that stay, rejects with the copies among them, and counts of a shard, into a folder."""
    dropped, copied = found.of(shard)
    seen = repeated.of(shard)
    rejects = pq.read_table(shard.folder / "rejects.parquet").to_pylist()
    masked: Counter[str] = Counter()
    sums: Counter[str] = Counter()
    out.mkdir(parents=True)
    with pq.ParquetWriter(out / "documents.parquet", KEPT, compression="zstd") as writer:
        place = shard.first
        for batch in shard.batches([*DOCUMENTS.names, "emails", "ips"]):
            kept = []
            for i, row in enumerate(batch.to_pylist(), place):
                if i in dropped:
                    rejects.append(_copy_row(row, dropped[i]))
                    continue
                if settings.lines != "off":
                    before = len(row["text"])
                    row["text"], n_lines = lines.drop_lines(row["text"], seen, settings)
                    sums.update(lines_dropped=n_lines, line_characters_dropped=before - len(row["text"]))
                    if not row["text"]:
                        rejects.append(_emptied_row(row, n_lines))
                        continue
                kept.append(row | {"copies": copied.get(i, 0)})
                masked.update(emails=row["emails"], ips=row["ips"])
                sums.update(documents=1, characters=len(row["text"]))
            place += len(batch)
            writer.write_table(pa.Table.from_pylist(kept, KEPT))
    rejects.sort(key=lambda row: (row["place"]["offset"], row["place"]["within"]))
    pq.write_table(pa.Table.from_pylist(rejects, REJECTS), out / "rejects.parquet", compression="zstd")
    reasons = Counter((row["step"], row["reason"]) for row in rejects)
    counts = {"dropped": [[*key, count] for key, count in sorted(reasons.items())], "sums": sums, "masked": masked}
    write_json(out / "counts.json", counts)


def _name(path: str, crawl: Path) -> str:
    """How results call a WARC: below the crawl's folder if it is there, so that the same run elsewhere is the same."""
    if "://" in path:
        return path
    folder = crawl if crawl.is_dir() else crawl.parent
    return Path(path).relative_to(folder).as_posix() if Path(path).is_relative_to(folder) else path


def document_id(url: str, place: Place) -> str:
    """32 hexadecimal digits, the same wherever and whenever this record of this WARC is refined."""
    return xxhash.xxh3_128_hexdigest(f"{url}\n{place.warc}\n{place.offset}\n{place.within}".encode())


def _document_row(document: Document, warc: str) -> dict[str, Any]:
    place = Place(warc, document.place.offset, document.place.within)
    signature = document.signature
    return {
        "id": document_id(document.url, place),
        "url": document.url,
        "text": document.text,
        "language": document.language,
        "language_score": document.language_score,
        "place": vars(place),
        "emails": document.emails,
        "ips": document.ips,
        "characters": len(document.text),
        "exact": signature.exact,
        "buckets": signature.buckets.tobytes(),
        "low_bytes": signature.low_bytes.tobytes(),
    }


def _reject_row(reject: Reject, warc: str) -> dict[str, Any]:
    return vars(reject) | {"place": vars(reject.place) | {"warc": warc}, "copy_of": None}


def _emptied_row(row: dict[str, Any], n_lines: int) -> dict[str, Any]:
    """What a page has, earlier pages have."""
    return {
        "url": row["url"],
        "step": "line_duplicates",
        "reason": "nothing_new",
        "value": n_lines,
        "detail": "",
        "copy_of": None,
        "place": row["place"],
    }


def _copy_row(row: dict[str, Any], copy: Copy) -> dict[str, Any]:
    return {
        "url": row["url"],
        "step": "exact_duplicates" if copy.exact else "near_duplicates",
        "reason": "copy",
        "value": None,
        "detail": copy.kept_url,
        "copy_of": copy.kept_id,
        "place": row["place"],
    }


def _batches(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def _read_counts(shard: Path) -> dict[str, Any]:
    counts: dict[str, Any] = json.loads((shard / "counts.json").read_text(encoding="utf-8"))
    return counts
