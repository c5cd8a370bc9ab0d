"""Many pages at once, in processes that may hang or crash."""

import math
import resource
import time
from collections.abc import Iterable, Iterator
from functools import lru_cache, partial
from pathlib import Path

from crawl2chat.crawl import Fault, Page
from crawl2chat.parallel.workers import Failed, Result, TimedOut, WorkerError, map_in_order
from crawl2chat.refine.rules import Verdict, drop
from crawl2chat.refine.settings import RefineSettings
from crawl2chat.refine.steps import KeptPage, Reject, load_models, refine_page, reject_page

WALL_PER_PROCESSOR = 20  # a page may wait this much longer than it may compute, on a machine that is shared
MAX_AHEAD = 2000  # pages that may be finished before the one whose turn it is


def refine_pages(pages: Iterable[Page | Fault], settings: RefineSettings, workers: int) -> Iterator[KeptPage | Reject]:
    """Refine pages in `workers` processes, in the order they come.

    Parsers are C code that nothing can interrupt: resiliparse takes 13 s over 20,000 nested <div>. So a page
    that takes more than `extract_seconds` costs its process, and is dropped as `timeout`; one that kills
    its process twice is dropped as `crashed`.
    """
    refine_one = partial(_refine_in_time, settings=settings)
    outcomes = map_in_order(refine_one, pages, workers, timeout=wall_seconds(settings), max_ahead=MAX_AHEAD)
    for outcome in outcomes:
        if isinstance(outcome, Result):
            yield outcome.value
        elif isinstance(outcome, Failed):
            raise WorkerError(outcome.error)
        else:
            code = None if isinstance(outcome, TimedOut) else outcome.exit_code
            yield reject_page(outcome.item, "extract", verdict_on_loss(settings, code))


def wall_seconds(settings: RefineSettings) -> float:
    """Seconds by the clock after which the process of a page is ended."""
    return settings.extract_seconds * WALL_PER_PROCESSOR


def verdict_on_loss(settings: RefineSettings, exit_code: int | None) -> Verdict:
    """Why a page is dropped whose process was lost; None: it took too long."""
    return drop("timeout", settings.extract_seconds) if exit_code is None else drop("crashed", exit_code)


def _refine_in_time(page: Page | Fault, settings: RefineSettings) -> KeptPage | Reject:
    """In a worker: the kernel ends this process when it has computed too long, wherever it is."""
    limit_page(settings)
    try:
        return refine_page(page, settings)
    finally:  # what this page has used must not end the process while it receives the next
        hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
        resource.setrlimit(resource.RLIMIT_CPU, (hard, hard))


def limit_page(settings: RefineSettings) -> None:
    """Let this process compute for a page's time from now on, and no longer, in the memory that a page may take.

    The kernel refuses memory beyond what the process began with and `extract_megabytes`: Python raises MemoryError,
    and C code that can't bear it crashes, which costs this process alone.
    """
    load_models(settings)  # before the clock runs
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    data = _data_at_start() + (settings.extract_megabytes << 20)
    resource.setrlimit(resource.RLIMIT_DATA, (data if hard == resource.RLIM_INFINITY else min(data, hard), hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    limit = math.ceil(time.process_time() + settings.extract_seconds)
    resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.getrlimit(resource.RLIMIT_CPU)[1]))


@lru_cache(maxsize=1)
def _data_at_start() -> int:
    """Bytes of data that this process had when this was first called."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
    except FileNotFoundError:  # kernels other than Linux's, which do not enforce RLIMIT_DATA either
        return 0
