"""The refine stage: pages (WARC) in, documents (Parquet) out, and a record of every page that is dropped."""

import json
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from crawl2chat.crawl import Place, list_warcs, read_warc
from crawl2chat.figures import Figure
from crawl2chat.refine import dedup, funnel
from crawl2chat.refine.pages import SNIPPET_CHARS, Document, Reject, refine_pages
from crawl2chat.refine.score import score
from crawl2chat.refine.settings import DedupSettings, RefineSettings
from crawl2chat.refine.urls import load_blocklists
from crawl2chat.run import replacing, write_json
from crawl2chat.shards import cores, map_shards

SHARDS = "shards"  # what each WARC gave, before deduplication; removed at the end
FUNNEL = funnel.FUNNEL  # written when documents and rejects are complete
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
SIGNED = pa.schema(
    [
        *DOCUMENTS,
        ("emails", pa.int32()),
        ("ips", pa.int32()),
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
        ("snippet", pa.string()),  # the beginning of the text that was dropped, masked; "" where there was none
        ("copy_of", pa.string()),  # id of the document that stayed; it names the cluster too
        ("place", PLACE),
    ]
)


def refine(crawl: Path, out: Path, settings: RefineSettings) -> list[Figure]:
    """Refine the WARCs of a crawl stage, of a folder, or one WARC file.

    Leaves documents/ and rejects/ (Parquet, a part a WARC; every page and every fault is in exactly one of them)
    and funnel.json. A killed run goes on behind the last WARC that was finished.
    """
    began = time.monotonic()
    figures = []
    if not (out / FUNNEL).exists():
        warcs = [(path, warc_name(path, crawl)) for path in list_warcs(crawl)]
        shards = [out / SHARDS / f"{i:05d}" for i in range(len(warcs))]
        blocklists = [path for path in (settings.blocklist, blocklist_of(crawl)) if path]
        load_blocklists(blocklists)  # a missing file is told now, not by a worker
        workers = settings.workers or cores()
        at_once = min(workers, len(warcs))
        todo = [shard for shard in shards if not shard.exists()]
        map_shards(
            partial(refine_warc, blocklists=blocklists, settings=settings, workers=workers // at_once),
            list(zip(warcs, shards, strict=True)),
            label="refine",
            workers=at_once,
        )
        pages = sum(_read_counts(shard)["pages"] for shard in todo)
        figures.append(Figure("speed", pages / (time.monotonic() - began), "pages/s", count=pages))
        write_json(out / FUNNEL, _deduplicate(shards, out, settings.dedup))
    shutil.rmtree(out / SHARDS, ignore_errors=True)
    table = funnel.read_funnel(out)
    if not table["kept"]:
        print(f"refine: no page was kept; {out}/rejects says why of each", file=sys.stderr)
    return funnel.figures(table) + score(crawl, out, sum(table["masked"].values())) + figures


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


def blocklist_of(crawl: Path) -> str:
    """A crawl may bring a list of its own, as the fictional web does of its invented hosts."""
    file = crawl / "blocklist.txt"
    return str(file) if file.is_file() else ""


def _deduplicate(shards: list[Path], out: Path, settings: DedupSettings) -> dict[str, Any]:
    """Write each shard's documents but for copies, and its rejects with them. Returns the funnel."""
    columns = ["id", "url", "text", "exact", "buckets", "low_bytes"]
    ids: list[str] = []
    urls: list[str] = []
    lengths: list[int] = []
    exact: list[bytes] = []
    buckets: list[bytes] = []
    low_bytes: list[bytes] = []
    for shard in shards:
        for batch in pq.ParquetFile(shard / "documents.parquet").iter_batches(ROWS, columns=columns):
            ids += batch["id"].to_pylist()
            urls += batch["url"].to_pylist()
            lengths += [len(text) for text in batch["text"].to_pylist()]
            exact += batch["exact"].to_pylist()
            buckets += batch["buckets"].to_pylist()
            low_bytes += batch["low_bytes"].to_pylist()
    n_hashes = settings.buckets * settings.hashes_per_bucket
    copies = dedup.find_copies(
        exact, _rows(buckets, settings.buckets, np.uint64), _rows(low_bytes, n_hashes, np.uint8), lengths, settings
    )
    dropped: Counter[tuple[str, str]] = Counter()
    masked: Counter[str] = Counter()
    passed: Counter[str] = Counter()
    characters = sum(length for i, length in enumerate(lengths) if i not in copies)
    begin = 0  # of the shard's documents among all
    for shard in shards:
        signed = pq.ParquetFile(shard / "documents.parquet")
        rejects = pq.read_table(shard / "rejects.parquet").to_pylist()
        part = f"part-{shard.name}.parquet"
        with (
            replacing(out / "documents" / part) as path,
            pq.ParquetWriter(path, DOCUMENTS, compression="zstd") as writer,
        ):
            for batch in signed.iter_batches(ROWS):
                rows = batch.to_pylist()
                for i, row in enumerate(rows, begin):
                    if i in copies:
                        kept = copies[i].kept
                        step = "exact_duplicates" if copies[i].exact else "near_duplicates"
                        rejects.append(_copy_row(row, step, ids[kept], urls[kept]))
                    else:
                        masked += Counter(emails=row["emails"], ips=row["ips"])
                table = pa.Table.from_pylist([row for i, row in enumerate(rows, begin) if i not in copies], DOCUMENTS)
                writer.write_table(table)
                begin += len(rows)
        rejects.sort(key=lambda row: (row["place"]["offset"], row["place"]["within"]))
        with replacing(out / "rejects" / part) as path:
            pq.write_table(pa.Table.from_pylist(rejects, REJECTS), path, compression="zstd")
        dropped.update((row["step"], row["reason"]) for row in rejects)
        passed.update(_read_counts(shard)["passed"])
    return funnel.funnel(len(ids) - len(copies), dropped, masked, passed, characters)


def warc_name(path: str, crawl: Path) -> str:
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
        "exact": signature.exact,
        "buckets": signature.buckets.tobytes(),
        "low_bytes": signature.low_bytes.tobytes(),
    }


def _reject_row(reject: Reject, warc: str) -> dict[str, Any]:
    return vars(reject) | {"place": vars(reject.place) | {"warc": warc}, "copy_of": None}


def _copy_row(row: dict[str, Any], step: str, kept_id: str, kept_url: str) -> dict[str, Any]:
    return {
        "url": row["url"],
        "step": step,
        "reason": "copy",
        "value": None,
        "detail": kept_url,
        "snippet": " ".join(row["text"][: 2 * SNIPPET_CHARS].split())[:SNIPPET_CHARS],  # masked by now
        "copy_of": kept_id,
        "place": row["place"],
    }


def _rows(parts: list[bytes], width: int, dtype: Any) -> Any:
    """(texts, width) from bytes; zeros where a text has no signature."""
    rows = np.zeros((len(parts), width), dtype)
    for i, part in enumerate(parts):
        if part:
            rows[i] = np.frombuffer(part, dtype)
    return rows


def _batches(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def _read_counts(shard: Path) -> dict[str, Any]:
    counts: dict[str, Any] = json.loads((shard / "counts.json").read_text(encoding="utf-8"))
    return counts
