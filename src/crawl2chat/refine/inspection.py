"""One page as a reader wants to see it: the source with its kept blocks marked, and what each step and rule found.

Pages are hostile: what looks at one runs in a process of its own, with the limits that refining has, and only text
comes back.
"""

import atexit
import threading
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, NamedTuple, cast

from crawl2chat.crawl import Page
from crawl2chat.parallel.workers import Died, Failed, Outcome, Result, WorkerPool
from crawl2chat.refine.differences import Row, side_by_side
from crawl2chat.refine.explain import StepReport, report_steps
from crawl2chat.refine.measures import Value, values_of
from crawl2chat.refine.pages import limit_page, verdict_on_loss, wall_seconds
from crawl2chat.refine.settings import RefineSettings
from crawl2chat.refine.stage import with_files_of
from crawl2chat.refine.steps import Draft, load_models
from crawl2chat.refine.text.encoding import decode_html
from crawl2chat.refine.text.mark_source import Segment, mark_source
from crawl2chat.stages.files import StageError

SHOWN_CHARS = 120_000  # of a source or a text; what is longer is cut
SHOWN_ROWS = 200  # of a step's changes
SLOW_SECONDS = 10.0  # of processor time, for what is looked at in addition to the steps


class Task(NamedTuple):
    """What the worker is asked: to get ready, the steps of a page, and afterwards more about the same page."""

    what: Literal["start", "steps", "source", "values", "compare"]
    page: Page | None = None
    other: str = ""  # the text to compare with


@dataclass(frozen=True)
class StepView:
    """A step with the values of its rules, and what it changed in the text."""

    report: StepReport
    values: list[Value]
    changes: list[Row]


@dataclass(frozen=True)
class Inspection:
    """source: empty if finding its blocks took too long. text: as the last step left it."""

    steps: list[StepView]
    source: list[Segment]
    text: str = field(repr=False)
    is_cut: bool = False  # whether source and text are longer than what is shown


class Inspector:
    """Inspects one page at a time; for any number of threads. Its process is started when it is first needed."""

    def __init__(self, crawl: Path, settings: RefineSettings) -> None:
        self.settings = with_files_of(crawl, settings)
        self._pool: WorkerPool | None = None
        self._is_ready = False  # whether the process has started; that takes seconds, which are not the page's
        self._lock = threading.Lock()

    def inspect(self, page: Page) -> Inspection:
        """Take a page through the steps that look at it alone, up to the one that drops it.

        Raises StageError if looking at it fails.
        """
        with self._lock:
            outcome = self._ask(Task("steps", page))
            if isinstance(outcome, Failed):
                raise StageError(f"{page.url}: can't be looked at: {outcome.error.partition(chr(10))[0]}")
            if not isinstance(outcome, Result):
                # as in the stage: whichever step it was in, extraction is what takes long or crashes
                code = outcome.exit_code if isinstance(outcome, Died) else None
                report = StepReport("extract", verdict_on_loss(self.settings, code), 0.0)
                return Inspection([StepView(report, [], [])], [], "")
            reports = cast(list[StepReport], outcome.value)
            source, values = self._ask(Task("source")), self._ask(Task("values"))
        found = values.value if isinstance(values, Result) else [([], [])] * len(reports)
        segments, is_cut = _cut(source.value if isinstance(source, Result) else [])
        text = reports[-1].after
        steps = [
            StepView(replace(report, before="", after=""), *more) for report, more in zip(reports, found, strict=True)
        ]
        return Inspection(steps, segments, text[:SHOWN_CHARS], is_cut or len(text) > SHOWN_CHARS)

    def compare(self, page: Page, other: str) -> list[Row]:
        """Another page's text (left) next to what the steps make of this page (right); empty if that takes too long."""
        with self._lock:
            self._ask(Task("steps", page))
            outcome = self._ask(Task("compare", other=other))
        return outcome.value if isinstance(outcome, Result) else []

    def close(self) -> None:
        with self._lock:
            if self._pool:
                self._pool.stop()
                self._pool, self._is_ready = None, False
                atexit.unregister(self.close)

    def _ask(self, task: Task) -> Outcome:
        if self._pool is None:
            self._pool = WorkerPool(_Worker(self.settings), 1, timeout=wall_seconds(self.settings))
            atexit.register(self.close)  # or this process would wait for that one when it ends
        if not self._is_ready and task.page is not None:
            self._pool.submit(Task("start"))
            self._pool.wait()
        self._pool.submit(task)
        (outcome,) = self._pool.wait()
        self._is_ready = isinstance(outcome, Result)
        return outcome


class _Worker:
    """In the process: keeps the page that it was last given, so that more can be asked about it."""

    def __init__(self, settings: RefineSettings) -> None:
        self.settings = settings
        self.draft: Draft | None = None
        self.reports: list[StepReport] = []

    def __call__(
        self, task: Task
    ) -> list[StepReport] | list[Segment] | list[tuple[list[Value], list[Row]]] | list[Row]:
        if task.what == "start":
            load_models(self.settings)
            return []
        if task.page is not None:
            limit_page(self.settings)
            self.draft, self.reports = Draft(task.page), []
            self.reports = list(report_steps(self.draft, self.settings))
            return self.reports
        limit_page(self.settings.model_copy(update={"extract_seconds": SLOW_SECONDS}))
        draft = self.draft
        if draft is None:  # the process is new: the one before was lost
            raise RuntimeError("there is no page to say more about")
        if task.what == "source":
            return _source(draft.page, self.settings)
        if task.what == "compare":
            return list(side_by_side(task.other, draft.text))
        return [
            (
                values_of(report.step, report.before, report.language, self.settings),
                _changes(report.before, report.after),
            )
            for report in self.reports
        ]


def _source(page: Page, settings: RefineSettings) -> list[Segment]:
    source = decode_html(page.body, "charset=utf-8" if page.is_text else page.content_type)
    if page.is_text or settings.extractor not in ("blocks", "all"):
        return [Segment(source)]
    return mark_source(source, page.content_type, all_blocks=settings.extractor == "all")


def _changes(before: str, after: str) -> list[Row]:
    """The rows in which a step changed a text; of a text that is new there are none."""
    if not before or before == after:
        return []
    return [row for row in side_by_side(before, after) if row.differs][:SHOWN_ROWS]


def _cut(segments: list[Segment]) -> tuple[list[Segment], bool]:
    """The segments up to SHOWN_CHARS characters, and whether there are more."""
    shown: list[Segment] = []
    left = SHOWN_CHARS
    for segment in segments:
        if left <= 0:
            return shown, True
        shown.append(replace(segment, text=segment.text[:left]))
        left -= len(segment.text)
    return shown, left < 0
