"""The page Sampling: which token comes next, before and after the controls, and going on from any of them."""

import asyncio
import math
from collections import OrderedDict
from collections.abc import AsyncGenerator, Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response
from torch import Tensor

from crawl2chat.chat.talk import Talk
from crawl2chat.generate import Engine, Sampling
from crawl2chat.generate.trace import CONTROLS, Trace, trace_controls
from crawl2chat.serve.admission import Generation
from crawl2chat.serve.api.prompts import check_prompt, check_vocabulary, read_sampling
from crawl2chat.serve.api.requests import GenerationFields, Ids, Strict
from crawl2chat.serve.api.responses import finite_logprob
from crawl2chat.serve.app.context import AppContext
from crawl2chat.serve.engine_thread import GenerationRequest
from crawl2chat.serve.http import EventStream, client_address, describe_token, describe_tokens, post, tensors
from crawl2chat.serve.model_pool import LoadedModel, ServedModel
from crawl2chat.tokenizer import Tokenizer

MAX_CHARACTERS = 1 << 20
MAX_IDS = 1 << 17
MAX_CANDIDATES = 500
MAX_BRANCHES = 8
MAX_LOGITS_BYTES = 64 << 20  # 400 steps of a vocabulary of 40,000
PING_SECONDS = 15.0
SEEDS = 1 << 62

TokenIds = Annotated[Ids, Field(max_length=MAX_IDS)]


class PromptRequest(Strict):
    model: str | None = None
    text: Annotated[str, Field(max_length=MAX_CHARACTERS)]
    chat: bool = False  # whether the text is a question, and not the beginning of a document


class ScoreRequest(Strict):
    model: str | None = None
    ids: TokenIds


class StepRequest(GenerationFields):
    """The penalties read prompt and answer."""

    prompt: TokenIds
    answer: TokenIds = Field(default_factory=list)
    top: Annotated[int, Field(ge=1, le=MAX_CANDIDATES)] = 40
    also: Ids = Field(default_factory=list, max_length=MAX_CANDIDATES)  # report these, however improbable they are


class GoRequest(GenerationFields):
    """`n` continuations, with the seeds seed, seed + 1, …"""

    prompt: TokenIds
    answer: TokenIds = Field(default_factory=list)
    n: Annotated[int, Field(ge=1, le=MAX_BRANCHES)] | None = None


class SamplingPage:
    def __init__(self, context: AppContext) -> None:
        self.pool = context.pool
        self.logits = LastLogits()

    @post("/app/sampling/prompt", PromptRequest)
    async def prompt(self, request: Request, body: PromptRequest) -> dict[str, Any]:
        """Ids and texts of the prompt's tokens, and the stop texts that such a prompt brings with it."""
        model = (await self.pool.load(body.model)).model
        ids, stop = await asyncio.to_thread(_prompt_ids, model, body)
        check_prompt(model, ids, "text")
        return {"ids": ids, "tokens": describe_tokens(model.tokenizer, ids), "stop": stop}

    @post("/app/sampling/score", ScoreRequest)
    async def score(self, request: Request, body: ScoreRequest) -> Response:
        """The log-probability of each token, the model's favourite there with its own, and the entropy, in nats.

        The first token has none.
        """
        loaded = await self.pool.load(body.model)
        check_prompt(loaded.model, body.ids, "ids", room=0)
        wanted = GenerationRequest(body.ids, Sampling(max_tokens=0, top_logprobs=1), 0, prompt_logprobs=True)
        deltas = await loaded.admission.admit([wanted]).all_deltas()
        prefill = next(delta.prefill for _, delta in deltas if delta.prefill)
        favourites = [top[0] if top else (0, math.nan) for top in prefill.top]
        return tensors(
            {"tokens": describe_tokens(loaded.model.tokenizer, [id for id, _ in favourites])},
            {
                "logprobs": _with_gaps(prefill.logprobs),
                "best": np.array([p for _, p in favourites], np.float32),
                "entropy": _with_gaps(prefill.entropies),
            },
        )

    @post("/app/sampling/step", StepRequest)
    async def step(self, request: Request, body: StepRequest) -> Response:
        """One step's most probable tokens, their log-probabilities at each control, and what holds of all tokens."""
        loaded = await self.pool.load(body.model)
        model = loaded.model
        check_prompt(model, [*body.prompt, *body.answer], "prompt", room=0)
        check_vocabulary(model, body.also, "also")
        sampling = read_sampling(model, body, 0, 0, 0)
        logits_v = await self.logits.of(loaded, [*body.prompt, *body.answer])

        def work() -> Response:
            trace = trace_controls(logits_v, (body.prompt, body.answer), sampling)
            return _describe_step(model.tokenizer, trace, body.top, body.also)

        return await asyncio.to_thread(work)

    @post("/app/sampling/go", GoRequest)
    async def go(self, request: Request, body: GoRequest) -> Response:
        """Continuations as events, each token with its log-probability before and after the controls.

        The generator is that of (seed, tokens of the answer so far): `Engine.generate` of the same ids draws the same
        with seeds=[tokens of the answer so far].
        """
        loaded = await self.pool.load(body.model)
        ids, n_answered = [*body.prompt, *body.answer], len(body.answer)
        check_prompt(loaded.model, ids, "prompt", room=1)
        seed = body.seed or 0
        wanted = []
        for branch in range(body.choices):
            body.seed = (seed + branch) % SEEDS
            sampling = read_sampling(loaded.model, body, body.max_tokens, 16, 0)
            wanted.append(GenerationRequest(ids, sampling, n_answered, logprobs=True, n_answered=n_answered))
        generation = loaded.admission.admit(wanted, client_address(request))
        return EventStream(_branch_events(loaded.model.tokenizer, generation), generation.close)


def _with_gaps(values: Sequence[float | None]) -> np.ndarray:
    return np.array([math.nan if value is None else value for value in values], np.float32)


class LastLogits:
    """The last logits of the models, so that moving a slider computes the controls again but not the model.

    Bounded in bytes; the least recently used go first. Lives in the event loop.
    """

    def __init__(self, max_bytes: int = MAX_LOGITS_BYTES) -> None:
        self.max_bytes, self.bytes = max_bytes, 0
        self.kept: OrderedDict[tuple[str, tuple[int, ...]], Tensor] = OrderedDict()

    async def of(self, loaded: LoadedModel, ids: Sequence[int]) -> Tensor:
        """Logits (V,) of what follows these ids, float32 on the CPU. Raises ApiError when the model is too busy."""
        key = (loaded.model.name, tuple(ids))
        if key in self.kept:
            self.kept.move_to_end(key)
            return self.kept[key]
        if len(ids) > loaded.engine.prefill_tokens:  # more than others should wait for in one piece
            # so it is read like any other request's prompt; its row of the cache then holds it
            await loaded.admission.admit([GenerationRequest(ids, Sampling(max_tokens=0), 0)]).all_deltas()

        def work(engine: Engine) -> Tensor:
            return engine.next_logits(ids).cpu()

        logits_v = await loaded.compute(work)
        if key not in self.kept:  # not asked for twice at the same time
            self._keep(key, logits_v)
        return logits_v

    def _keep(self, key: tuple[str, tuple[int, ...]], logits_v: Tensor) -> None:
        self.kept[key] = logits_v
        self.bytes += _size(key, logits_v)
        while self.bytes > self.max_bytes and len(self.kept) > 1:
            self.bytes -= _size(*self.kept.popitem(last=False))


def _size(key: tuple[str, tuple[int, ...]], logits_v: Tensor) -> int:
    return logits_v.numel() * logits_v.element_size() + 8 * len(key[1])


async def _branch_events(tokenizer: Tokenizer, generation: Generation) -> AsyncGenerator[list[dict[str, Any]], None]:
    async for deltas in generation.deltas(PING_SECONDS):
        events = []
        for branch, delta in deltas:
            drawn = zip(delta.ids, delta.model_logprobs, delta.logprobs, strict=True)
            tokens = [
                {**describe_token(tokenizer, id), "p": finite_logprob(p), "q": finite_logprob(q)} for id, p, q in drawn
            ]
            events.append({"branch": branch, "tokens": tokens, "ended": delta.finish_reason})
        yield events


def _prompt_ids(model: ServedModel, body: PromptRequest) -> tuple[list[int], list[str]]:
    if not body.chat:
        return [model.tokenizer.bos_id, *model.tokenizer.encode(body.text)], []
    talk = Talk(model.engine, Sampling(), base=model.base)
    return talk.prompt([{"role": "user", "content": body.text}]), ["\n"] if model.base else []


def _describe_step(tokenizer: Tokenizer, trace: Trace, top: int, also: Sequence[int]) -> Response:
    """Tokens that are among the most probable ones before or after the controls, in the model's order."""
    log_p_sv = trace.log_p_sv
    first, last = (row.topk(min(top, len(row))).indices.tolist() for row in (log_p_sv[0], log_p_sv[-1]))
    raised = [id for id in last if log_p_sv[-1, id] > -math.inf]
    # the model's own favourites, and those that the controls raised in addition
    ids = sorted({*first, *raised, *also}, key=lambda id: (-log_p_sv[0, id].item(), id))
    header = {
        "tokens": describe_tokens(tokenizer, ids),
        "controls": list(CONTROLS),
        "active": trace.active,
        "left": trace.left,
        "model_mass": trace.model_mass,
        "entropy": trace.entropy,
        "vocabulary": log_p_sv.shape[1],
    }
    arrays = {
        "ids": np.array(ids, np.int32),
        "logprobs": log_p_sv[:, ids].numpy(),
        "dropped_by": trace.dropped_by_v[ids].numpy().astype(np.int8),
    }
    return tensors(header, arrays)
