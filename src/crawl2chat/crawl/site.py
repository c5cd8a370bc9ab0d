"""A polite crawl of web sites into WARC, with Scrapy in a process of its own (its event loop can't be started twice).

What a server sent is in the WARC as it came, and `fetched.jsonl` says where. A killed crawl takes the same way again
and is given those answers instead of the server's, so that it asks only for what is left.
"""

import threading
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from crawl2chat.crawl.settings import SiteSettings
from crawl2chat.crawl.writing import LEFT_OUT
from crawl2chat.parallel.workers import Failed, Result, WorkerPool
from crawl2chat.stages.files import StageError, read_jsonl
from crawl2chat.stages.progress import Progress

PAGES, OTHERS = "warc/site.warc.gz", "others.warc.gz"  # what was fetched: pages, and robots.txt, redirects, errors, …
FETCHED = "fetched.jsonl"  # of each answer: url, status, file, where its record begins and how long it is
DEFAULT_PORTS = {"http": 80, "https": 443}


def host_of(url: str) -> tuple[str, int] | None:
    """Host and port of a web address; the usual ports of HTTP and HTTPS count as one. None for other addresses."""
    try:
        parts = urlsplit(url)
        port = parts.port or DEFAULT_PORTS[parts.scheme]
    except (ValueError, KeyError):
        return None
    return ((parts.hostname or "").rstrip("."), 80 if port == 443 else port) if parts.hostname else None


def check_site(settings: SiteSettings) -> None:
    """Raise StageError if an address is not one of the web, or Scrapy is not installed."""
    for address in settings.addresses:
        if host_of(address) is None:
            raise StageError(
                f"crawl.site.addresses = {address}: expected a web address, such as https://docs.example.org/"
            )
    if find_spec("scrapy") is None:
        raise StageError("crawl.source = site needs Scrapy: pip install 'crawl2chat[site]'")


def crawl_site(out: Path, settings: SiteSettings) -> None:
    """Fetch pages into `out/warc`; what was not fetched, with reasons, goes to `left_out.jsonl`.

    A killed crawl goes on. Raises StageError if there was no page.
    """
    check_site(settings)
    (out / PAGES).parent.mkdir(parents=True, exist_ok=True)
    stop = threading.Event()
    pool = WorkerPool(run_spider, 1)
    with Progress("crawl", settings.pages, "addresses") as bar:
        watch = threading.Thread(target=_watch, args=(out / FETCHED, bar, stop), daemon=True)
        watch.start()
        try:
            pool.submit((out, settings))
            outcome = pool.wait()[0]
        finally:
            stop.set()
            watch.join()
            pool.stop()
    if isinstance(outcome, Failed):
        raise StageError(f"crawl.site: {outcome.error}")
    if not isinstance(outcome, Result):
        raise StageError(f"crawl.site: the crawler's process ended ({outcome.error}); run the same command to go on")
    if not any(row["file"] == PAGES for row in read_jsonl(out / FETCHED)):
        left_out = read_jsonl(out / LEFT_OUT)
        reasons = "; ".join(f"{row['url']}: {row['reason']} {row['detail']}".rstrip() for row in left_out[:5])
        counted = Counter(row["reason"] for row in left_out)
        hint = "; pages of another host are never fetched, so give its address" if counted["other_host"] else ""
        raise StageError(f"crawl.site: no page could be fetched: {reasons or 'nothing was found'}{hint}")


def run_spider(job: tuple[Path, SiteSettings]) -> None:
    """Crawl, in this process, to the end."""
    from crawl2chat.crawl.site_spider import crawl

    crawl(*job)


def _watch(fetched: Path, bar: Progress, stop: threading.Event) -> None:
    while not stop.wait(1):
        if fetched.exists():
            with open(fetched, "rb") as lines:
                bar.update(min(bar.total, sum(1 for _ in lines)))
