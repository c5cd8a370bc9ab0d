"""The endpoints of the page Sampling."""

import asyncio
import json
import math
from collections.abc import AsyncIterator, Sequence
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from crawl2chat.chat.talk import Talk
from crawl2chat.generate import Sampling
from crawl2chat.generate.trace import CONTROLS, Trace, trace_controls
from crawl2chat.serve.api import EventStream, aside
from crawl2chat.serve.app.house import House
from crawl2chat.serve.app.sampling.asked import GoRequest, PromptRequest, ScoreRequest, StepRequest, TextsRequest
from crawl2chat.serve.app.sampling.last_logits import LastLogits
from crawl2chat.serve.app.tensors import tensors
from crawl2chat.serve.desk import Call, Wanted
from crawl2chat.serve.errors import ApiError, failed, log_failure, refused
from crawl2chat.serve.prompts import Model, check_length, check_vocabulary, sampling_of
from crawl2chat.serve.requests import AnyRequest, parse
from crawl2chat.tokenizer import Tokenizer

SEEDS = 1 << 62


def routes(house: House) -> list[Route]:
    sampling = _Endpoints(house)
    return [
        Route(f"/app/sampling/{name}", getattr(sampling, name), methods=["POST"])
        for name in ("prompt", "texts", "score", "step", "go")
    ]


class _Endpoints:
    def __init__(self, house: House) -> None:
        self.shelf = house.shelf
        self.logits = LastLogits()

    async def prompt(self, request: Request) -> Response:
        """Ids and texts of the prompt's tokens, and the stop texts that such a prompt brings with it."""
        asked = await _asked(PromptRequest, request)
        model = (await self.shelf.open(asked.model)).model
        ids, stop = await asyncio.to_thread(_prompt_ids, model, asked)
        check_length(model, ids, "text")
        return JSONResponse({"ids": ids, "tokens": _tokens(model.tokenizer, ids), "stop": stop})

    async def texts(self, request: Request) -> Response:
        asked = await _asked(TextsRequest, request)
        model = (await self.shelf.open(asked.model)).model
        check_vocabulary(model, asked.ids, "ids")
        return JSONResponse({"tokens": await asyncio.to_thread(_tokens, model.tokenizer, asked.ids)})

    async def score(self, request: Request) -> Response:
        """Of each token its log-probability, and the model's favourite there with its own; the first has none."""
        asked = await _asked(ScoreRequest, request)
        seat = await self.shelf.open(asked.model)
        _check(seat.model, asked.ids, "ids", room=0)
        wanted = Wanted(asked.ids, Sampling(max_tokens=0, top_logprobs=1), 0, prompt_logprobs=True)
        call = seat.desk.admit([wanted])
        try:
            pieces = [piece async for several in call.pieces() for _, piece in several]
        finally:
            call.close()
        read = next(piece.prompt for piece in pieces if piece.prompt)
        favourites = [top[0] if top else (0, math.nan) for top in read.top]
        return tensors(
            {"tokens": _tokens(seat.model.tokenizer, [id for id, _ in favourites])},
            {
                "logprobs": np.array([math.nan if p is None else p for p in read.logprobs], np.float32),
                "best": np.array([p for _, p in favourites], np.float32),
            },
        )

    async def step(self, request: Request) -> Response:
        """One step's most probable tokens, their log-probabilities at each control, and what holds of all tokens."""
        asked = await _asked(StepRequest, request)
        seat = await self.shelf.open(asked.model)
        _check(seat.model, [*asked.prompt, *asked.answer], "prompt", room=0)
        check_vocabulary(seat.model, asked.also, "also")
        sampling = sampling_of(seat.model, asked, 0, 0, 0)
        logits_v = await self.logits.of(seat, [*asked.prompt, *asked.answer])

        def work() -> Response:
            trace = trace_controls(logits_v, (asked.prompt, asked.answer), sampling)
            return _described(seat.model.tokenizer, trace, asked.top, asked.also)

        return await asyncio.to_thread(work)

    async def go(self, request: Request) -> Response:
        """Continuations as server-sent events, each token as the engine drew it.

        The generator is that of (seed, tokens of the answer so far): `Engine.generate` of the same ids draws the same
        with seeds=[tokens of the answer so far].
        """
        asked = await _asked(GoRequest, request)
        seat = await self.shelf.open(asked.model)
        ids = [*asked.prompt, *asked.answer]
        _check(seat.model, ids, "prompt", room=1)
        seed = asked.seed or 0
        wanted = []
        for branch in range(asked.choices):
            asked.seed = (seed + branch) % SEEDS
            sampling = sampling_of(seat.model, asked, asked.max_tokens, 16, 0)
            n_answered = len(asked.answer)
            wanted.append(Wanted(ids, sampling, n_answered, logprobs=True, n_answered=n_answered))
        call = seat.desk.admit(wanted, request.client.host if request.client else None)
        return EventStream(_frames(request, seat.model.tokenizer, call), call)


async def _asked(kind: type[AnyRequest], request: Request) -> AnyRequest:
    body = await request.body()
    return await aside(body, lambda: parse(kind, body))


async def _frames(request: Request, tokenizer: Tokenizer, call: Call) -> AsyncIterator[bytes]:
    try:
        async for pieces in call.pieces(15.0):
            for branch, piece in pieces:
                tokens = [
                    {**token, "p": _finite(p), "q": _finite(q)}
                    for token, p, q in zip(
                        _tokens(tokenizer, piece.ids), piece.model_logprobs, piece.logprobs, strict=True
                    )
                ]
                yield _event({"branch": branch, "tokens": tokens, "ended": piece.finish_reason})
            if not pieces:
                yield b": ping\n\n"
        yield b"data: [DONE]\n\n"
    except ApiError as error:
        request.scope["outcome"] = "failed"
        yield _event(error.body())
    except Exception as error:
        request.scope["outcome"] = "failed"
        log_failure("a stream failed", error)
        yield _event(failed().body())


def _event(content: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(content, ensure_ascii=False, allow_nan=False).encode() + b"\n\n"


def _finite(log_p: float) -> float:
    return max(-9999.0, log_p)


def _prompt_ids(model: Model, asked: PromptRequest) -> tuple[list[int], list[str]]:
    if not asked.chat:
        return [model.tokenizer.end_of_text, *model.tokenizer.encode(asked.text)], []
    talk = Talk(model.engine, Sampling(), base=model.base)
    return talk.prompt([{"role": "user", "content": asked.text}]), ["\n"] if model.base else []


def _check(model: Model, ids: Sequence[int], param: str, room: int) -> None:
    if not ids:
        raise refused(f"{param}: holds no token; expected at least one", param)
    check_vocabulary(model, ids, param)
    context = model.engine.context
    if len(ids) + room > context:
        raise refused(
            f"{param}: has {len(ids)} tokens; this model's context takes {context - room}", param,
            "context_length_exceeded",
        )  # fmt: skip


def _tokens(tokenizer: Tokenizer, ids: Sequence[int]) -> list[dict[str, Any]]:
    """id; text, or None and bytes where it is only part of a character; whether it is a control token."""
    names = {id: name for name, id in tokenizer.controls.items()}
    described: list[dict[str, Any]] = []
    for id in ids:
        if id in names:
            described.append({"id": id, "text": names[id], "control": True})
            continue
        content = tokenizer.decode_bytes([id])
        try:
            described.append({"id": id, "text": content.decode("utf-8")})
        except UnicodeDecodeError:
            described.append({"id": id, "text": None, "bytes": content.hex()})
    return described


def _described(tokenizer: Tokenizer, trace: Trace, top: int, also: Sequence[int]) -> Response:
    """Tokens that are among the most probable ones before or after the controls, in the model's order."""
    log_p_sv = trace.log_p_sv
    first, last = (row.topk(min(top, len(row))).indices.tolist() for row in (log_p_sv[0], log_p_sv[-1]))
    raised = [id for id in last if log_p_sv[-1, id] > -math.inf]
    # the model's own favourites, and those that the controls raised beside them
    ids = sorted({*first, *raised, *also}, key=lambda id: (-log_p_sv[0, id].item(), id))
    names = list(CONTROLS)
    header = {
        "tokens": _tokens(tokenizer, ids),
        "controls": names,
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
