"""What refining will take: core-hours, bytes, memory and money.

By rates that are measured on a sample of pages, or taken from a finished run.
"""

import contextlib
import io
import math
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from crawl2chat.crawl import Page, list_warcs, read_warc
from crawl2chat.crawl.settings import CrawlSettings
from crawl2chat.plan.table import Row, as_bytes, as_count, as_number, as_time
from crawl2chat.refine.copies.copies import DOCUMENTS, find_copies, keys_bytes, open_shards
from crawl2chat.refine.copies.dedup import SIGNATURE_VERSION, sign
from crawl2chat.refine.copies.shuffle import in_this_process
from crawl2chat.refine.documents import read_texts
from crawl2chat.refine.funnel import read_funnel
from crawl2chat.refine.settings import DedupSettings, RefineSettings
from crawl2chat.refine.stage import refine
from crawl2chat.refine.steps import DEDUP_STEPS
from crawl2chat.stages.files import StageError
from crawl2chat.stages.stage import read_manifest
from crawl2chat.tinyweb import TinywebSettings, write_tinyweb

MONTH_WARCS = 90_000  # of a monthly Common Crawl
WARC_PAGES = 33_000  # in one of its WARCs
WARC_BYTES = 1e9
SAMPLE_PAGES = 1500  # from the beginning of the WARC: they lie there in random order
SIGNATURES = 10_000  # compared with each other
MIN_PAGES = 50  # fewer say nothing
# What made-up pages can't say about real ones:
ASSUMED_KEPT = 0.15  # of the pages, one language, before copies are dropped
ASSUMED_CHARACTERS = 3000  # per document, as in FineWeb


@dataclass(frozen=True)
class Rates:
    """Core-seconds per page, where reading is for pages of `warc_bytes`; shares are of the pages."""

    measured_on: str
    pages: int
    start: float  # core-seconds per WARC before its first page
    steps: dict[str, float]  # core-seconds per page
    warc_bytes: float  # per page, compressed
    signed: float  # share that is compared with all others
    kept: float  # share that stays
    characters: float  # per kept document
    document_bytes: float  # per kept document, as written
    reject_bytes: float  # per dropped page, as written
    memory: int | None  # bytes, of the largest process
    fictional: bool = False


def shuffle_bytes(signed: float, settings: DedupSettings) -> float:
    """Return the bytes that deduplication sorts by key: an exact hash and, per bucket, its hash and low bytes."""
    exact = 8 * 3 if settings.exact else 0
    low_bytes = 8 * math.ceil(settings.buckets * settings.hashes_per_bucket / 8)
    near = settings.buckets * (8 + 8 + low_bytes) if settings.near else 0
    return signed * (exact + near)


def refining_rows(
    crawl: CrawlSettings, settings: RefineSettings, rates: Rates, cores: int, price: float
) -> Iterator[Row]:
    """cores: number that refine will have; price: dollars per core and hour."""
    warcs, size, how = _size_of_crawl(crawl)
    page_bytes = WARC_BYTES / WARC_PAGES if crawl.source == "commoncrawl" else rates.warc_bytes
    pages = size / page_bytes
    signed, kept, characters = rates.signed, rates.kept, rates.characters
    if rates.fictional:
        signed, kept, characters = ASSUMED_KEPT, ASSUMED_KEPT, ASSUMED_CHARACTERS
    document_bytes = rates.document_bytes * characters / max(1.0, rates.characters)
    # reading takes equally long per byte everywhere, comparing per document; anything else goes by pages
    scale = {"read": page_bytes / max(1.0, rates.warc_bytes), "deduplicate": signed / max(1e-9, rates.signed)}
    hours = {name: pages * seconds * scale.get(name, 1) / 3600 for name, seconds in rates.steps.items()}
    hours["start processes"] = warcs * rates.start / 3600
    total = sum(hours.values())
    shuffled = shuffle_bytes(pages * signed, settings.dedup)
    part = settings.partition_mb * 2**20
    yield (
        "measured on",
        "",
        rates.measured_on + ("; give a WARC of the crawl (--warc) for better rates" if rates.fictional else ""),
    )
    yield "files", f"{warcs:,}", how
    yield "pages", as_count(pages), f"assumed: {page_bytes / 1000:.1f} kB each" if crawl.source == "commoncrawl" else ""
    yield "bytes read", as_bytes(size), ""
    for name, value in hours.items():
        yield f"core-hours: {name}", as_number(value), f"{3.6e6 * value / pages:.2f} ms per page"
    yield "core-hours", as_number(total), ""
    assumed = f"assumed: {kept:.0%} of the pages" if rates.fictional else f"{kept:.1%} of the pages"
    yield "documents kept", as_count(pages * kept), assumed
    yield (
        "characters kept",
        as_count(pages * kept * characters),
        f"{'assumed: ' * rates.fictional}{characters:,.0f} each",
    )
    written = pages * (kept * document_bytes + (1 - kept) * rates.reject_bytes)
    yield "bytes written", as_bytes(written), "documents, and one line per dropped page"
    yield "shuffle", as_bytes(shuffled), "signatures, through files in the run's folder"
    yield "partitions", as_number(max(1, math.ceil(shuffled / part))), f"of {settings.partition_mb:g} MB"
    if rates.memory:
        most = max(2 * rates.memory, rates.memory + 3 * part)
        yield (
            "memory per core",
            as_bytes(most),
            "a reader and a worker, or a partition being sorted; whatever the crawl's size",
        )
    yield "time", as_time(total / cores), f"on {cores:,} cores that are always busy (--cores)"
    yield "network", f"{as_bytes(size * cores / total / 3600)}/s", "to keep them busy"
    yield ("cost", f"${total * price:,.2f}", f"at ${price:g} per core-hour, without storage and traffic (--core-price)")


def _size_of_crawl(crawl: CrawlSettings) -> tuple[int, float, str]:
    """Return the number of WARCs, their bytes, and how these are known."""
    if crawl.source == "warc":
        from crawl2chat.crawl.stage import find_warcs

        sizes = [warc.get("bytes") for warc in find_warcs(crawl)]
        known = [size for size in sizes if size is not None]
        remote = len(sizes) - len(known)
        return len(sizes), sum(known) + remote * WARC_BYTES, f"assumed: 1 GB for each of {remote}" if remote else ""
    wanted = len(crawl.commoncrawl.paths) or crawl.commoncrawl.n_warcs
    how = "assumed: 1 GB each" if wanted else "assumed: a month of Common Crawl, 1 GB each"
    return wanted or MONTH_WARCS, (wanted or MONTH_WARCS) * WARC_BYTES, how


def measure(warc: Path | None, settings: RefineSettings) -> Rates:
    """Refine the first pages of a WARC, or of a small fictional web, with one worker, and see what it took.

    Processor time is counted, so that a busy machine gives nearly the same. Raises StageError for too few pages.
    """
    settings = settings.model_copy(update={"engine": "local", "workers": 1})
    with tempfile.TemporaryDirectory(prefix="crawl2chat-plan-") as name, contextlib.redirect_stderr(io.StringIO()):
        folder = Path(name)
        if warc is None:
            write_tinyweb(folder / "web", 1, TinywebSettings())
        source = warc or Path(list_warcs(folder / "web")[0])
        if not source.is_file():
            raise StageError(f"--warc {source}: there is no such file; expected a WARC")
        sample, one_page, pages, read_seconds = _cut(source, folder, settings)
        start = _refine_seconds(one_page, folder / "one", settings)
        seconds = _refine_seconds(sample, folder / "out", settings) - start
        rates = _of_folder(folder / "out", pages)
        signed = rates[0] * pages * _sign_seconds(folder / "out", settings.dedup)
        compared = rates[0] * pages * _compare_seconds(folder, settings.dedup)
        steps = {
            "read": read_seconds / pages,
            "extract and filter": max(0.0, seconds - read_seconds - signed) / pages,
            "deduplicate": (signed + compared) / pages,
        }
        return Rates(
            f"the first {pages:,} pages of {source}" if warc else f"{pages:,} pages of a fictional web",
            pages, start, steps, sample.stat().st_size / pages, *rates, memory=_peak_bytes(), fictional=warc is None,
        )  # fmt: skip


def rates_of_run(run: Path) -> Rates:
    """Return the rates of a finished run: its refine stage's time on all cores that it had, for all steps together."""
    manifest = read_manifest(run / "refine")
    if not manifest:
        raise StageError(f"--rates {run}: has no finished refine stage")
    how = manifest.machine["settings"]
    if how.get("engine") == "ray":
        raise StageError(f"--rates {run}: it was refined on Ray, over cores that its manifest does not know")
    funnel = read_funnel(run / "refine")
    pages = funnel["pages"] + funnel["faults"]
    if pages < MIN_PAGES:
        raise StageError(f"--rates {run}: {pages} pages are too few to go by; expected {MIN_PAGES}")
    warcs = [Path(place) for place in list_warcs(run / "crawl") if "://" not in place]
    size = sum(path.stat().st_size for path in warcs) / pages
    seconds = manifest.seconds * (how["workers"] or manifest.machine["cores"])
    return Rates(
        f"{pages:,} pages of {run}", pages, 0.0, {"read, filter, deduplicate": seconds / pages}, size,
        *_of_folder(run / "refine", pages), memory=None,
    )  # fmt: skip


def _cut(warc: Path, folder: Path, settings: RefineSettings) -> tuple[Path, Path, int, float]:
    """The WARC up to the sample's last page, up to its first page, how many pages, and the time to read them."""
    began = time.process_time()
    places = []
    for page in read_warc(str(warc), max_record_bytes=settings.max_record_bytes):
        if isinstance(page, Page):
            places.append(page.place)
        if len(places) > SAMPLE_PAGES:
            break
    seconds = time.process_time() - began
    if len(places) < MIN_PAGES:
        raise StageError(f"{warc}: {len(places)} pages are too few to go by; expected {MIN_PAGES} or more")
    if places[1].offset == 0:
        raise StageError(f"{warc}: all its records are in one gzip member, so that no sample can be cut from it")
    sample, one_page = folder / f"sample-{warc.name}", folder / f"one-{warc.name}"
    pages = min(len(places), SAMPLE_PAGES)
    _copy_beginning(warc, sample, places[SAMPLE_PAGES].offset if len(places) > SAMPLE_PAGES else warc.stat().st_size)
    _copy_beginning(warc, one_page, places[1].offset)
    return sample, one_page, pages, seconds


def _copy_beginning(source: Path, target: Path, size: int) -> None:
    with open(source, "rb") as read, open(target, "wb") as write:
        while size > 0 and (piece := read.read(min(size, 1 << 20))):
            write.write(piece)
            size -= len(piece)


def _refine_seconds(warc: Path, out: Path, settings: RefineSettings) -> float:
    """Refine, and return the processor time of this process and all that it starts."""
    began = _processor_seconds()
    out.mkdir()
    refine(warc, out, settings)
    return _processor_seconds() - began


def _sign_seconds(out: Path, settings: DedupSettings) -> float:
    """Return the seconds to sign one of the documents."""
    texts = list(read_texts(out))
    began = time.process_time()
    for text in texts:
        sign(text, settings)
    return (time.process_time() - began) / max(1, len(texts))


def _compare_seconds(folder: Path, settings: DedupSettings) -> float:
    """Return the seconds per document to find copies among them: through files and parts, as among many."""
    random = np.random.default_rng(0)
    low_bytes = random.integers(0, 256, (SIGNATURES, settings.buckets * settings.hashes_per_bucket), np.uint8)
    table = {
        "id": [f"{i:032x}" for i in range(SIGNATURES)],
        "url": ["https://example.org/"] * SIGNATURES,
        "characters": np.full(SIGNATURES, ASSUMED_CHARACTERS),
        "exact": [row.tobytes() for row in random.integers(0, 2**63, (SIGNATURES, 2), np.uint64)],
        "buckets": [row.tobytes() for row in random.integers(0, 2**63, (SIGNATURES, settings.buckets), np.uint64)],
        "low_bytes": [row.tobytes() for row in low_bytes],
    }
    shard = folder / "signatures"
    shard.mkdir()
    metadata = {"signature_version": str(SIGNATURE_VERSION)}
    pq.write_table(pa.table(table).replace_schema_metadata(metadata), shard / DOCUMENTS)
    began = time.process_time()
    shards = open_shards([shard])
    find_copies(shards, folder / "work", settings, keys_bytes(shards, settings) // 8, in_this_process)
    return (time.process_time() - began) / SIGNATURES


def _processor_seconds() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _peak_bytes() -> int:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit


def _of_folder(out: Path, pages: int) -> tuple[float, float, float, float, float]:
    """Return signed, kept, characters, document_bytes, reject_bytes (see `Rates`) of a refine stage's folder."""
    funnel = read_funnel(out)
    kept = funnel["kept"]
    copies = sum(step["in"] - step["out"] for step in funnel["steps"] if step["step"] in DEDUP_STEPS)
    return (
        (kept + copies) / pages,
        kept / pages,
        funnel["characters_kept"] / max(1, kept),
        _size(out / "documents") / max(1, kept),
        _size(out / "rejects") / max(1, pages - kept),
    )


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())
