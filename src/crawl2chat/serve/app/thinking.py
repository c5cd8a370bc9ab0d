"""The page Thinking: the same problem at once, step by step and with the calculator, and what the run measured of it.

A token buys one pass through the network. What is asked here is asked as the run's stages ask it.
"""

import asyncio
from bisect import bisect_left
from collections.abc import AsyncGenerator, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, FiniteFloat
from starlette.requests import Request
from starlette.responses import Response

from crawl2chat.chat.asking import WAYS, ask_in_way
from crawl2chat.chat.steps import Fault, first_fault
from crawl2chat.chat.tools import parse_reply
from crawl2chat.evals.base.spelling_and_sums import AT_ONCE, STEP_BY_STEP, SumInText
from crawl2chat.evals.judging import SUM_TOKENS, reference_part
from crawl2chat.evals.tasks import Problem, judge
from crawl2chat.generate import Sampling
from crawl2chat.honesty.lessons import TOOLS
from crawl2chat.honesty.search import find_index
from crawl2chat.serve.api.prompts import chat_prompt, completion_prompts
from crawl2chat.serve.api.requests import ChatRequest, CompletionRequest, Strict
from crawl2chat.serve.api.responses import finite_logprob
from crawl2chat.serve.app.context import AppContext
from crawl2chat.serve.app.thinking_files import NO_PROBLEMS, NOT_MEASURED, ThinkingFiles
from crawl2chat.serve.engine_thread import GenerationRequest
from crawl2chat.serve.errors import ApiError, bad_request, file_errors
from crawl2chat.serve.http import EventStream, client_address, describe_token, get, post
from crawl2chat.serve.model_pool import LoadedModel, ServedModel
from crawl2chat.serve.run_tools import AnswerWithTools, Round, RunTools
from crawl2chat.tokenizer import Message

MAX_DRAWS = 50
MAX_PROBLEM = 4000  # characters
MAX_TOKENS = 2048  # of an answer
PING_SECONDS = 15.0
SEEDS = 1 << 62
IN_TEXT: dict[str, SumInText] = {"at once": AT_ONCE, "step by step": STEP_BY_STEP}  # how a base model is asked

Way = Literal["at once", "step by step", "calculator"]
Name = Annotated[str, Field(max_length=200)]
Events = list[dict[str, Any]]


class ProblemRequest(Strict):
    group: Name
    place: Annotated[int, Field(ge=0, lt=1 << 31)]


class WaysRequest(Strict):
    model: Name | None = None


class AnswerRequest(Strict):
    model: Name | None = None
    way: Way
    question: Annotated[str, Field(min_length=1, max_length=MAX_PROBLEM)]
    answers: Annotated[list[Name], Field(default_factory=list, max_length=20)]  # right ones; none: those of the run
    draws: Annotated[int, Field(ge=1, le=MAX_DRAWS)] = 1
    temperature: Annotated[FiniteFloat, Field(ge=0, le=2)] = 0.0
    max_tokens: Annotated[int, Field(ge=1, le=MAX_TOKENS)] | None = None  # of a message; None: as the stages measure
    seed: Annotated[int, Field(ge=0, lt=SEEDS)] = 0  # of the first draw; the others have those after it


class ThinkingPage:
    def __init__(self, context: AppContext) -> None:
        self.context, self.pool = context, context.pool
        self.files = ThinkingFiles(context.run, context.folder)
        # models of a run were taught, and are measured, with both tools on offer
        has_index = find_index(context.folder) is not None
        self.tools = RunTools(TOOLS if has_index else ("calculator",), context.folder)

    @get("/app/thinking/about")
    def about(self, request: Request) -> dict[str, Any]:
        """How many held-out problems there are of each group, or why there are none to choose from."""
        try:
            with file_errors():
                groups = self.files.groups()
            problem = None if groups else NO_PROBLEMS
        except ApiError as error:  # a problem that is typed can still be asked
            groups, problem = {}, error.message
        return {
            "groups": [{"name": name, "count": len(found)} for name, found in groups.items()],
            "problem": problem, "max_tokens": SUM_TOKENS, "most_tokens": MAX_TOKENS, "most_draws": MAX_DRAWS,
        }  # fmt: skip

    @post("/app/thinking/problem", ProblemRequest)
    def problem(self, request: Request, body: ProblemRequest) -> dict[str, Any]:
        """One of a group's held-out problems, with the answers that are right."""
        with file_errors():
            found = self.files.groups().get(body.group, [])
        if body.place >= len(found):
            raise ApiError(
                404, f"{body.group}: has {len(found)} held-out problems, so there is none at place {body.place}",
                code="no_such_problem",
            )  # fmt: skip
        problem = found[body.place]
        return {"question": problem.text, "answers": list(problem.answers), "count": len(found)}

    @post("/app/thinking/ways", WaysRequest)
    async def ways(self, request: Request, body: WaysRequest) -> dict[str, Any]:
        """Of each way how the model is asked, with an ellipsis for the problem; or why it can't be."""
        model = (await self.pool.load(body.model)).model
        return {
            "ways": [
                {"way": way, "asked": _asked(model, "…", way), "why_not": _why_not(model, way)} for way in WAYS
            ]
        }  # fmt: skip

    @post("/app/thinking/answer", AnswerRequest)
    async def answer(self, request: Request, body: AnswerRequest) -> Response:
        """Answers in one way as events, token by token; at the end of each whether it is right and where it goes wrong.

        At temperature 0 an answer is the one that the run's stages measure where they ask in the same words.
        """
        if body.temperature == 0 and body.draws > 1:
            raise bad_request(
                f"draws = {body.draws}: at temperature 0 every draw is the same; ask for 1, or raise the temperature",
                "draws",
            )
        problem = await asyncio.to_thread(self._problem, body)
        loaded = await self.pool.load(body.model)
        if why_not := _why_not(loaded.model, body.way):
            raise bad_request(f"way: {why_not}", "way")
        loaded.admission.check_size(body.draws)
        answers = [self._answer(loaded, body, draw, client_address(request)) for draw in range(body.draws)]

        async def written(draw: int) -> AsyncGenerator[Events, None]:
            answer, sent = answers[draw], _Sent(draw)
            async for _ in answer.pieces(request, PING_SECONDS):
                yield sent.new(loaded.model, answer)
            ended = await asyncio.to_thread(_ended, loaded.model, problem, body.question, answer)
            yield [*sent.new(loaded.model, answer), {"draw": draw, "ended": ended}]

        return EventStream(_together([written(draw) for draw in range(body.draws)]))

    @get("/app/thinking/measured")
    def measured(self, request: Request) -> dict[str, Any]:
        """What the run's stages measured: shares right by way and group, and what reinforcement learning changed."""
        with file_errors():
            found = {
                "stages": self.files.measured(), "checked": self.files.checked(), "reinforced": self.files.reinforced(),
            }  # fmt: skip
        return {**found, "problem": None if any(found.values()) else NOT_MEASURED}

    def _problem(self, body: AnswerRequest) -> Problem | None:
        """What is asked, if it is known which answers are right. Raises ApiError for answers that can't be compared."""
        given = [answer.strip() for answer in body.answers if answer.strip()]
        if not given:
            with file_errors():
                return self.files.find(body.question)
        try:
            return Problem(body.question, tuple(map(reference_part, given)), "typed")
        except ValueError as error:
            raise bad_request(f"answers: {error}", "answers") from error

    def _answer(
        self, loaded: LoadedModel, body: AnswerRequest, draw: int, client: str | None
    ) -> "AnswerWithTools | TextAnswer":
        """An answer that has not begun. Raises ApiError for a problem that does not fit the model's context."""
        model, text = loaded.model, _asked(loaded.model, body.question, body.way)
        seed = (body.seed + draw) % SEEDS
        if model.base:
            way = IN_TEXT[body.way]
            (prompt,) = completion_prompts(model, CompletionRequest(prompt=[text]))
            max_tokens = body.max_tokens or way.max_tokens
            sampling = Sampling(body.temperature, max_tokens=max_tokens, seed=seed, stop=way.stop)
            return TextAnswer(loaded, GenerationRequest(prompt, sampling, 0), client)
        asked = ChatRequest(
            messages=[{"role": "user", "content": text}], temperature=body.temperature, seed=seed,
            max_tokens=body.max_tokens or SUM_TOKENS,
        )  # fmt: skip
        if draw == 0:
            chat_prompt(model, asked)  # so that what is wrong with it is heard before the stream begins
        names = () if body.way != "calculator" else self.tools.names if model.reads_names else ("calculator",)
        return AnswerWithTools(loaded, asked, self.tools, names)


class TextAnswer:
    """How a base model goes on with a page; to be read like an AnswerWithTools."""

    added: Sequence[Message] = ()
    steps: Sequence[dict[str, Any]] = ()
    names: Sequence[str] = ()

    def __init__(self, loaded: LoadedModel, wanted: GenerationRequest, client: str | None) -> None:
        self.loaded, self.wanted, self.client = loaded, wanted, client
        self.rounds = [Round(list(wanted.prompt))]

    async def pieces(self, request: Request, patience: float) -> AsyncGenerator[str, None]:
        generation = self.loaded.admission.admit([self.wanted], self.client)
        try:
            async for deltas in generation.deltas(patience):
                for _, delta in deltas:
                    self.rounds[0].take(delta)
                yield "".join(delta.text for _, delta in deltas)
        finally:
            generation.close()


class _Sent:
    """How much of an answer its client has got."""

    def __init__(self, draw: int) -> None:
        self.draw = draw
        self.n_rounds = self.n_steps = 0
        self.n_tokens = self.n_characters = 0  # of the last round

    def new(self, model: ServedModel, answer: AnswerWithTools | TextAnswer) -> Events:
        """What has been added since the last time: tokens with their probabilities, calls and results."""
        events: Events = []
        while True:
            if self.n_rounds:
                events += self._of_round(model, answer.rounds[self.n_rounds - 1])
            events += [{"draw": self.draw, "step": step} for step in answer.steps[self.n_steps :]]
            self.n_steps = len(answer.steps)
            if self.n_rounds == len(answer.rounds):
                return events
            events.append({"draw": self.draw, "prompt": answer.rounds[self.n_rounds].prompt})
            self.n_rounds += 1
            self.n_tokens = self.n_characters = 0

    def _of_round(self, model: ServedModel, now: Round) -> Events:
        new = slice(self.n_tokens, None)
        tokens = [
            {**describe_token(model.tokenizer, id), "p": finite_logprob(p), "q": finite_logprob(q)}
            for id, p, q in zip(now.ids[new], now.model_logprobs[new], now.logprobs[new], strict=True)
        ]
        text = now.text[self.n_characters :]
        self.n_tokens, self.n_characters = len(now.ids), len(now.text)
        return [{"draw": self.draw, "tokens": tokens, "text": text}] if tokens or text else []


def _asked(model: ServedModel, question: str, way: str) -> str:
    """The text that the model is given: a message, or for a base model the beginning of a page."""
    return IN_TEXT[way].page(question) if model.base and way in IN_TEXT else ask_in_way(question, way)


def _why_not(model: ServedModel, way: str) -> str | None:
    if way != "calculator" or (model.calls_tools and not model.base):
        return None
    if model.base:
        return "a base model goes on with a text and calls nothing; the stage honesty teaches the calculator"
    if model.stage == "sft":
        return "this model was not taught to call a calculator yet; the stage honesty teaches it"
    return (
        f"the model {model.name} was never taught to call a calculator: its chat template has no words for tools "
        "(import --tools adds them, and honesty teaches them)"
    )


def _ended(
    model: ServedModel, problem: Problem | None, question: str, answer: AnswerWithTools | TextAnswer
) -> dict[str, Any]:
    """What is known of an answer that has ended; whether it is right is judged as the run's stages judge it."""
    last = answer.rounds[-1]
    calls = bool(answer.names) and bool(parse_reply(model.tokenizer, last.ids).get("tool_calls"))
    text = "" if calls else last.text
    with file_errors():  # a check of code finds no sandbox
        right = None if problem is None else judge(problem, text) >= 1
    fault = first_fault(question, problem.answers if problem else (), text, right is not False, answer.added)
    written = sum(len(now.ids) for now in answer.rounds)
    return {
        "why": last.finish_reason, "right": right, "text": text, "written": written,
        "read": len(last.prompt) + len(last.ids) - written,
        "fault": fault and _describe_fault(model, fault, last),
    }  # fmt: skip


def _describe_fault(model: ServedModel, fault: Fault, last: Round) -> dict[str, Any]:
    """With the token of the last round that the fault begins in."""
    token = None
    if fault.place:
        begin = fault.place[0]
        token = bisect_left(
            range(len(last.ids)), begin + 1, key=lambda n: len(model.tokenizer.decode(last.ids[: n + 1]))
        )
    return {"kind": fault.kind, "says": fault.says, "place": fault.place, "token": token}


async def _together(streams: Sequence[AsyncGenerator[Events, None]]) -> AsyncGenerator[Events, None]:
    """Events of all streams as they come, until all have ended. Raises what one of them raises."""
    arrived: asyncio.Queue[Events | Exception | None] = asyncio.Queue()

    async def forward(stream: AsyncGenerator[Events, None]) -> None:
        try:
            async for events in stream:
                arrived.put_nowait(events)
            arrived.put_nowait(None)
        except Exception as error:
            arrived.put_nowait(error)
        finally:
            await stream.aclose()

    tasks = [asyncio.create_task(forward(stream)) for stream in streams]
    left = len(tasks)
    try:
        while left:
            found = [await arrived.get()]
            while not arrived.empty():
                found.append(arrived.get_nowait())
            ready: Events = []
            for events in found:
                if isinstance(events, Exception):
                    raise events
                left -= events is None
                ready += events or []
            yield ready
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
