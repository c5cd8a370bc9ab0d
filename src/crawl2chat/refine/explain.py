"""What refining does to one page and why, in the terminal: `crawl2chat refine RUN --explain URL`."""

import difflib
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, cast

from rich.console import Console
from rich.text import Text

from crawl2chat.crawl import Page, Place, list_warcs, read_warc
from crawl2chat.parallel.workers import Died, Failed, Result, WorkerError, WorkerPool
from crawl2chat.refine.differences import MAX_LINES, lines_of
from crawl2chat.refine.measures import RULES
from crawl2chat.refine.pages import limit_page, verdict_on_loss, wall_seconds
from crawl2chat.refine.rules import Verdict
from crawl2chat.refine.settings import RefineSettings, for_language
from crawl2chat.refine.stage import FUNNEL, warc_name, with_files_of
from crawl2chat.refine.steps import DEDUP_STEPS, PREPARATIONS, Draft, page_steps, step_names, take_steps
from crawl2chat.refine.text.extract import NOT_TEXT
from crawl2chat.refine.text.words import split_words
from crawl2chat.stages.files import StageError
from crawl2chat.stages.progress import Progress

MAX_RECORDS = 10  # of one address that are explained
NEAREST = 5  # addresses that are named if the one asked for is not found
EXCERPT_CHARS = 700  # of a text that is new
MAX_CHANGES = 20  # lines of a difference that are shown
CONTEXT_WORDS = 6  # around what changed within a line
COPIES = 5  # addresses that are named
REMOVED, ADDED = "red", "green"
GRAMS = re.compile(r"_(\d+)(?=_grams?$)")  # `duplicate_6_grams` is held against an entry of a table of limits
# Which setting a reason's value was held against.
LIMITS = {GRAMS.sub("", rule.reason): f"{rule.step}.{rule.setting}" for rule in RULES} | {
    "timeout": "extract_seconds", "other_language": "languages", "unsure_language": "min_language_score"
}  # fmt: skip


@dataclass(frozen=True)
class StepReport:
    """What one step found on a page, how long it took, and the text before and after it."""

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


def explain(crawl: Path, refined: Path | None, url: str, settings: RefineSettings) -> None:
    """Print what each step does to the page of an address, and what a finished refine stage did with it.

    crawl: a crawl stage's folder, a WARC or a folder of them. refined: a refine stage's folder. Raises StageError if
    there is no such page.
    """
    step_names(settings)  # refuses filters of one name before anything is read
    for page in find_pages(crawl, refined, url, settings):
        print_page(page)
        for report in watch_page(page, crawl, settings):
            print_step(report, settings)
        print_outcome(find_outcome(refined, page) if refined else None, report, settings)


def find_pages(crawl: Path, refined: Path | None, url: str, settings: RefineSettings) -> list[Page]:
    """The records of an address in a crawl's WARCs, each with its WARC's name in the results; at most MAX_RECORDS.

    refined: a refine stage's folder; if it is finished and knows the address, only the WARCs that hold it are read.
    Raises StageError if there is none, with the addresses that look most like it.
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


def watch_page(page: Page, crawl: Path, settings: RefineSettings) -> Iterator[StepReport]:
    """Take the page through the steps, in a process of its own that may hang or crash; ends with the one that drops it.

    Deduplication is not among them: it looks at all pages (see `find_outcome`).
    """
    pool = WorkerPool(_Watcher(page, with_files_of(crawl, settings)), 1, timeout=wall_seconds(settings))
    try:
        for step in page_steps(settings):
            if step in PREPARATIONS:
                return
            began = time.perf_counter()
            pool.submit(None)
            (outcome,) = pool.wait()
            if isinstance(outcome, Result):
                report = cast(StepReport, outcome.value)
            elif isinstance(outcome, Failed):
                raise WorkerError(outcome.error)
            else:
                verdict = verdict_on_loss(settings, outcome.exit_code if isinstance(outcome, Died) else None)
                report = StepReport(step, verdict, time.perf_counter() - began)
            yield report
            if report.verdict.dropped:
                return
    finally:
        pool.stop()


class _Watcher:
    """In a worker: each call takes one more step with the page."""

    def __init__(self, page: Page, settings: RefineSettings) -> None:
        self.draft, self.settings = Draft(page), settings
        self.reports: Iterator[StepReport] | None = None

    def __call__(self, _: None) -> StepReport:
        if self.reports is None:
            limit_page(self.settings)
            self.reports = report_steps(self.draft, self.settings)
        return next(self.reports)


def report_steps(draft: Draft, settings: RefineSettings) -> Iterator[StepReport]:
    """Take a page through the steps that look at it alone, up to the one that drops it."""
    before, began = "", time.perf_counter()
    for step, verdict in take_steps(draft, settings):
        if step in PREPARATIONS:
            return
        seconds = time.perf_counter() - began
        yield StepReport(step, verdict, seconds, before, draft.text, note_of(step, draft), draft.language)
        before, began = draft.text, time.perf_counter()


def note_of(step: str, draft: Draft) -> str:
    """What a step found without a reason to drop."""
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


def print_page(page: Page) -> None:
    place = page.place
    print_text(page.url, "bold")
    within = f" + {place.within:,}" if place.within else ""
    print_text(
        f"{place.warc} at byte {place.offset:,}{within}, status {page.status}, "
        f"{page.content_type or 'no content type'}, {len(page.body):,} bytes, {page.date}\n"
    )


def print_step(report: StepReport, settings: RefineSettings) -> None:
    """Verdict, reason, value against its limit, time; and the change of the text."""
    line = Text(f"{report.step:<18} ")
    line.append("dropped" if report.verdict.dropped else "kept   ", "bold red" if report.verdict.dropped else "green")
    line.append(f" {1000 * report.seconds:8.1f} ms  {clean(describe(report, settings))}")
    Console(highlight=False, soft_wrap=True).print(line)
    if report.after != report.before:
        indented(show_change(report.before, report.after))


def describe(report: StepReport, settings: RefineSettings) -> str:
    """`too_few_words: 31; gopher_quality.min_words = 50`, or what a step that kept the page found."""
    verdict = report.verdict
    if verdict.reason is None:
        return report.note
    found = ", ".join(
        part for part in ("" if verdict.value is None else f"{verdict.value:.4g}", verdict.detail) if part
    )
    limit = find_limit(verdict.reason, for_language(settings, report.language))
    return verdict.reason + (f": {found}" if found else "") + (f"; {limit[0]} = {limit[1]}" if limit else "")


def print_outcome(outcome: Outcome | None, last: StepReport, settings: RefineSettings) -> None:
    """What a finished stage did with the page, and whether that stage had the same settings and code."""
    if last.verdict.dropped:
        steps = step_names(settings)
        print_text(f"{'not taken':<18} {', '.join(steps[steps.index(last.step) + 1 :])}")
    print_text("")
    if outcome is None:
        if not last.verdict.dropped:
            print_text(
                f"{' and '.join(DEDUP_STEPS)}: compare all pages; give a run's folder whose refine stage is done, "
                "or --out with the stage's folder, to see what they did"
            )
        return
    if outcome.copy_of:
        print_text(f"{outcome.step:<18} dropped, a copy of {outcome.copy_of}")
    elif outcome.kept:
        print_text(f"in the run          document {outcome.kept}")
        if outcome.copies:
            named = ", ".join(outcome.copies[:COPIES]) + (", …" if len(outcome.copies) > COPIES else "")
            print_text(f"{'copies':<18} {len(outcome.copies):,} pages were dropped as copies of it: {named}")
    else:
        print_text(f"in the run          dropped by {outcome.step}: {outcome.reason}")
    now = (last.step, last.verdict.reason or "") if last.verdict.dropped else ("", "")
    alone = outcome.step in page_steps(settings) and outcome.step not in PREPARATIONS  # it looked at this page alone
    if now != ((outcome.step, outcome.reason) if alone else ("", "")):
        print_text("the run's stage was made with other settings or another state of the code than these", "yellow")


def show_change(before: str, after: str) -> Iterator[Text]:
    """The beginning of a text that is new, else the lines that changed: removed ones red, added ones green."""
    if not before:
        cut = after[:EXCERPT_CHARS]
        yield from (Text(line, "dim") for line in cut.split("\n"))
        if len(cut) < len(after):
            yield Text(f"… {len(after):,} characters in all")
        return
    changes = _line_changes(lines_of(before), lines_of(after))
    yield from islice(changes, MAX_CHANGES)
    if next(changes, None):
        yield Text(f"… more changes; {len(before):,} characters became {len(after):,}")


def _line_changes(before: Sequence[str], after: Sequence[str]) -> Iterator[Text]:
    for tag, i, i_end, j, j_end in difflib.SequenceMatcher(None, before, after).get_opcodes():
        if tag == "replace" and i_end - i == j_end - j:
            for old, new in zip(before[i:i_end], after[j:j_end], strict=True):
                yield _word_changes(split_words(old), split_words(new))
        elif tag != "equal":
            yield from (Text(f"- {_shorten(line)}", REMOVED) for line in before[i:i_end])
            yield from (Text(f"+ {_shorten(line)}", ADDED) for line in after[j:j_end])


def _word_changes(before: Sequence[str], after: Sequence[str]) -> Text:
    """One line in which words changed: those that went and those that came, with some words around them."""
    before, after = before[:MAX_LINES], after[:MAX_LINES]
    text = Text("~ ")
    for group in difflib.SequenceMatcher(None, before, after).get_grouped_opcodes(CONTEXT_WORDS):
        text.append("… ")
        for tag, i, i_end, j, j_end in group:
            if tag == "equal":
                text.append(" ".join(before[i:i_end]) + " ")
            else:
                text.append("".join(f"-{_shorten(word)} " for word in before[i:i_end]), REMOVED)
                text.append("".join(f"+{_shorten(word)} " for word in after[j:j_end]), ADDED)
    return text


def _shorten(line: str) -> str:
    return line if len(line) <= 200 else f"{line[:200]}…"


def indented(lines: Iterable[Text]) -> None:
    console = Console(highlight=False, soft_wrap=True)
    for line in lines:
        console.print(Text("    | ", "dim").append_text(line))


def clean(text: str) -> str:
    """Without control characters, which a page's address or header may hold to play with the terminal."""
    return NOT_TEXT.sub("", text)


def print_text(text: str, style: str = "") -> None:
    Console(highlight=False, soft_wrap=True).print(Text(clean(text), style))
