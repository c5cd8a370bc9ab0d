"""What refining will take: core-hours, bytes, memory and money."""

import math
from collections.abc import Iterator

from crawl2chat.crawl.settings import CrawlSettings
from crawl2chat.plan.refining_rates import ASSUMED_CHARACTERS, ASSUMED_KEPT, Rates
from crawl2chat.plan.rows import Row, as_bytes, as_count, as_number
from crawl2chat.refine.settings import DedupSettings, RefineSettings

MONTH_WARCS = 90_000  # of a monthly Common Crawl
WARC_PAGES = 33_000  # in one of its WARCs
WARC_BYTES = 1e9


def shuffle_bytes(signed: float, settings: DedupSettings) -> float:
    """What deduplication writes and groups by key: an exact hash and, a bucket, its hash and the low bytes."""
    exact = 8 * 3 if settings.exact else 0
    low_bytes = 8 * math.ceil(settings.buckets * settings.hashes_per_bucket / 8)
    near = settings.buckets * (8 + 8 + low_bytes) if settings.near else 0
    return signed * (exact + near)


def refining_rows(
    crawl: CrawlSettings, settings: RefineSettings, rates: Rates, cores: int, price: float
) -> Iterator[Row]:
    """cores: that refine will have; price: dollars of a core for an hour."""
    warcs, size, how = _size_of_crawl(crawl)
    page_bytes = WARC_BYTES / WARC_PAGES if crawl.source == "commoncrawl" else rates.warc_bytes
    pages = size / page_bytes
    signed, kept, characters = rates.signed, rates.kept, rates.characters
    if rates.fictional:
        signed, kept, characters = ASSUMED_KEPT, ASSUMED_KEPT, ASSUMED_CHARACTERS
    document_bytes = rates.document_bytes * characters / max(1.0, rates.characters)
    # a byte takes as long to read anywhere, a document as long to compare; anything else goes by pages
    scale = {"read": page_bytes / max(1.0, rates.warc_bytes), "deduplicate": signed / max(1e-9, rates.signed)}
    hours = {name: pages * seconds * scale.get(name, 1) / 3600 for name, seconds in rates.steps.items()}
    hours["start processes"] = warcs * rates.start / 3600
    total = sum(hours.values())
    shuffled = shuffle_bytes(pages * signed, settings.dedup)
    part = settings.partition_mb * 2**20
    yield (
        "measured on",
        "",
        rates.measured_on + ("; a WARC of the crawl (--warc) says more" if rates.fictional else ""),
    )
    yield "files", f"{warcs:,}", how
    yield "pages", as_count(pages), f"assumed: {page_bytes / 1000:.1f} kB each" if crawl.source == "commoncrawl" else ""
    yield "bytes read", as_bytes(size), ""
    for name, value in hours.items():
        yield f"core-hours: {name}", as_number(value), f"{3.6e6 * value / pages:.2f} ms a page"
    yield "core-hours", as_number(total), ""
    assumed = f"assumed: {kept:.0%} of the pages" if rates.fictional else f"{kept:.1%} of the pages"
    yield "documents kept", as_count(pages * kept), assumed
    yield (
        "characters kept",
        as_count(pages * kept * characters),
        f"{'assumed: ' * rates.fictional}{characters:,.0f} each",
    )
    written = pages * (kept * document_bytes + (1 - kept) * rates.reject_bytes)
    yield "bytes written", as_bytes(written), "documents, and a line on every page that is dropped"
    yield "shuffle", as_bytes(shuffled), "signatures, through files in the run's folder"
    yield "partitions", as_number(max(1, math.ceil(shuffled / part))), f"of {settings.partition_mb:g} MB"
    if rates.memory:
        most = max(2 * rates.memory, rates.memory + 3 * part)
        yield (
            "memory a core",
            as_bytes(most),
            "a reader and a worker, or a partition being sorted; whatever the crawl's size",
        )
    yield "hours", as_number(total / cores), f"on {cores:,} cores that are always busy (--cores)"
    yield "network", f"{as_bytes(size * cores / total / 3600)}/s", "to keep them busy"
    yield "cost", f"${total * price:,.2f}", f"at ${price:g} a core-hour, storage and traffic not counted (--core-price)"


def _size_of_crawl(crawl: CrawlSettings) -> tuple[int, float, str]:
    """WARCs, their bytes, and how these are known."""
    if crawl.source == "warc":
        from crawl2chat.crawl.stage import find_warcs

        sizes = [warc.get("bytes") for warc in find_warcs(crawl)]
        known = [size for size in sizes if size is not None]
        remote = len(sizes) - len(known)
        return len(sizes), sum(known) + remote * WARC_BYTES, f"assumed: 1 GB for each of {remote}" if remote else ""
    wanted = len(crawl.commoncrawl.paths) or crawl.commoncrawl.n_warcs
    how = "assumed: 1 GB each" if wanted else "assumed: a month of Common Crawl, 1 GB each"
    return wanted or MONTH_WARCS, (wanted or MONTH_WARCS) * WARC_BYTES, how
