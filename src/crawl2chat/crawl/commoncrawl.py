"""Which WARCs of Common Crawl to read: its listing, and an even choice from it."""

import gzip
import random

from crawl2chat.crawl.settings import CommonCrawlSettings
from crawl2chat.crawl.warc import open_remote
from crawl2chat.stages.files import StageError


def commoncrawl_warcs(settings: CommonCrawlSettings, seed: int) -> list[str]:
    """Addresses of the WARCs to read; they are streamed later, never stored.

    Given paths are taken as they are, otherwise `n_warcs` of the crawl's listing, spread evenly from an offset
    that the seed decides; 0 takes all. Raises StageError if the listing can't be fetched or holds too few.
    """
    base = settings.base_url.rstrip("/")
    paths = settings.paths
    if not paths:
        listing = list_paths(base, settings.crawl_id)
        paths = spread_evenly(listing, settings.n_warcs, seed) if settings.n_warcs else listing
    return [path if "://" in path else f"{base}/{path.lstrip('/')}" for path in paths]


def list_paths(base: str, crawl_id: str) -> list[str]:
    """All WARC paths of a crawl, in the order of its public listing."""
    address = f"{base}/crawl-data/{crawl_id}/warc.paths.gz"
    with open_remote(address) as file:
        try:
            text = gzip.decompress(file.read()).decode()
        except (OSError, EOFError, UnicodeDecodeError) as error:
            raise StageError(f"{address}: expected a gzipped list of paths; {error}") from error
    return text.split()


def spread_evenly(paths: list[str], count: int, seed: int) -> list[str]:
    """`count` of the paths at equal distances, from an offset that the seed decides."""
    if count > len(paths):
        raise StageError(f"crawl.commoncrawl.n_warcs = {count}, but the crawl has only {len(paths)} WARCs")
    step = len(paths) / count
    offset = random.Random(seed).random() * step
    return [paths[int(offset + i * step)] for i in range(count)]
