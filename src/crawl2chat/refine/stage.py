"""The refine stage: pages (WARC) in, documents (Parquet) out, and a record of every page that is dropped."""

import importlib
import os
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from crawl2chat.crawl import list_warcs, read_warc
from crawl2chat.parallel.map_shards import Engine, engine_running, map_shards, split_cores
from crawl2chat.refine import funnel
from crawl2chat.refine.copies import copies, dedup
from crawl2chat.refine.copies.copies import Copies, Shard
from crawl2chat.refine.copies.lines import Repeated, drop_lines, find_repeated
from crawl2chat.refine.copies.shuffle import MapTasks, in_this_process
from crawl2chat.refine.pages import refine_pages
from crawl2chat.refine.quality.classify import load_classifier
from crawl2chat.refine.rules.decontaminate import load_questions
from crawl2chat.refine.rules.extra import FAILED_SHARE, filter_name, load_filter
from crawl2chat.refine.rules.urls import load_blocklists
from crawl2chat.refine.settings import DedupSettings, RefineSettings
from crawl2chat.refine.steps import KeptPage, Reject, step_names
from crawl2chat.refine.tables import (
    KEPT,
    MASKED,
    REJECTS,
    ROWS,
    SIGNED,
    TITLE,
    copy_row,
    document_row,
    emptied_row,
    low_quality_row,
    reject_row,
)
from crawl2chat.refine.text.extract import require_extractor
from crawl2chat.refine.text.language import require_languages
from crawl2chat.stages.figures import Figure
from crawl2chat.stages.files import AnyPath, StageError, read_json, write_json

SHARDS = "shards"  # what each WARC gave, and the work of deduplication; removed at the end
SELECTED = "selected"  # the same without what the classifier dropped, if there is one; removed too
COUNTS = "counts.json"  # in a shard's folder
FUNNEL = funnel.FUNNEL  # written when documents and rejects are complete


def refine(crawl: AnyPath, out: AnyPath, settings: RefineSettings) -> list[Figure]:
    """Refine the WARCs of a crawl stage, of a folder, or one WARC file.

    Leaves documents/ and rejects/ (Parquet, one part per WARC; every page and every fault is in exactly one of them)
    and funnel.json. A killed run goes on after the last WARC that was finished.
    Raises StageError if no WARC contains a page, with what they contain.
    """
    with engine_running(settings.engine):
        return _refine(Path(crawl), Path(out), settings)


def check_refine(settings: RefineSettings) -> None:
    """Raise StageError for a file, language or library that the settings name and that isn't there or can't be used.

    Reported here, before any work, and not by the first worker process that needs it.
    """
    require_extractor(settings.extractor)
    require_languages(settings.languages)
    load_blocklists(tuple(settings.blocklist))
    step_names(settings)
    for reference in settings.extra:
        load_filter(reference)
    load_questions(settings.decontaminate)
    if settings.classifier.model:
        load_classifier(settings.classifier.model)


def _refine(crawl: Path, out: Path, settings: RefineSettings) -> list[Figure]:
    began = time.monotonic()
    figures = []
    if not (out / FUNNEL).exists():
        warcs = [(path, warc_name(path, crawl)) for path in list_warcs(crawl)]
        shards = [out / SHARDS / f"{i:05d}" for i in range(len(warcs))]
        settings = with_files_of(crawl, settings)
        check_refine(settings)
        at_once, each = split_cores(settings.engine, settings.workers, len(warcs))
        todo = [shard for shard in shards if not shard.exists()]
        map_shards(
            partial(refine_warc, settings=settings, workers=each),
            list(zip(warcs, shards, strict=True)),
            label="refine",
            workers=at_once,
            engine=settings.engine,
            cores_each=each,
        )
        found = {name: read_json(shard / COUNTS) for (_, name), shard in zip(warcs, shards, strict=True)}
        check_filters(found.values(), settings)
        if all(counts["pages"] == counts["faults"] for counts in found.values()):
            raise StageError(f"refine: {funnel.why_no_pages(found)}")
        pages = sum(read_json(shard / COUNTS)["pages"] for shard in todo)
        figures.append(Figure("speed", pages / (time.monotonic() - began), "pages/s", count=pages))
        if settings.classifier.model:
            shards = keep_best(shards, out / SELECTED, settings.classifier.keep, at_once, settings.engine)
        write_json(out / FUNNEL, _deduplicate(shards, out, settings))
    for folder in (SHARDS, SELECTED):
        shutil.rmtree(out / folder, ignore_errors=True)
    table = funnel.read_funnel(out)
    if table["faults"]:
        print(f"refine: {funnel.faults(table)}; {out}/rejects says where", file=sys.stderr)
    if others := funnel.passed_over(table):
        print(f"refine: {others}", file=sys.stderr)
    for name in map(filter_name, settings.extra):
        dropped = next(step["dropped"] for step in table["steps"] if step["step"] == name)
        if "failed" in dropped:
            print(f"refine: {name} failed on {dropped['failed']:,} pages; {out}/rejects says how", file=sys.stderr)
    if not table["kept"]:
        print(f"refine: no page was kept ({funnel.reasons(table)}); {out}/rejects says why of each", file=sys.stderr)
    if (crawl / "ledger").is_dir():
        # By name, as scoring knows the made-up web and lies above this package; pages of the real web have no score.
        score = importlib.import_module("crawl2chat.evals.refine_score").score
        figures = [*score(crawl, out, sum(table["masked"].values())), *figures]
    return funnel.figures(table) + figures


def refine_warc(warc: tuple[str, str], out: Path, settings: RefineSettings, workers: int) -> None:
    """Refine one WARC (path, name in the results) into a folder: documents with signatures, rejects, counts."""
    path, name = warc
    out.mkdir(parents=True)
    passed: Counter[str] = Counter()
    pages = read_warc(path, max_record_bytes=settings.max_record_bytes, skipped=passed)
    results = refine_pages(pages, settings, workers)
    n_documents = n_rejects = n_faults = 0
    first_fault = ""
    filters = {filter_name(reference): FilterCounts() for reference in settings.extra}
    signed = SIGNED.append(TITLE) if settings.titles else SIGNED
    with (
        pq.ParquetWriter(out / "documents.parquet", signed, compression="zstd") as documents,
        pq.ParquetWriter(out / "rejects.parquet", REJECTS, compression="zstd") as rejects,
    ):
        for batch in _batches(results):
            kept = [document_row(result, name) for result in batch if isinstance(result, KeptPage)]
            dropped = [reject_row(result, name) for result in batch if isinstance(result, Reject)]
            documents.write_table(pa.Table.from_pylist(kept, signed))
            rejects.write_table(pa.Table.from_pylist(dropped, REJECTS))
            n_documents += len(kept)
            n_rejects += len(dropped)
            faults = [row["detail"] for row in dropped if row["step"] == "read"]
            n_faults += len(faults)
            first_fault = first_fault or next(iter(faults), "")
            count_filters(filters, batch, settings)
    counts = {"pages": n_documents + n_rejects, "faults": n_faults, "first_fault": first_fault, "passed": passed}
    counts |= {"filters": {name: vars(found) for name, found in filters.items()}}
    write_json(out / COUNTS, counts)


@dataclass
class FilterCounts:
    """How a filter of the user's fared: pages that reached it, those on which it failed, and the first traceback."""

    reached: int = 0
    failed: int = 0
    trace: str = ""


def count_filters(
    filters: dict[str, FilterCounts], results: Iterable[KeptPage | Reject], settings: RefineSettings
) -> None:
    """Add how the filters fared with these pages."""
    order = {name: i for i, name in enumerate(step_names(settings))}
    for name, found in filters.items():
        for result in results:
            found.reached += isinstance(result, KeptPage) or order[result.step] >= order[name]
            if isinstance(result, Reject) and (result.step, result.reason) == (name, "failed"):
                found.failed += 1
                found.trace = found.trace or f"on {result.url}: {result.detail}"


def check_filters(counts: Iterable[dict[str, Any]], settings: RefineSettings) -> None:
    """Raise StageError with the first traceback if a filter failed on most of the pages that reached it."""
    of_shards = [shard["filters"] for shard in counts]
    for reference in settings.extra:
        name = filter_name(reference)
        parts = [FilterCounts(**filters[name]) for filters in of_shards]
        reached, failed = sum(part.reached for part in parts), sum(part.failed for part in parts)
        if failed > FAILED_SHARE * reached:
            trace = next(part.trace for part in parts if part.trace).rstrip()
            raise StageError(
                f"refine.extra = {reference}: failed on {failed:,} of {reached:,} pages, first {trace}\n"
                "mend the filter and run the same command again"
            )


def with_files_of(crawl: Path, settings: RefineSettings) -> RefineSettings:
    """The settings with the files that the crawl brings, as the made-up web does; all are read.

    `blocklist.txt` has its invented hosts, and the ledger the questions that some of its pages leak.
    """
    hosts, leaked = crawl / "blocklist.txt", crawl / "ledger" / "leaked_questions.jsonl"
    blocklist = settings.blocklist + ([str(hosts)] if hosts.is_file() else [])
    has_some = leaked.is_file() and leaked.stat().st_size > 0  # a small web has no quiz
    against = settings.decontaminate.against + ([str(leaked)] if has_some else [])
    decontaminate = settings.decontaminate.model_copy(update={"against": against})
    too_short = load_questions(decontaminate).too_short
    if too_short:
        print(
            f"refine: {too_short} test questions are not looked for: they have fewer than "
            f"{decontaminate.min_words} words (refine.decontaminate.min_words)",
            file=sys.stderr,
        )
    return settings.model_copy(update={"blocklist": blocklist, "decontaminate": decontaminate})


def keep_best(shards: Sequence[Path], out: Path, keep: float, workers: int, engine: Engine) -> list[Path]:
    """Write each shard again into `out`, its documents below the classifier's threshold among its rejects.

    keep: share of all documents. The threshold is exact: memory holds 4 bytes per document. Documents of equal score
    are kept or dropped together. A killed run goes on with the shards that are left. Returns the new shards.
    """
    threshold = find_threshold(read_scores(shards), keep)
    selected = [out / shard.name for shard in shards]
    map_shards(
        partial(select_shard, threshold=threshold), list(zip(shards, selected, strict=True)), label="quality",
        workers=workers, engine=engine,
    )  # fmt: skip
    return selected


def read_scores(shards: Sequence[Path]) -> npt.NDArray[np.float32]:
    """(documents,) of all shards."""
    columns = [pq.read_table(shard / "documents.parquet", columns=["quality"])["quality"] for shard in shards]
    return np.concatenate([np.zeros(0, np.float32), *(column.to_numpy() for column in columns)])


def find_threshold(scores: npt.NDArray[np.float32], keep: float) -> float:
    """The score of the last document that belongs to the best `keep` of all; at least one is kept."""
    if not len(scores):
        return 0.0
    last = len(scores) - max(1, round(keep * len(scores)))
    return float(np.partition(scores, last)[last])


def select_shard(shard: Path, out: Path, threshold: float) -> None:
    """Copy a shard without its documents below the threshold, which become rejects that hold their score."""
    out.mkdir(parents=True)
    documents = pq.ParquetFile(shard / "documents.parquet")
    rejects = pq.ParquetFile(shard / "rejects.parquet")
    with (
        pq.ParquetWriter(out / "documents.parquet", documents.schema_arrow, compression="zstd") as kept,
        pq.ParquetWriter(out / "rejects.parquet", rejects.schema_arrow, compression="zstd") as dropped,
    ):
        for batch in rejects.iter_batches(ROWS):
            dropped.write_batch(batch)
        for batch in documents.iter_batches(ROWS):
            good = pc.greater_equal(batch["quality"], pa.scalar(threshold, pa.float32()))
            kept.write_batch(batch.filter(good))
            bad = batch.filter(pc.invert(good)).select(["url", "text", "quality", "place"]).to_pylist()
            dropped.write_table(
                pa.Table.from_pylist([low_quality_row(row, threshold) for row in bad], rejects.schema_arrow)
            )
    shutil.copyfile(shard / COUNTS, out / COUNTS)


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
    repeated = find_repeated(shards, found, work, settings.dedup, part_bytes, map_tasks)
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
        counts = read_json(path / COUNTS)
        dropped.update({(step, reason): count for step, reason, count in counts["dropped"]})
        sums.update(counts["sums"])
        masked.update(counts["masked"])
        passed.update(read_json(shard.folder / COUNTS)["passed"])
    return funnel.funnel(step_names(settings), sums["documents"], dropped, +masked, passed, sums["characters"]) | {
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
    has_titles = TITLE.name in pq.read_schema(shard.folder / copies.DOCUMENTS).names
    schema = KEPT.append(TITLE) if has_titles else KEPT
    with pq.ParquetWriter(out / "documents.parquet", schema, compression="zstd") as writer:
        place = shard.first
        for batch in shard.batches([*(name for name in schema.names if name != "copies"), *MASKED]):
            kept = []
            for i, row in enumerate(batch.to_pylist(), place):
                if i in dropped:
                    rejects.append(copy_row(row, dropped[i]))
                    continue
                if settings.lines != "off":
                    before = len(row["text"])
                    row["text"], n_lines = drop_lines(row["text"], seen, settings)
                    sums.update(lines_dropped=n_lines, line_characters_dropped=before - len(row["text"]))
                    if not row["text"]:
                        rejects.append(emptied_row(row, n_lines))
                        continue
                kept.append(row | {"copies": copied.get(i, 0)})
                masked.update({kind: row[kind] for kind in MASKED})
                sums.update(documents=1, characters=len(row["text"]))
            place += len(batch)
            writer.write_table(pa.Table.from_pylist(kept, schema))
    rejects.sort(key=lambda row: (row["place"]["offset"], row["place"]["within"]))
    table = pa.Table.from_pylist(rejects, REJECTS)
    pq.write_table(table, out / "rejects.parquet", compression="zstd", row_group_size=ROWS)
    reasons = Counter((row["step"], row["reason"]) for row in rejects)
    counts = {"dropped": [[*key, count] for key, count in sorted(reasons.items())], "sums": sums, "masked": masked}
    write_json(out / COUNTS, counts)


def warc_name(path: str, crawl: Path) -> str:
    """How results call a WARC: below the crawl's folder if it is there, so that the same run elsewhere is the same."""
    if "://" in path:
        return path
    folder = crawl if crawl.is_dir() else crawl.parent
    return Path(path).relative_to(folder).as_posix() if Path(path).is_relative_to(folder) else path


def _batches(items: Iterable[Any]) -> Iterator[list[Any]]:
    iterator = iter(items)
    while batch := list(islice(iterator, ROWS)):
        yield batch
