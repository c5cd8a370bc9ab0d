"""The page Data: the funnel of a run, any page of it with the steps that it went through, thresholds, copies, search.

Only files of the run are read, and of large tables only the rows that are shown. Pages of the web are sent as text.
"""

import threading
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from crawl2chat.crawl import Fault, Page, Place, list_warcs, read_record
from crawl2chat.refine import funnel
from crawl2chat.refine.browse import Refined
from crawl2chat.refine.differences import Row
from crawl2chat.refine.explain import find_limit
from crawl2chat.refine.inspection import SHOWN_CHARS, Inspection, Inspector
from crawl2chat.refine.measures import BY_REASON, MAX_CHARS, RULES, Measured
from crawl2chat.refine.rules import Text
from crawl2chat.refine.settings import RefineSettings, for_language
from crawl2chat.refine.stage import warc_name
from crawl2chat.refine.steps import DEDUP_STEPS, step_names
from crawl2chat.search import SearchIndex, open_index
from crawl2chat.serve.api.requests import Strict
from crawl2chat.serve.app.context import AppContext
from crawl2chat.serve.errors import bad_request, file_errors
from crawl2chat.serve.http import get, post, tensors
from crawl2chat.stages.files import StageError
from crawl2chat.stages.stage import read_manifest

MAX_ROWS = 200  # in one answer
MAX_FIND = 200  # characters
SAMPLE = 1000  # documents on which a rule's values are measured
MAX_VALUES = 20_000  # of dropped pages that are sent
MAX_PASSAGES = 50
SNIPPET = 160  # characters of a document in a list

Table = Literal["kept", "dropped"]
Offset = Annotated[int, Field(ge=0, lt=1 << 40)]
Limit = Annotated[int, Field(ge=1, le=MAX_ROWS)]
Short = Annotated[str, Field(max_length=MAX_FIND)]


class ListRequest(Strict):
    table: Table
    step: Short = ""
    reason: Short = ""
    find: Short = ""  # in the address
    offset: Offset = 0
    limit: Limit = 50


class PageRequest(Strict):
    table: Table
    row: Offset


class ValuesRequest(Strict):
    reason: Short


class ClustersRequest(Strict):
    offset: Offset = 0
    limit: Limit = 50


class CopiesRequest(Strict):
    row: Offset  # of the document that stayed
    offset: Offset = 0
    limit: Limit = 50


class CompareRequest(Strict):
    kept: Offset
    copy_row: Offset


class SearchRequest(Strict):
    query: Annotated[str, Field(min_length=1, max_length=1000)]
    limit: Annotated[int, Field(ge=1, le=MAX_PASSAGES)] = 10


class DataPage:
    """Everything is opened when it is first asked for, and again when the stage was made again."""

    def __init__(self, context: AppContext) -> None:
        self.run = context.run
        self._lock, self._indexing = threading.Lock(), threading.Lock()
        self._refined: Refined | None = None
        self._inspector: Inspector | None = None
        self._index: SearchIndex | None = None
        self._values: dict[str, tuple[dict[str, Any], dict[str, np.ndarray]]] = {}

    @get("/app/data/about")
    def about(self, request: Request) -> dict[str, Any]:
        """The funnel, and which thresholds can be moved."""
        with file_errors():
            refined = self._open()
            settings = self._settings()
        table = refined.funnel
        rules = [
            {
                "reason": rule.reason, "step": rule.step, "name": rule.name, "says": rule.says,
                "at_least": rule.at_least, "threshold": threshold,
            }
            for rule in RULES
            if (threshold := rule.threshold(settings)) is not None
        ]  # fmt: skip
        return {
            **{name: table[name] for name in ("pages", "faults", "kept", "characters_kept", "masked")},
            "lines_dropped": table["lines_dropped"],
            "other_records": table["records_that_are_no_pages"],
            "rows": [vars(row) for row in funnel.rows(table)],
            "languages": settings.languages,
            "rules": rules,
        }

    @post("/app/data/list", ListRequest)
    def list_rows(self, request: Request, body: ListRequest) -> dict[str, Any]:
        """Some rows of a table: numbers, addresses, and why pages were dropped."""
        with file_errors():
            refined = self._open()
            table = refined.table(body.table)
            chosen = refined.matching(body.table, body.step, body.reason, body.find)
            total = len(table) if chosen is None else len(chosen)
            numbers = range(body.offset, min(body.offset + body.limit, total))
            rows = numbers if chosen is None else chosen[numbers.start : numbers.stop].tolist()
            columns = ["url", "step", "reason", "value", "snippet"]
            if body.table == "kept":
                columns = ["url", "language", "copies", "text"]
            found = table.rows(rows, columns)
        for row in found:
            if body.table == "kept":
                row["snippet"] = " ".join(row.pop("text")[: 2 * SNIPPET].split())[:SNIPPET]
        return {"total": total, "offset": body.offset, "rows": found}

    @post("/app/data/page", PageRequest)
    def page(self, request: Request, body: PageRequest) -> dict[str, Any]:
        """What the run has of a page: the document, or why it was dropped."""
        with file_errors():
            refined = self._open()
            row = self._row(refined, body.table, body.row)
            copied = refined.row_of(row["copy_of"]) if row.get("copy_of") else None
        text = row.pop("text", "")
        return {
            **row,
            "table": body.table,
            "text": text[:SHOWN_CHARS],
            "characters": len(text),
            "copy_of": copied,
        }

    @post("/app/data/inspect", PageRequest)
    def inspect(self, request: Request, body: PageRequest) -> dict[str, Any]:
        """The page's source and its way through the steps, taken now with the run's settings."""
        with file_errors():
            refined = self._open()
            row = self._row(refined, body.table, body.row)
            page = self._read(row)
            inspector = self._inspect()
            found = inspector.inspect(page)
        return _describe(page, found, inspector.settings, row if body.table == "dropped" else None)

    @post("/app/data/values", ValuesRequest)
    def values(self, request: Request, body: ValuesRequest) -> Response:
        """What a rule found: on a sample of the documents, measured now, and on the pages that it dropped."""
        rule = BY_REASON.get(body.reason)
        if rule is None:
            raise bad_request(f"reason = {body.reason!r}: no rule with a threshold drops pages for it", "reason")
        with file_errors():
            refined = self._open()
            if body.reason in self._values:
                return tensors(*self._values[body.reason])
            settings = self._settings()
            documents = refined.kept.sample(SAMPLE, ["text", "language"])
            measured = []
            for document in documents:
                text = Measured(Text.of(document["text"]), document["language"])
                value = rule.value(text, settings) if len(document["text"]) <= MAX_CHARS else None
                if value is not None:
                    measured.append((document["row"], value))
            dropped, values = refined.values(rule.reason)
        if len(dropped) > MAX_VALUES:
            picked = np.random.default_rng(0).choice(len(dropped), MAX_VALUES, replace=False)
            picked.sort()
            sent, sent_values = dropped[picked], values[picked]
        else:
            sent, sent_values = dropped, values
        header = {
            "reason": rule.reason, "name": rule.name, "says": rule.says, "at_least": rule.at_least,
            "threshold": rule.threshold(settings), "kept": len(refined.kept), "measured": len(measured),
            "dropped": len(dropped), "pages": refined.funnel["pages"],
        }  # fmt: skip
        arrays = {
            "kept_rows": np.array([row for row, _ in measured], np.float64),
            "kept_values": np.array([value for _, value in measured], np.float64),
            "dropped_rows": sent.astype(np.float64),
            "dropped_values": sent_values,
        }
        self._values[body.reason] = header, arrays
        return tensors(header, arrays)

    @post("/app/data/clusters", ClustersRequest)
    def clusters(self, request: Request, body: ClustersRequest) -> dict[str, Any]:
        """Documents of which copies were dropped, those with most copies first."""
        with file_errors():
            refined = self._open()
            rows, copies = refined.clusters()
            part = slice(body.offset, body.offset + body.limit)
            found = refined.kept.rows(rows[part].tolist(), ["url", "copies", "text"])
        for row in found:
            row["snippet"] = " ".join(row.pop("text")[: 2 * SNIPPET].split())[:SNIPPET]
        return {"total": len(rows), "copies": int(copies.sum()), "offset": body.offset, "rows": found}

    @post("/app/data/copies", CopiesRequest)
    def copies(self, request: Request, body: CopiesRequest) -> dict[str, Any]:
        """The pages that were dropped as copies of one document."""
        with file_errors():
            refined = self._open()
            document = self._row(refined, "kept", body.row)
            rows = refined.copies_of(document["id"])
            found = refined.dropped.rows(rows[body.offset : body.offset + body.limit].tolist(), ["url", "step"])
        return {"total": len(rows), "offset": body.offset, "rows": found}

    @post("/app/data/compare", CompareRequest)
    def compare(self, request: Request, body: CompareRequest) -> dict[str, Any]:
        """A document next to the text of a copy, which is extracted again, with what differs marked."""
        with file_errors():
            refined = self._open()
            document = self._row(refined, "kept", body.kept)
            copy = self._row(refined, "dropped", body.copy_row)
            if copy["copy_of"] != document["id"]:
                raise bad_request(f"copy_row = {body.copy_row}: is not a copy of that document", "copy_row")
            rows = self._inspect().compare(self._read(copy), document["text"][:SHOWN_CHARS])
        return {"urls": [document["url"], copy["url"]], "rows": _rows(rows)}

    @post("/app/data/search", SearchRequest)
    def search(self, request: Request, body: SearchRequest) -> dict[str, Any]:
        """The best passages for a query, each with the row of its document; the first search may build the index."""
        with file_errors():
            refined = self._open()
            with self._indexing:
                if self._index is None:
                    self._index = open_index(refined.folder, keep=False)
                index = self._index
            passages = index.best(body.query, body.limit)
            rows = [passage.page - 1 for passage in passages]  # pages are counted from 1, in the order of the rows
            urls = refined.kept.rows(rows, ["url"])
        return {
            "passages": [
                {"text": p.text, "title": p.title, "url": p.address, "row": row if found["url"] == p.address else None}
                for p, row, found in zip(passages, rows, urls, strict=True)
            ]
        }

    # what these share

    def _open(self) -> Refined:
        """Raises StageError where there is nothing to look at."""
        if self.run is None:
            raise StageError("this is one model and not a run, so there are no pages to look at")
        with self._lock:
            if self._refined is None or not self._refined.is_current:
                if self._inspector is not None:
                    self._inspector.close()
                self._inspector, self._index = None, None
                self._values.clear()
                self._refined = Refined(self.run / "refine")
            return self._refined

    def _settings(self) -> RefineSettings:
        """Those that the stage was run with."""
        assert self.run is not None
        manifest = read_manifest(self.run / "refine")
        return RefineSettings.model_validate(manifest.settings) if manifest else RefineSettings()

    def _inspect(self) -> Inspector:
        assert self.run is not None
        with self._lock:
            if self._inspector is None:
                self._inspector = Inspector(self.run / "crawl", self._settings())
            return self._inspector

    def _row(self, refined: Refined, table: Table, row: int) -> dict[str, Any]:
        if row >= len(refined.table(table)):
            raise bad_request(f"row = {row}: there are {len(refined.table(table)):,} {table} pages", "row")
        columns = ["url", "step", "reason", "value", "detail", "snippet", "copy_of", "place"]
        if table == "kept":
            columns = ["id", "url", "text", "language", "language_score", "quality", "place", "copies"]
        return refined.table(table).rows([row], columns)[0]

    def _read(self, row: dict[str, Any]) -> Page:
        """The page as it was crawled. Raises StageError where it can't be had."""
        assert self.run is not None
        place, crawl = Place(**row["place"]), self.run / "crawl"
        if not crawl.is_dir():
            raise StageError("the crawled pages of this run are not here: its folder crawl is missing")
        file = next((path for path in list_warcs(crawl) if warc_name(path, crawl) == place.warc), None)
        if file is None:
            raise StageError(f"{place.warc}: this WARC file is not among those of the crawl stage any more")
        if "://" in file:
            raise StageError(
                f"{file}: this page lies on another machine, which the app does not ask; "
                f"crawl2chat refine RUN --explain '{row['url']}' does"
            )
        found = read_record(file, place, max_record_bytes=self._settings().max_record_bytes)
        if isinstance(found, Fault):
            raise StageError(f"there is no page here that could be read: {found.reason} ({found.detail})")
        if found is None:
            raise StageError(f"{place.warc}: holds no page at byte {place.offset:,} any more")
        return found


def _describe(
    page: Page, found: Inspection, settings: RefineSettings, rejected: dict[str, Any] | None
) -> dict[str, Any]:
    """rejected: what the run has of a page that it dropped."""
    steps = [
        {
            "step": step.report.step,
            "dropped": step.report.verdict.dropped,
            "reason": step.report.verdict.reason,
            "value": step.report.verdict.value,
            "detail": step.report.verdict.detail.partition("\n")[0],
            "note": step.report.note,
            "seconds": round(step.report.seconds, 6),
            "limit": _limit(step.report.verdict.reason, for_language(settings, step.report.language)),
            "values": [
                {
                    "reason": value.reason, "name": value.rule.name, "says": value.rule.says, "value": value.value,
                    "threshold": value.threshold, "at_least": value.rule.at_least, "keeps": value.keeps,
                }
                for value in step.values
            ],
            "changes": _rows(step.changes),
        }
        for step in found.steps
    ]  # fmt: skip
    last = found.steps[-1].report
    names = step_names(settings)
    alone = rejected is not None and rejected["step"] not in (*DEDUP_STEPS, "classifier", "read")
    then = (rejected["step"], rejected["reason"]) if alone and rejected is not None else ("", "")
    now = (last.step, last.verdict.reason) if last.verdict.dropped else ("", "")
    return {
        "status": page.status,
        "content_type": page.content_type,
        "bytes": len(page.body),
        "date": page.date,
        "steps": steps,
        "not_taken": names[names.index(last.step) + 1 :] if last.verdict.dropped else [],
        "as_in_the_run": now == then,
        "source": [
            {"text": s.text, "kept": s.kept, "score": s.score, "element": s.element} for s in found.source
        ],
        "text": found.text,
        "is_cut": found.is_cut,
    }  # fmt: skip


def _limit(reason: str | None, settings: RefineSettings) -> dict[str, Any] | None:
    found = find_limit(reason, settings) if reason else None
    return {"name": found[0], "value": str(found[1])} if found else None


def _rows(rows: list[Row]) -> list[list[Any]]:
    """Each row as its two sides, each a list of [text, whether it differs], or null."""
    return [[row.left, row.right] for row in rows]
