"""What a recipe will take, before it is run: work, bytes, memory, hours and money."""

import math
from collections.abc import Iterator
from pathlib import Path

from crawl2chat.crawl.settings import CrawlSettings
from crawl2chat.pipeline import STAGE_NAMES, Recipe
from crawl2chat.rates import ASSUMED_CHARACTERS, ASSUMED_KEPT, Rates, measure, rates_of_run
from crawl2chat.refine.settings import DedupSettings, RefineSettings
from crawl2chat.run import StageError

MONTH_WARCS = 90_000  # of a monthly Common Crawl
WARC_PAGES = 33_000  # in one of its WARCs
WARC_BYTES = 1e9

Row = tuple[str, str, str]  # what, how much, a word on it


def plan(
    recipe: Recipe,
    *,
    warc: Path | None = None,
    run: Path | None = None,
    cores: int = 1000,
    price: float = 0.04,
    flops: float | None = None,
) -> str:
    """A table of what the recipe will take.

    Refining is measured now on `warc` or on a small fictional web, or taken from a finished `run`.
    cores: that refine will have; price: of a core for an hour. flops: FLOP a second of the machine that trains.
    """
    rows: list[Row] = []
    stages = STAGE_NAMES[: STAGE_NAMES.index(recipe.until) + 1]
    if "refine" in stages and recipe.crawl.source != "tinyweb":
        rates = rates_of_run(run) if run else measure(warc, recipe.refine)
        rows += _refining(recipe.crawl, recipe.refine, rates, cores, price)
    if "pretrain" in stages:
        rows += _pretraining(recipe, flops)
    if not rows:
        raise StageError("plan: neither a crawl to refine nor a model to train; the fictional web takes seconds")
    what, much, _ = (max(map(len, column)) for column in zip(*rows, strict=True))
    return "\n".join(f"{row[0]:<{what}}  {row[1]:>{much}}  {row[2]}".rstrip() for row in rows)


def shuffle_bytes(signed: float, settings: DedupSettings) -> float:
    """What deduplication writes and groups by key: an exact hash and, a bucket, its hash and the low bytes."""
    exact = 8 * 3 if settings.exact else 0
    low_bytes = 8 * math.ceil(settings.buckets * settings.hashes_per_bucket / 8)
    near = settings.buckets * (8 + 8 + low_bytes) if settings.near else 0
    return signed * (exact + near)


def _refining(crawl: CrawlSettings, settings: RefineSettings, rates: Rates, cores: int, price: float) -> Iterator[Row]:
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
        rates.measured_on + ("; a WARC of the crawl (--measure) says more" if rates.fictional else ""),
    )
    yield "files", f"{warcs:,}", how
    yield "pages", _count(pages), f"assumed: {page_bytes / 1000:.1f} kB each" if crawl.source == "commoncrawl" else ""
    yield "bytes read", _bytes(size), ""
    for name, value in hours.items():
        yield f"core-hours: {name}", _number(value), f"{3.6e6 * value / pages:.2f} ms a page"
    yield "core-hours", _number(total), ""
    assumed = f"assumed: {kept:.0%} of the pages" if rates.fictional else f"{kept:.1%} of the pages"
    yield "documents kept", _count(pages * kept), assumed
    yield "characters kept", _count(pages * kept * characters), f"{'assumed: ' * rates.fictional}{characters:,.0f} each"
    written = pages * (kept * document_bytes + (1 - kept) * rates.reject_bytes)
    yield "bytes written", _bytes(written), "documents, and a line on every page that is dropped"
    yield "shuffle", _bytes(shuffled), "signatures, through files in the run's folder"
    yield "partitions", _number(max(1, math.ceil(shuffled / part))), f"of {settings.partition_mb:g} MB"
    if rates.memory:
        most = max(2 * rates.memory, rates.memory + 3 * part)
        yield (
            "memory a core",
            _bytes(most),
            "a reader and a worker, or a partition being sorted; whatever the crawl's size",
        )
    yield "hours", f"{total / cores:,.1f}", f"on {cores:,} cores that are always busy (--cores)"
    yield "network", f"{_bytes(size * cores / total / 3600)}/s", "to keep them busy"
    yield "cost", f"${total * price:,.2f}", f"at ${price:g} a core-hour, storage and traffic not counted (--price)"


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


def _pretraining(recipe: Recipe, flops: float | None) -> Iterator[Row]:
    import torch

    from crawl2chat.model import Transformer
    from crawl2chat.train.pretrain import TOKENS_PER_PARAMETER, model_config

    with torch.device("meta"):  # sizes without memory
        model = Transformer(model_config(recipe.pretrain, recipe.tokenizer.vocab_size))
    tokens = recipe.pretrain.tokens or TOKENS_PER_PARAMETER * model.n_parameters()
    work = tokens * model.flops_per_token(recipe.pretrain.seq_len)
    yield "parameters", _count(model.n_parameters()), f"depth {recipe.pretrain.depth}"
    yield "training tokens", _count(tokens), f"{tokens / model.n_parameters():.1f} a parameter"
    yield "training FLOP", f"{work:.2e}", "forward and backward"
    if flops:
        yield "training hours", f"{work / flops / 3600:,.2f}", f"at {flops:.3g} FLOP/s (--flops)"


def _count(value: float) -> str:
    for unit, size in (("trillion", 1e12), ("billion", 1e9), ("million", 1e6)):
        if value >= size:
            return f"{value / size:,.2f} {unit}"
    return f"{value:,.0f}"


def _bytes(value: float) -> str:
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if value >= size:
            return f"{value / size:,.1f} {unit}"
    return f"{value / 1e3:,.1f} kB"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:,.3g}"
