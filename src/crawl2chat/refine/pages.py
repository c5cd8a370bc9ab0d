"""One page on its way to a document, and many pages at once in processes that may hang or crash."""

import math
import re
import resource
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache, partial
from multiprocessing import connection
from pathlib import Path
from typing import Any

from crawl2chat.crawl import Fault, Page, Place
from crawl2chat.parallel.workers import Worker
from crawl2chat.refine.copies import dedup
from crawl2chat.refine.settings import RefineSettings
from crawl2chat.refine.steps import (
    CLASSIFIER_STEP,
    DEDUP_STEPS,
    Draft,
    check_page,
    failure,
    load_models,
    mask_text,
    score_quality,
    take_steps,
)
from crawl2chat.refine.text.words import UNSPACED
from crawl2chat.refine.verdict import Verdict, drop

WALL_PER_PROCESSOR = 20  # a page may wait this much longer than it may compute, on a machine that is shared
SNIPPET_CHARS = 200
UP_TO_LAST_BREAK = re.compile(rf"(?s).*[ \n{UNSPACED}]")  # no address goes on behind a blank or such a letter
_, NEAR_DUPLICATES, _ = DEDUP_STEPS
MAX_AHEAD = 2000  # pages that may be finished before the one whose turn it is


@dataclass(frozen=True)
class Reject:
    """A page or fault that is not kept: the step that dropped it and why."""

    url: str
    step: str
    reason: str
    value: float | None
    detail: str
    place: Place
    snippet: str = field(default="", repr=False)  # of its text at that step; "" before there is one


@dataclass(frozen=True)
class Document:
    """A page that passed every filter, before deduplication."""

    url: str
    text: str = field(repr=False)
    language: str
    language_score: float
    place: Place
    emails: int
    ips: int
    phones: int
    quality: float | None
    signature: dedup.Signature = field(repr=False)


def check_unread(page: Page | Fault, blocklist: frozenset[str], settings: RefineSettings) -> Reject | None:
    """The steps that need no text, so no process of their own."""
    if isinstance(page, Fault):
        return Reject(page.url, "read", page.reason, None, page.detail, page.place)
    for step, verdict in check_page(page, blocklist, settings):
        if verdict.dropped:
            return _reject(page, step, verdict)
    return None


def refine_page(page: Page, settings: RefineSettings) -> Document | Reject:
    """Take a page through the steps that need its text, and sign what is left of it."""
    draft = Draft(page)
    for step, verdict in take_steps(draft, settings):
        if verdict.dropped:
            return _reject(page, step, verdict, snippet(draft.text, settings))
    step = CLASSIFIER_STEP
    try:
        quality = score_quality(draft, settings)
        step = NEAR_DUPLICATES
        signature = dedup.sign(draft.text, settings.dedup)
    except Exception as error:
        return _reject(page, step, failure(error, settings), snippet(draft.text, settings))
    return Document(
        page.url,
        draft.text,
        draft.language,
        draft.language_score,
        page.place,
        draft.masked["emails"],
        draft.masked["ips"],
        draft.masked["phones"],
        quality,
        signature,
    )


def _reject(page: Page, step: str, verdict: Verdict, snippet: str = "") -> Reject:
    return Reject(page.url, step, verdict.reason or "", verdict.value, verdict.detail, page.place, snippet)


def snippet(text: str, settings: RefineSettings) -> str:
    """The beginning of a text on one line, to be seen in the report; masked, as dropped pages mostly are not yet."""
    beginning = text[: 10 * SNIPPET_CHARS]
    if len(beginning) < len(text):  # the last word may be half an address, which nothing would mask
        whole = UP_TO_LAST_BREAK.match(beginning)
        beginning = whole[0] if whole else ""
    return mask_text(" ".join(beginning.split()), settings)[0][:SNIPPET_CHARS]


def refine_pages(
    pages: Iterator[Page | Fault], blocklist: frozenset[str], settings: RefineSettings, workers: int
) -> Iterator[Document | Reject]:
    """Refine pages in `workers` processes, in the order they come.

    Parsers are C code that nothing can interrupt: resiliparse takes 13 s over 20,000 nested <div>. So a page
    that takes more than `extract_seconds` costs its process, and is dropped as `timeout`; one that kills
    its process twice is dropped as `crashed`.
    """
    todo = enumerate(pages)
    finished: dict[int, Document | Reject] = {}
    retry: list[tuple[int, Page]] = []
    crashed: set[int] = set()
    busy: dict[Any, tuple[Worker, int, Page, float]] = {}
    function = partial(_refine_in_time, settings=settings)
    idle = [Worker(function) for _ in range(workers)]
    due, ended = 0, False
    try:
        while True:
            while idle and (retry or (not ended and len(finished) < MAX_AHEAD)):
                index, page = retry.pop() if retry else next(todo, (-1, None))
                if page is None:
                    ended = True
                    break
                early = check_unread(page, blocklist, settings)
                if early:
                    finished[index] = early
                    continue
                worker = idle.pop()
                assert isinstance(page, Page)  # a fault was rejected
                worker.send(page)
                busy[worker.connection] = worker, index, page, time.monotonic()
            while due in finished:
                yield finished.pop(due)
                due += 1
            if not busy:
                if ended and not retry:
                    return
                continue
            for ready in connection.wait(list(busy), timeout=1):
                worker, index, page, _ = busy.pop(ready)
                try:
                    finished[index] = worker.receive()
                    idle.append(worker)
                except EOFError:
                    code = worker.wait_until_dead()
                    idle.append(Worker(function))
                    if code == -signal.SIGXCPU:
                        finished[index] = _reject(page, "extract", drop("timeout", settings.extract_seconds))
                    elif index in crashed:
                        finished[index] = _reject(page, "extract", drop("crashed", code))
                    else:
                        crashed.add(index)
                        retry.append((index, page))
            too_long = time.monotonic() - settings.extract_seconds * WALL_PER_PROCESSOR
            for worker, index, page, _ in [entry for entry in busy.values() if entry[3] < too_long]:
                del busy[worker.connection]
                worker.stop()
                idle.append(Worker(function))
                finished[index] = _reject(page, "extract", drop("timeout", settings.extract_seconds))
    finally:
        for worker in [*idle, *(entry[0] for entry in busy.values())]:
            worker.stop()


def _refine_in_time(page: Page, settings: RefineSettings) -> Document | Reject:
    """In a worker: the kernel ends this process when it has computed too long, wherever it is."""
    limit_page(settings)
    try:
        return refine_page(page, settings)
    finally:  # what this page has used must not end the process while it receives the next
        hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
        resource.setrlimit(resource.RLIMIT_CPU, (hard, hard))


def limit_page(settings: RefineSettings) -> None:
    """Let this process compute for a page's time from now on, and no longer, in what memory a page may take.

    The kernel refuses memory beyond what the process began with and `extract_megabytes`: Python tells that as
    MemoryError, and C code that can't bear it crashes, which costs this process alone.
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
    """Bytes of data that this process had when it was first asked."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
    except FileNotFoundError:  # kernels but Linux's, which do not enforce RLIMIT_DATA either
        return 0
