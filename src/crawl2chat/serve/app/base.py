"""The page Base: what a base model is like, as the run measured it and as it is now."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field
from starlette.requests import Request
from starlette.responses import Response

from crawl2chat.evals.base.continuation import COMPARED_PROMPTS, prompt_of, words_right
from crawl2chat.evals.base.in_context import CONTROLS, answer_tokens, meaning_on_page
from crawl2chat.generate import Sampling
from crawl2chat.serve.api.requests import Strict
from crawl2chat.serve.app import base_now
from crawl2chat.serve.app.base_files import BaseFiles, departure
from crawl2chat.serve.app.context import AppContext
from crawl2chat.serve.app.sampling import LastLogits
from crawl2chat.serve.errors import file_errors
from crawl2chat.serve.http import cancel_on_disconnect, client_address, get, post
from crawl2chat.stages.files import StageError
from crawl2chat.tokenizer import Tokenizer

MAX_TEXT = 20_000  # characters of a text to compress
MAX_PAGE = 20_000
MAX_ROWS = 100
FACT_TOKENS = 12  # of a value

Name = Annotated[str, Field(max_length=200)]
Page = Annotated[str, Field(min_length=1, max_length=MAX_PAGE)]
Row = Annotated[int, Field(ge=0, lt=1 << 40)]
Limit = Annotated[int, Field(ge=1, le=MAX_ROWS)]
View = Literal["compression", "recitation", "knowledge", "games", "letters"]


def _letters(text: str) -> str:
    if not text.isalpha():
        raise ValueError("expected letters only, without spaces")
    return text


class FiguresRequest(Strict):
    view: View
    outside: Name = ""  # the model from elsewhere whose figures of `eval` are wanted, and not those of the stage


class PassagesRequest(Strict):
    copies: Annotated[int, Field(ge=0, lt=1 << 40)] | None = None
    of: Name = "beginning"  # how the passages were prompted
    offset: Row = 0
    limit: Limit = 50


class RowRequest(Strict):
    row: Row


class GamesRequest(Strict):
    group: Name
    offset: Row = 0
    limit: Limit = 50


class AnswersRequest(Strict):
    outside: Name
    part: Name
    offset: Row = 0
    limit: Limit = 50


class PeopleRequest(Strict):
    bucket: Name = ""
    offset: Row = 0
    limit: Limit = 50


class CompressRequest(Strict):
    model: Name | None = None
    text: Annotated[str, Field(min_length=1, max_length=MAX_TEXT)]


class GoOnRequest(Strict):
    model: Name | None = None
    row: Row


class CompleteRequest(Strict):
    model: Name | None = None
    text: Page
    expected: Name = ""


class PlayRequest(Strict):
    model: Name | None = None
    group: Name
    text: Page


class CountRequest(Strict):
    model: Name | None = None
    word: Annotated[str, Field(max_length=60), AfterValidator(_letters)]
    letter: Annotated[str, Field(max_length=1), AfterValidator(_letters)]


class BasePage:
    def __init__(self, context: AppContext) -> None:
        self.pool = context.pool
        self.files = BaseFiles(context.run)
        self.logits = LastLogits()

    @get("/app/base/about")
    def about(self, request: Request) -> dict[str, Any]:
        """What there is to see, or which command would measure it; and texts to begin with."""
        with file_errors():
            return {
                "problem": self.files.problem(),
                "measured": self.files.manifest is not None,
                "outside": list(self.files.outside()),
                "has": self.files.has(),
                "texts": self.files.texts(),
            }

    @post("/app/base/figures", FiguresRequest)
    def figures(self, request: Request, body: FiguresRequest) -> dict[str, Any]:
        """The parts of the suite that a view shows: plots, how to read them, and all figures.

        complete: whether what the view is called after was measured.
        """
        with file_errors():
            parts, complete = self.files.parts(body.view, body.outside)
        return {"parts": parts, "complete": complete}

    @post("/app/base/passages", PassagesRequest)
    def passages(self, request: Request, body: PassagesRequest) -> dict[str, Any]:
        """Passages by their beginnings, those with most copies first, and how many are recited by number of copies."""
        with file_errors():
            rows, about = self.files.passages(body.copies, body.of)
        return {**about, **_part(rows, body.offset, body.limit)}

    @post("/app/base/passage", RowRequest)
    def passage(self, request: Request, body: RowRequest) -> dict[str, Any]:
        """One passage: what was given, how the model went on, and where it departs."""
        with file_errors():
            return self.files.passage(body.row)

    @post("/app/base/go-on", GoOnRequest)
    async def go_on(self, request: Request, body: GoOnRequest) -> Response:
        """Any model's continuation of a passage, prompted as the stage did, and how far it is right."""
        with file_errors():
            row = await asyncio.to_thread(self.files.passage, body.row)
        loaded = await self.pool.load(body.model)
        ids = loaded.model.tokenizer.encode(row["passage"])
        begin = 0 if row["of"] == "beginning" else max(COMPARED_PROMPTS) - row["prompt_tokens"]
        end = begin + row["prompt_tokens"]
        prompt = prompt_of(loaded.model.tokenizer, ids, begin, end)
        sampling = Sampling(temperature=0, max_tokens=max(0, len(ids) - end) + 2)

        def at_end(text: str) -> dict[str, Any]:
            right = words_right(row["rest"], text)
            return {"words_right": right, "words": row["words"], "departs": departure(row["rest"], right)}

        return base_now.continued(loaded, prompt, sampling, request, at_end, "row")

    @post("/app/base/games", GamesRequest)
    def games(self, request: Request, body: GamesRequest) -> dict[str, Any]:
        """The pages of a group with their answers, each with the control that asks on the same page."""
        with file_errors():
            rows = self.files.pages_of(body.group)
            kind, _, shots = body.group.partition("/")
            controls = self.files.pages_of(f"{CONTROLS.get(kind, '')}/{shots}")
            groups = self.files.groups()
        found = _part(rows, body.offset, body.limit)
        beside = controls[body.offset : body.offset + body.limit] if len(controls) == len(rows) else []
        for row, (number, control) in zip(found["rows"], beside, strict=False):
            row["control"] = {"row": number, **asdict(control)}
        return {"groups": groups, "controls": CONTROLS, **found}

    @post("/app/base/game", RowRequest)
    def game(self, request: Request, body: RowRequest) -> dict[str, Any]:
        """One page of a game as the model read it, what it said, and what would have been right."""
        with file_errors():
            return self.files.page(body.row)

    @post("/app/base/play", PlayRequest)
    async def play(self, request: Request, body: PlayRequest) -> Response:
        """A model's answer to a page of a group's kind, and what the page says where that can be read from it."""
        loaded = await self.pool.load(body.model)
        prompt = _document(loaded.model.tokenizer, body.text)
        wanted = None if body.group.startswith("phrase") else meaning_on_page(body.text)
        sampling = base_now.short_answer(answer_tokens(body.group))

        def at_end(text: str) -> dict[str, Any]:
            return {"expected": wanted, "right": None if wanted is None else text.strip() == wanted}

        return base_now.continued(loaded, prompt, sampling, request, at_end, "text")

    @post("/app/base/answers", AnswersRequest)
    def answers(self, request: Request, body: AnswersRequest) -> dict[str, Any]:
        """What a model from elsewhere answered in one part of `eval --suite base`."""
        with file_errors():
            numbers = self.files.answers(body.outside, body.part)
            shown = numbers[body.offset : body.offset + body.limit]
            rows = self.files.answer_rows(body.outside, shown)
        return {"total": len(numbers), "offset": body.offset, "rows": rows}

    @post("/app/base/answer-parts", FiguresRequest)
    def answer_parts(self, request: Request, body: FiguresRequest) -> dict[str, Any]:
        """The parts of a view of which a model from elsewhere has answers."""
        with file_errors():
            return {"parts": self.files.answer_parts(body.outside, body.view)}

    @post("/app/base/people", PeopleRequest)
    def people(self, request: Request, body: PeopleRequest) -> dict[str, Any]:
        """People of the made-up web by the number of pages about them, those with most first."""
        with file_errors():
            people = self.files.people()
        everybody = people.everybody if people else []
        chosen = [person for person in everybody if body.bucket in ("", person.bucket)]
        shown = [asdict(person) for person in chosen[body.offset : body.offset + body.limit]]
        buckets = Counter(person.bucket for person in everybody)
        return {"buckets": buckets, "total": len(chosen), "offset": body.offset, "rows": shown}

    @post("/app/base/person", RowRequest)
    def person(self, request: Request, body: RowRequest) -> dict[str, Any]:
        """Sentences about a person, each up to where a fact follows."""
        with file_errors():
            people = self.files.people()
            if people is None:
                raise StageError("this run's pages are not those of the made-up web, whose people are known")
            somebody, sentences = people.sentences(body.row)
        return {**asdict(somebody), "sentences": [asdict(sentence) for sentence in sentences]}

    @post("/app/base/complete", CompleteRequest)
    async def complete(self, request: Request, body: CompleteRequest) -> Response:
        """How a model ends a sentence, and how probable it finds the end that is expected."""
        loaded = await self.pool.load(body.model)
        prompt = _document(loaded.model.tokenizer, body.text)
        p = None
        if body.expected:
            p = await base_now.probability(loaded, prompt, body.expected, client_address(request))

        def at_end(text: str) -> dict[str, Any]:
            return {"probability": p, "right": text.strip() == body.expected if body.expected else None}

        sampling = base_now.short_answer(FACT_TOKENS)
        return base_now.continued(loaded, prompt, sampling, request, at_end, "text")

    @post("/app/base/compress", CompressRequest)
    async def compress(self, request: Request, body: CompressRequest) -> Response:
        """The bits that each token of a text costs, and what programs make of the text."""
        loaded = await self.pool.load(body.model)
        work = base_now.compress(loaded, body.text, client_address(request))
        return await cancel_on_disconnect(request, work)

    @post("/app/base/count", CountRequest)
    async def count(self, request: Request, body: CountRequest) -> dict[str, Any]:
        """How a word is cut, and how often a model finds a letter in it."""
        loaded = await self.pool.load(body.model)
        return await base_now.count(loaded, self.logits, body.word, body.letter, client_address(request))


def _document(tokenizer: Tokenizer, text: str) -> list[int]:
    """A text as the beginning of a document."""
    return [tokenizer.bos_id, *tokenizer.encode(text)]


def _part(rows: Sequence[tuple[int, Any]], offset: int, limit: int) -> dict[str, Any]:
    """Some of the rows of a file, with their numbers in it."""
    shown = [{"row": number, **asdict(row)} for number, row in rows[offset : offset + limit]]
    return {"total": len(rows), "offset": offset, "rows": shown}
