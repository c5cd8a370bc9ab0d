"""What refining does to one page and why: `crawl2chat refine RUN --explain URL`."""

import difflib
import re
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from crawl2chat.crawl import Page, Place, list_warcs, read_warc
from crawl2chat.parallel.workers import Worker
from crawl2chat.refine.pages import WALL_PER_PROCESSOR, limit_page
from crawl2chat.refine.rules.urls import load_blocklists
from crawl2chat.refine.settings import RefineSettings
from crawl2chat.refine.stage import FUNNEL, blocklist_of, warc_name, with_questions_of
from crawl2chat.refine.steps import DEDUP_STEPS, TEXT_STEPS, Draft, check_page, take_steps
from crawl2chat.refine.verdict import Verdict, drop
from crawl2chat.stages.files import StageError
from crawl2chat.stages.progress import Progress

MAX_RECORDS = 10  # of one address that are explained
NEAREST = 5  # addresses that are named where the asked one is none
# Which setting a reason's value was held against.
LIMITS = {
    "timeout": "extract_seconds",
    "other_language": "languages",
    "unsure_language": "min_language_score",
    "too_few_words": "gopher_quality.min_words",
    "too_many_words": "gopher_quality.max_words",
    "short_words": "gopher_quality.min_mean_word_length",
    "long_words": "gopher_quality.max_mean_word_length",
    "hash_signs": "gopher_quality.max_symbol_ratio",
    "ellipses": "gopher_quality.max_symbol_ratio",
    "bullet_lines": "gopher_quality.max_bullet_lines",
    "ellipsis_lines": "gopher_quality.max_ellipsis_lines",
    "few_letter_words": "gopher_quality.min_letter_words",
    "few_stop_words": "gopher_quality.min_stop_words",
    "duplicate_lines": "gopher_repetition.max_duplicate_lines",
    "duplicate_line_chars": "gopher_repetition.max_duplicate_line_chars",
    "duplicate_paragraphs": "gopher_repetition.max_duplicate_paragraphs",
    "duplicate_paragraph_chars": "gopher_repetition.max_duplicate_paragraph_chars",
    "top_gram": "gopher_repetition.max_top_ngrams",
    "duplicate_grams": "gopher_repetition.max_duplicate_ngrams",
    "too_few_sentences": "c4.min_sentences",
    "unpunctuated_lines": "fineweb.min_punctuated_lines",
    "short_lines": "fineweb.max_short_lines",
    "repeated_line_chars": "fineweb.max_duplicate_line_chars",
    "list_like": "fineweb.max_newlines_per_word",
}
GRAMS = re.compile(r"_(\d+)(?=_grams?$)")  # `duplicate_6_grams` is held against an entry of a table of limits


@dataclass(frozen=True)
class Seen:
    """What one step said of a page, how long it took, and the text before and after it."""

    step: str
    verdict: Verdict
    seconds: float
    before: str = field(default="", repr=False)
    after: str = field(default="", repr=False)
    note: str = ""
    language: str = ""  # ISO 639 code, whose thresholds counted; "" before it is known


@dataclass(frozen=True)
class Outcome:
    """What became of a page in a finished refine stage; `kept` is the document's id, else a step dropped it."""

    kept: str = ""
    step: str = ""
    reason: str = ""
    copy_of: str = ""  # address of the document that stayed
    copies: tuple[str, ...] = ()  # addresses that were dropped as copies of this one


def find_pages(crawl: Path, refined: Path | None, url: str, settings: RefineSettings) -> list[Page]:
    """The records of an address in a crawl's WARCs, each with its WARC's name in the results; at most MAX_RECORDS.

    refined: a refine stage's folder; if it is finished and knows the address, only the WARCs that hold it are read.
    Raises StageError where there is none, naming those that look most like it.
    """
    found: list[Page] = []
    nearest: list[str] = []
    n_pages = n_faults = 0
    holders = _warcs_with(refined, url) if refined else set()
    warcs = [path for path in list_warcs(crawl) if not holders or warc_name(path, crawl) in holders]
    with Progress("explain", len(warcs), "WARCs") as bar:
        for number, path in enumerate(warcs, 1):
            others = set()
            for page in read_warc(path, max_record_bytes=settings.max_record_bytes):
                if not isinstance(page, Page):
                    n_faults += 1
                    continue
                n_pages += 1
                if page.url != url:
                    others.add(page.url)
                elif len(found) < MAX_RECORDS:
                    place = Place(warc_name(path, crawl), page.place.offset, page.place.within)
                    found.append(replace(page, place=place))
            if not found:
                nearest = difflib.get_close_matches(url, [*nearest, *sorted(others)], n=NEAREST, cutoff=0.5)
            bar.update(number)
    if found:
        return found
    faults = f" and {n_faults:,} faults, which have no address" if n_faults else ""
    like = "".join(f"\n  {other}" for other in nearest)
    raise StageError(
        f"{url}: no such page among {n_pages:,} in {crawl}{faults}"
        + (f"; the addresses that look most like it:{like}" if like else "")
    )


def watch_page(page: Page, crawl: Path, settings: RefineSettings) -> Iterator[Seen]:
    """Take the page through the steps, in a process of its own that may hang or crash; ends with the one that drops it.

    Deduplication is not among them: it looks at all pages (see `find_outcome`).
    """
    blocklist = load_blocklists([path for path in (settings.blocklist, blocklist_of(crawl)) if path])
    began = time.perf_counter()
    for step, verdict in check_page(page, blocklist, settings):
        yield Seen(step, verdict, time.perf_counter() - began)
        if verdict.dropped:
            return
        began = time.perf_counter()
    worker = Worker(_Watcher(with_questions_of(crawl, settings)))
    try:
        end = time.monotonic() + settings.extract_seconds * WALL_PER_PROCESSOR
        for number, step in enumerate(TEXT_STEPS):
            began = time.perf_counter()
            worker.send(None if number else page)
            seen = _receive(worker, step, settings, began, end)
            yield seen
            if seen.verdict.dropped:
                return
    finally:
        worker.stop()


def _receive(worker: Worker, step: str, settings: RefineSettings, began: float, end: float) -> Seen:
    """The next step's answer, or what refining would say of a page that hangs or kills its process."""
    timeout = drop("timeout", settings.extract_seconds)
    if not worker.connection.poll(max(0, end - time.monotonic())):
        return Seen(step, timeout, time.perf_counter() - began)
    try:
        seen: Seen = worker.receive()
        return seen
    except EOFError:
        code = worker.wait_until_dead()
        verdict = timeout if code == -signal.SIGXCPU else drop("crashed", code)
        return Seen(step, verdict, time.perf_counter() - began)


class _Watcher:
    """In a worker: the first call gets the page, and each takes one more step with it."""

    def __init__(self, settings: RefineSettings) -> None:
        self.settings = settings

    def __call__(self, page: Page | None) -> Seen:
        if page:
            limit_page(self.settings)
            self.draft = Draft(page)
            self.steps = take_steps(self.draft, self.settings)
        before = self.draft.text
        began = time.perf_counter()
        step, verdict = next(self.steps)
        seconds = time.perf_counter() - began
        draft = self.draft
        return Seen(step, verdict, seconds, before, draft.text, _note(step, draft), draft.language)


def _note(step: str, draft: Draft) -> str:
    """What a step found that is no reason to drop."""
    if step == "language":
        return f"{draft.language} with probability {draft.language_score:.2f}"
    if step == "pii":
        return ", ".join(f"{what} replaced: {count}" for what, count in sorted(draft.masked.items()) if count)
    return ""


def find_limit(reason: str, settings: RefineSettings) -> tuple[str, Any] | None:
    """The setting that a reason's value was held against, and its value; None where it is a matter of yes or no."""
    path = LIMITS.get(GRAMS.sub("", reason))
    if path is None:
        return None
    value: Any = settings
    for name in path.split("."):
        value = getattr(value, name)
    gram = GRAMS.search(reason)
    return (f"{path}.{gram[1]}", value[int(gram[1])]) if gram else (path, value)


def find_outcome(refined: Path, page: Page) -> Outcome | None:
    """What a refine stage's folder says of a record; None where it is not finished or does not know it."""
    if not (refined / FUNNEL).exists():
        return None
    here = vars(page.place)
    for row in _rows(refined / "documents", ["id", "place"], "url", page.url):
        if row["place"] == here:
            copies = _rows(refined / "rejects", ["url"], "copy_of", row["id"])
            return Outcome(kept=row["id"], copies=tuple(copy["url"] for copy in copies))
    for row in _rows(refined / "rejects", ["step", "reason", "detail", "place"], "url", page.url):
        if row["place"] == here:
            copy_of = row["detail"] if row["step"] in DEDUP_STEPS else ""
            return Outcome(step=row["step"], reason=row["reason"], copy_of=copy_of)
    return None


def _warcs_with(refined: Path, url: str) -> set[str]:
    """Names of the WARCs in which a finished refine stage met an address."""
    if not (refined / FUNNEL).exists():
        return set()
    found = [row for table in ("documents", "rejects") for row in _rows(refined / table, ["place"], "url", url)]
    return {row["place"]["warc"] for row in found}


def _rows(table: Path, columns: Sequence[str], column: str, value: str) -> list[dict[str, Any]]:
    """Rows of a folder of Parquet whose `column` is `value`."""
    import pyarrow.parquet as pq

    return list(pq.read_table(table, columns=list(columns), filters=[(column, "==", value)]).to_pylist())
