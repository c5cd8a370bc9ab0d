"""The routes: each reads a request, has the engine answer it, and writes the answer in OpenAI's form."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, TypeVar

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from crawl2chat.serve.answers import ChatChoice, CompletionChoice, Envelope, usage
from crawl2chat.serve.desk import Call, Wanted, closing
from crawl2chat.serve.errors import ApiError, failed, log_failure
from crawl2chat.serve.prompts import (
    chat_prompt,
    check_vocabulary,
    completion_prompts,
    sampling_of,
    tokenize_ids,
)
from crawl2chat.serve.requests import (
    ChatRequest,
    CompletionRequest,
    DetokenizeRequest,
    TokenizeRequest,
    parse,
)
from crawl2chat.serve.shelf import Offer, Shelf
from crawl2chat.serve.worker import broken

COMPLETION_TOKENS = 16  # OpenAI's default for /v1/completions
PING_SECONDS = 15.0  # of silence in a stream, after which a comment shows that we live
LONG_BODY = 1 << 16  # bytes beyond which parsing and encoding leave the event loop

Result = TypeVar("Result")
Choices = Sequence[CompletionChoice] | Sequence[ChatChoice]


class Api:
    """The handlers, with the models that they share."""

    def __init__(self, shelf: Shelf, ping_seconds: float = PING_SECONDS) -> None:
        self.shelf, self.ping_seconds = shelf, ping_seconds

    def routes(self) -> list[Route]:
        return [
            Route("/v1/chat/completions", self.chat, methods=["POST"]),
            Route("/v1/completions", self.complete, methods=["POST"]),
            Route("/v1/models", self.models),
            Route("/v1/models/{name:path}", self.one_model),
            Route("/tokenize", self.tokenize, methods=["POST"]),
            Route("/detokenize", self.detokenize, methods=["POST"]),
            Route("/tokenizer_info", self.tokenizer_info),
            Route("/health", self.health),
            Route("/metrics", self.metrics),
        ]

    # generation

    async def complete(self, request: Request) -> Response:
        body = await request.body()
        asked = await aside(body, lambda: parse(CompletionRequest, body))
        seat = await self.shelf.open(asked.model)
        model = seat.model
        seat.desk.check_size(len(asked.prompt) * asked.choices)
        prompts = await aside(body, lambda: completion_prompts(model, asked))
        skipped = [int(isinstance(prompt, str) and asked.add_special_tokens) for prompt in asked.prompt]
        sampling = sampling_of(model, asked, asked.max_tokens, COMPLETION_TOKENS, asked.logprobs or 0)
        reads = bool(asked.echo) and asked.logprobs is not None
        answers = range(asked.choices)
        choices = [
            CompletionChoice(model.tokenizer, asked, i * asked.choices + j, prompt, skipped=skipped[i])
            for i, prompt in enumerate(prompts)
            for j in answers
        ]
        reports = asked.logprobs is not None
        wanted = [Wanted(prompt, sampling, i, reads, reports) for prompt in prompts for i in answers]
        call = seat.desk.admit(wanted, _client(request))
        return await self._answer(request, asked, call, choices, Envelope("text_completion", model.name))

    async def chat(self, request: Request) -> Response:
        body = await request.body()
        asked = await aside(body, lambda: parse(ChatRequest, body))
        seat = await self.shelf.open(asked.model)
        model = seat.model
        seat.desk.check_size(asked.choices)
        prompt, sampling, rule = await aside(body, lambda: chat_prompt(model, asked))
        on_page = model.base and not asked.continues
        choices = [ChatChoice(model.tokenizer, asked, i, prompt, on_page=on_page) for i in range(asked.choices)]
        reports = bool(asked.logprobs)
        wanted = [Wanted(prompt, sampling, i, logprobs=reports, rule=rule) for i in range(asked.choices)]
        call = seat.desk.admit(wanted, _client(request))
        return await self._answer(request, asked, call, choices, Envelope("chat.completion", model.name))

    async def _answer(
        self, request: Request, asked: CompletionRequest | ChatRequest, call: Call, choices: Choices, envelope: Envelope
    ) -> Response:
        if asked.stream:
            frames = self._frames(request.scope, asked, call, choices, envelope)
            return EventStream(frames, call)
        try:
            return await _unless_gone(request, self._whole(asked, call, choices, envelope))
        finally:
            call.close()

    async def _whole(
        self, asked: CompletionRequest | ChatRequest, call: Call, choices: Choices, envelope: Envelope
    ) -> Response:
        pieces = [piece async for several in call.pieces() for piece in several]

        def make() -> Response:
            for index, piece in pieces:
                choices[index].keep(piece)
            return JSONResponse(envelope.whole([c.whole() for c in choices], usage(choices, asked.choices)))

        # log-probabilities of long prompts take a while to write, in which other streams want to go on
        return await asyncio.to_thread(make) if asked.logprobs is not None else make()

    async def _frames(
        self, scope: Scope, asked: CompletionRequest | ChatRequest, call: Call, choices: Choices, envelope: Envelope
    ) -> AsyncIterator[bytes]:
        """The stream's events, those of a step as one piece of the body."""
        try:
            async for pieces in call.pieces(self.ping_seconds):
                taken = [choices[index].take(piece) for index, piece in pieces]
                chunks = [
                    envelope.chunk([choice], usage=None, with_usage=asked.include_usage) for choice in taken if choice
                ]
                if chunks or not pieces:
                    yield b"".join(map(_event, chunks)) or b": ping\n\n"
            if asked.include_usage:
                yield _event(envelope.chunk([], usage=usage(choices, asked.choices), with_usage=True))
            yield b"data: [DONE]\n\n"
        except ApiError as error:
            scope["outcome"] = "failed"
            yield _event(error.body())
        except Exception as error:
            scope["outcome"] = "failed"
            log_failure("a stream failed", error)
            yield _event(failed().body())

    # the rest

    async def models(self, request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [_described(offer) for offer in self.shelf.offers]})

    async def one_model(self, request: Request) -> Response:
        return JSONResponse(_described(self.shelf.offer(request.path_params["name"])))

    async def tokenize(self, request: Request) -> Response:
        body = await request.body()
        asked = await aside(body, lambda: parse(TokenizeRequest, body))
        model = (await self.shelf.open(asked.model)).model

        def work() -> dict[str, Any]:
            ids = tokenize_ids(model, asked)
            answer = {"count": len(ids), "max_model_len": model.engine.context, "tokens": ids}
            if asked.return_token_strs:
                answer["token_strs"] = [model.tokenizer.decode([id]) for id in ids]
            return answer

        return JSONResponse(await aside(body, work))

    async def detokenize(self, request: Request) -> Response:
        body = await request.body()
        asked = await aside(body, lambda: parse(DetokenizeRequest, body))
        model = (await self.shelf.open(asked.model)).model

        def work() -> dict[str, str]:
            check_vocabulary(model, asked.tokens, "tokens")
            return {"prompt": model.tokenizer.decode(asked.tokens)}

        return JSONResponse(await aside(body, work))

    async def tokenizer_info(self, request: Request) -> Response:
        model = (await self.shelf.open(request.query_params.get("model"))).model
        tokenizer = model.tokenizer
        names = {id: name for name, id in tokenizer.controls.items()}
        return JSONResponse(
            {
                "tokenizer_class": "PreTrainedTokenizerFast",
                "eos_token": names[tokenizer.eos_id],
                "bos_token": None,
                "pad_token": names[tokenizer.end_of_text],
                "vocab_size": tokenizer.vocab_size,
                "model_max_length": model.engine.context,
                "chat_template": tokenizer.chat_template,
            }
        )

    async def health(self, request: Request) -> Response:
        if any(seat.desk.worker.broken for seat in self.shelf.seats.values()):
            raise broken()
        if self.shelf.closed:
            raise closing()
        return JSONResponse({"status": "ok"})

    async def metrics(self, request: Request) -> Response:
        return Response(self.shelf.metrics.text(), media_type="text/plain; version=1.0.0; charset=utf-8")


def _described(offer: Offer) -> dict[str, Any]:
    return {
        "id": offer.name, "object": "model", "created": offer.created, "owned_by": "crawl2chat",
        "max_model_len": offer.context,
    }  # fmt: skip


class EventStream(StreamingResponse):
    """Server-sent events. However it ends, with its last event or with its client, the engine hears of it."""

    def __init__(self, frames: AsyncIterator[bytes], call: Call) -> None:
        super().__init__(frames, media_type="text/event-stream", headers={"Cache-Control": "no-cache"})
        self.call = call

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        ended = False

        async def watched(message: Any) -> None:
            nonlocal ended
            await send(message)
            ended = message["type"] == "http.response.body" and not message.get("more_body")

        try:
            await super().__call__(scope, receive, watched)
        finally:
            if not ended:
                scope["outcome"] = "gone"
            self.call.close()


async def _unless_gone(request: Request, work: Awaitable[Response]) -> Response:
    """The result, or none as soon as the client has hung up."""
    answer = asyncio.ensure_future(work)
    hung_up = asyncio.ensure_future(_hung_up(request.receive))
    try:
        await asyncio.wait({answer, hung_up}, return_when=asyncio.FIRST_COMPLETED)
        if answer.done():
            return answer.result()
        request.scope["outcome"] = "gone"
        return Response(status_code=499)  # read by nobody
    finally:
        answer.cancel()
        hung_up.cancel()


def _client(request: Request) -> str | None:
    """Who takes turns with others: an address, as all that ask have the same key."""
    return request.client.host if request.client else None


async def _hung_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def aside(body: bytes, work: Callable[[], Result]) -> Result:
    """The result of reading a body; a long one is read in a thread, so that the event loop goes on."""
    return await asyncio.to_thread(work) if len(body) > LONG_BODY else work()


def _event(content: dict[str, Any]) -> bytes:
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return b"data: " + text.encode() + b"\n\n"


async def tell(request: Request, error: ApiError) -> Response:
    return error.response()


async def tell_http(request: Request, error: HTTPException) -> Response:
    where = f"{request.method[:10]} {request.url.path[:100]}"
    message = f"{where}: no such route" if error.status_code == 404 else f"{where}: {error.detail}"
    return ApiError(error.status_code, message, headers=dict(error.headers or {})).response()


async def tell_failure(request: Request, error: Exception) -> Response:
    return failed().response()
