"""The page Honesty: what a model knows, asked now; and what the stage honesty measured before and after."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, FiniteFloat
from starlette.requests import Request
from starlette.responses import Response

from crawl2chat.chat.talk import Talk
from crawl2chat.evals.judging import FACT_TOKENS, Question, is_refusal, mentions, question_prompt
from crawl2chat.generate import Sampling
from crawl2chat.honesty.identity import IDENTITY_TOKENS
from crawl2chat.honesty.probe import cluster, judged, knowledge
from crawl2chat.honesty.search import SearchIndex as Paragraphs
from crawl2chat.honesty.search import find_index, shown
from crawl2chat.search import SearchIndex, open_index
from crawl2chat.serve.admission import Generation
from crawl2chat.serve.api.prompts import check_prompt
from crawl2chat.serve.api.requests import ChatRequest, Strict
from crawl2chat.serve.app.context import AppContext
from crawl2chat.serve.app.honesty_files import KINDS, NO_STAGE, HonestyFiles
from crawl2chat.serve.engine_thread import GenerationRequest
from crawl2chat.serve.errors import ApiError, bad_request, file_errors
from crawl2chat.serve.http import EventStream, client_address, get, post
from crawl2chat.serve.model_pool import LoadedModel, ServedModel
from crawl2chat.serve.run_tools import AnswerWithTools, RunTools
from crawl2chat.stages.files import StageError

MAX_SAMPLES = 100
MAX_QUESTION = 4000  # characters
MAX_ROWS = 200  # in one answer
MAX_PASSAGES = 20
PING_SECONDS = 15.0
SEARCH_TOKENS = 128  # of an answer to a question with search

Text = Annotated[str, Field(min_length=1, max_length=MAX_QUESTION)]
Name = Annotated[str, Field(max_length=200)]
Offset = Annotated[int, Field(ge=0, lt=1 << 40)]
Limit = Annotated[int, Field(ge=1, le=MAX_ROWS)]
Kind = Literal["", "right", "refused", "wrong"]


class AskRequest(Strict):
    model: Name | None = None
    question: Text
    answers: Annotated[list[Name], Field(default_factory=list, max_length=20)]  # accepted; none: those of the run
    samples: Annotated[int, Field(ge=2, le=MAX_SAMPLES)] = 30
    temperature: Annotated[FiniteFloat, Field(gt=0, le=2)] = 0.7
    seed: Annotated[int, Field(ge=0, lt=1 << 62)] = 0


class ProbesRequest(Strict):
    knowledge: Literal["", "known", "maybe", "unknown"] = ""
    group: Name = ""
    offset: Offset = 0
    limit: Limit = 50


class AnswersRequest(Strict):
    group: Name = ""
    before: Kind = ""
    after: Kind = ""
    offset: Offset = 0
    limit: Limit = 50


class SearchRequest(Strict):
    query: Text
    limit: Annotated[int, Field(ge=1, le=MAX_PASSAGES)] = 5


class LookUpRequest(Strict):
    model: Name | None = None
    question: Text


class IdentityRequest(Strict):
    model: Name | None = None
    taught: bool = False  # the wordings that were taught, and not those that were kept back


class HonestyPage:
    def __init__(self, context: AppContext) -> None:
        self.context, self.pool = context, context.pool
        self.files = HonestyFiles(context.run, context.folder)
        self.tools = RunTools(("search", "calculator"), context.folder)
        self._index: SearchIndex | None = None

    @get("/app/honesty/about")
    def about(self, request: Request) -> dict[str, Any]:
        """What there is to see, how the stage decides what is known, and questions to begin with."""
        with file_errors():
            settings, card = self.files.settings, self.files.card
            return {
                "is_run": self.context.run is not None,
                "measured": self.files.manifest is not None,
                "why_not": None if self.files.manifest else NO_STAGE,
                "known_from": settings.known_from,
                "unknown_to": settings.unknown_to,
                "temperature": settings.temperature,
                "samples": settings.samples,
                "wordings": settings.wordings,
                "measured_samples": settings.measured_samples,
                "card": card.model_dump() if card else None,
                "figures": self.files.figures(),
                "coverage": self.files.coverage(),
                "suggestions": self.files.suggestions(),
            }

    @post("/app/honesty/ask", AskRequest)
    async def ask(self, request: Request, body: AskRequest) -> Response:
        """Many answers to one question as events, each with the cluster that it falls into among those so far."""
        with file_errors():
            row = await asyncio.to_thread(self.files.row_of, body.question)
            settings = await asyncio.to_thread(lambda: self.files.settings)
        accepted = tuple(filter(None, (answer.strip() for answer in body.answers))) or (row.answers if row else ())
        question = Question(body.question, accepted, row.group if row else "")
        wordings = row.wordings if row else (body.question,)
        loaded = await self.pool.load(body.model)
        sampling = Sampling(body.temperature, max_tokens=FACT_TOKENS, seed=body.seed)
        generation = _admit(loaded, [body.question], sampling, body.samples, client_address(request))

        async def events() -> AsyncGenerator[list[dict[str, Any]], None]:
            texts: dict[int, str] = {}
            async for ended in _finished(generation):
                texts |= ended
                order = sorted(texts)
                numbers = cluster([texts[i] for i in order], wordings)
                yield (
                    [
                        {
                            "answers": [
                                {
                                    "index": i,
                                    "text": text,
                                    "right": question.accepts(text, mentions),
                                    "refused": is_refusal(text),
                                }
                                for i, text in ended.items()
                            ],
                            "clusters": dict(zip(map(str, order), numbers, strict=True)),
                        }
                    ]
                    if ended
                    else []
                )
            found = judged((question,), tuple(texts[i] for i in sorted(texts)), wordings)
            yield [
                {
                    "said": found.said,
                    "agreement": found.agreement,
                    "refused": found.refused,
                    "expected": question.expected if row or accepted else None,
                    "right_share": found.right_share if accepted else None,
                    "knowledge": knowledge(found, settings.known_from, settings.unknown_to) if accepted else None,
                }
            ]

        return EventStream(events(), generation.close)

    @post("/app/honesty/probes", ProbesRequest)
    def probes(self, request: Request, body: ProbesRequest) -> dict[str, Any]:
        """Facts that the stage asked about, with what it decided of each."""
        with file_errors():
            rows, about = self.files.probes(body.knowledge, body.group)
        return {**about, **_part(rows, body.offset, body.limit)}

    @post("/app/honesty/answers", AnswersRequest)
    def answers(self, request: Request, body: AnswersRequest) -> dict[str, Any]:
        """Answers to the held-out questions before and after, side by side."""
        with file_errors():
            rows, about = self.files.answers(body.group, body.before, body.after)
        return {"kinds": KINDS, **about, **_part(rows, body.offset, body.limit)}

    @post("/app/honesty/search", SearchRequest)
    def search(self, request: Request, body: SearchRequest) -> dict[str, Any]:
        """What a search finds: the passage that a model of this run gets to read, and the best ones in order."""
        with file_errors():
            index = self._search_index()
            found = index.best(body.query, body.limit)
            reads = shown(body.query, index.find(body.query)) if isinstance(index, Paragraphs) else None
        passages = [{"page": p.page, "title": p.title, "text": p.text, "url": p.address} for p in found]
        return {"reads": reads, "passages": passages}

    @post("/app/honesty/look-up", LookUpRequest)
    async def look_up(self, request: Request, body: LookUpRequest) -> Response:
        """A model's answer while it may search: its text as it comes; at the end its calls and what it read."""
        if self.files.manifest is None:
            raise ApiError(409, "models search in an index that the stage honesty makes, which this run does not have")
        loaded = await self.pool.load(body.model)
        if loaded.model.base:
            raise bad_request("model: a base model calls no tools; choose one that chats", "model")
        asked = ChatRequest(
            messages=[{"role": "user", "content": body.question}], temperature=0.0, max_tokens=SEARCH_TOKENS
        )
        answer = AnswerWithTools(loaded, asked, self.tools, self.tools.names)

        async def events() -> AsyncGenerator[list[dict[str, Any]], None]:
            async for text in answer.pieces(request, PING_SECONDS):
                yield [{"text": text}] if text else []
            yield [{"steps": answer.steps, "passages": answer.passages, "sources": answer.sources, "text": ""}]

        return EventStream(events())

    @get("/app/honesty/identity")
    def identity(self, request: Request) -> dict[str, Any]:
        """The wordings that ask a model who it is, with its answers before and after where they were asked."""
        with file_errors():
            return {"rows": self.files.identity()}

    @post("/app/honesty/who", IdentityRequest)
    async def who(self, request: Request, body: IdentityRequest) -> Response:
        """A model's most probable answers to those wordings, as they come."""
        with file_errors():
            rows = await asyncio.to_thread(self.files.identity)
        asked = [row for row in rows if row["taught"] == body.taught]
        loaded = await self.pool.load(body.model)
        sampling = Sampling(temperature=0, max_tokens=IDENTITY_TOKENS)
        generation = _admit(loaded, [row["question"] for row in asked], sampling, 1, client_address(request))

        async def events() -> AsyncGenerator[list[dict[str, Any]], None]:
            async for ended in _finished(generation):
                yield [
                    {
                        "question": asked[i]["question"],
                        "text": text,
                        "right": mentions(text, asked[i]["expected"]) if asked[i]["expected"] else None,
                    }
                    for i, text in ended.items()
                ]

        return EventStream(events(), generation.close)

    def _search_index(self) -> SearchIndex:
        """The index that the stage honesty made for its models, else one of the run's documents."""
        if self._index is None:
            made = find_index(self.context.folder)
            if made is not None:
                self._index = Paragraphs(made)
            elif self.context.run is not None and (self.context.run / "refine" / "documents").is_dir():
                self._index = open_index(self.context.run / "refine", keep=False)
            else:
                raise StageError("there are no documents here to search: the stage refine of a run writes them")
        return self._index


def _admit(
    loaded: LoadedModel, questions: Sequence[str], sampling: Sampling, samples: int, client: str | None
) -> Generation:
    """Each question by itself, `samples` times; prompts are those of the stage, but for a base model a page with a
    helper who answers.
    """
    model = loaded.model
    stop = ("\n",) if model.base else ()
    sampling = Sampling(sampling.temperature, max_tokens=sampling.max_tokens, seed=sampling.seed, stop=stop)
    wanted: list[GenerationRequest] = []
    for question in questions:
        prompt = _prompt(model, question)
        check_prompt(model, prompt, "question")
        wanted += [GenerationRequest(prompt, sampling, len(wanted) + i) for i in range(samples)]
    return loaded.admission.admit(wanted, client)


def _prompt(model: ServedModel, question: str) -> list[int]:
    if model.base:
        return Talk(model.engine, Sampling(), base=True).prompt([{"role": "user", "content": question}])
    return question_prompt(model.tokenizer, question)


async def _finished(generation: Generation) -> AsyncGenerator[dict[int, str], None]:
    """The answers that have ended since the last time, by their index; none as a sign of life."""
    texts: dict[int, str] = {}
    async for arrived in generation.deltas(PING_SECONDS):
        ended = {}
        for index, delta in arrived:
            texts[index] = texts.get(index, "") + delta.text
            if delta.finish_reason is not None:
                ended[index] = texts.pop(index).strip()
        if ended or not arrived:
            yield ended


def _part(rows: Sequence[dict[str, Any]], offset: int, limit: int) -> dict[str, Any]:
    return {"total": len(rows), "offset": offset, "rows": list(rows[offset : offset + limit])}
