"""The endpoints of OpenAI's API, and those of vLLM's for tokens: read a request, generate, answer in OpenAI's form."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from crawl2chat.serve.admission import Generation
from crawl2chat.serve.api.prompts import chat_prompt, check_vocabulary, completion_prompts, read_sampling, tokenize_ids
from crawl2chat.serve.api.requests import ChatRequest, CompletionRequest, DetokenizeRequest, TokenizeRequest
from crawl2chat.serve.api.responses import ChatChoice, CompletionChoice, Envelope, usage
from crawl2chat.serve.engine_thread import GenerationRequest
from crawl2chat.serve.errors import engine_broken, shutting_down
from crawl2chat.serve.http import EventStream, cancel_on_disconnect, client_address, get, post, run_in_thread_if_long
from crawl2chat.serve.model_pool import AvailableModel, ModelPool
from crawl2chat.serve.run_tools import AnswerWithTools, RunTools

COMPLETION_TOKENS = 16  # OpenAI's default for /v1/completions
PING_SECONDS = 15.0  # of silence in a stream, after which a comment shows that the server lives

Choices = Sequence[CompletionChoice] | Sequence[ChatChoice]


class Api:
    """The endpoints, with the models that they share."""

    def __init__(self, pool: ModelPool, ping_seconds: float = PING_SECONDS, run_tools: RunTools | None = None) -> None:
        """run_tools: those that the server runs itself (default: none)."""
        self.pool, self.ping_seconds, self.run_tools = pool, ping_seconds, run_tools or RunTools()

    # generation

    @post("/v1/chat/completions", ChatRequest)
    async def chat(self, request: Request, body: ChatRequest) -> Response:
        loaded = await self.pool.load(body.model)
        model = loaded.model
        loaded.admission.check_size(body.choices)
        if names := self.run_tools.wanted(model, body):
            return await self._chat_with_tools(request, AnswerWithTools(loaded, body, self.run_tools, names))
        prompt, sampling, rule = await run_in_thread_if_long(request, lambda: chat_prompt(model, body))
        on_page = model.base and not body.continues
        choices = [ChatChoice(model.tokenizer, body, i, prompt, on_page=on_page) for i in range(body.choices)]
        reports = bool(body.logprobs)
        wanted = [GenerationRequest(prompt, sampling, i, logprobs=reports, rule=rule) for i in range(body.choices)]
        generation = loaded.admission.admit(wanted, client_address(request))
        return await self._answer(request, body, generation, choices, Envelope("chat.completion", model.name))

    async def _chat_with_tools(self, request: Request, answer: AnswerWithTools) -> Response:
        """OpenAI's form, and `citations`: what was read for the answer, in the whole one or in the last chunk of it."""
        answer.check()
        body, envelope = answer.body, Envelope("chat.completion", answer.loaded.model.name)

        async def chunks() -> AsyncGenerator[list[dict[str, Any]], None]:
            def chunk(delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
                choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
                return envelope.chunk([choice], usage=None, with_usage=body.include_usage)

            yield [chunk({"role": "assistant", "content": ""})]
            async for text in answer.pieces(request, self.ping_seconds):
                yield [chunk({"content": text})] if text else []
            yield [chunk({}, answer.finish_reason) | {"citations": answer.sources}]
            if body.include_usage:
                yield [envelope.chunk([], usage=answer.usage(), with_usage=True)]

        async def whole() -> Response:
            async for _ in answer.pieces(request, self.ping_seconds):
                pass
            message = {"role": "assistant", "content": answer.text, "refusal": None}
            choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": answer.finish_reason}
            return JSONResponse(envelope.whole([choice], answer.usage()) | {"citations": answer.sources})

        return EventStream(chunks()) if body.stream else await cancel_on_disconnect(request, whole())

    @post("/v1/completions", CompletionRequest)
    async def complete(self, request: Request, body: CompletionRequest) -> Response:
        loaded = await self.pool.load(body.model)
        model = loaded.model
        loaded.admission.check_size(len(body.prompt) * body.choices)
        prompts = await run_in_thread_if_long(request, lambda: completion_prompts(model, body))
        sampling = read_sampling(model, body, body.max_tokens, COMPLETION_TOKENS, body.logprobs or 0)
        reports = body.logprobs is not None
        choices: list[CompletionChoice] = []
        wanted = []
        for given, prompt in zip(body.prompt, prompts, strict=True):
            skipped = int(isinstance(given, str) and body.add_special_tokens)
            for i in range(body.choices):
                choices.append(CompletionChoice(model.tokenizer, body, len(choices), prompt, skipped=skipped))
                wanted.append(GenerationRequest(prompt, sampling, i, bool(body.echo) and reports, reports))
        generation = loaded.admission.admit(wanted, client_address(request))
        return await self._answer(request, body, generation, choices, Envelope("text_completion", model.name))

    async def _answer(
        self,
        request: Request,
        body: CompletionRequest | ChatRequest,
        generation: Generation,
        choices: Choices,
        envelope: Envelope,
    ) -> Response:
        if body.stream:
            return EventStream(self._chunks(body, generation, choices, envelope), generation.close)
        return await cancel_on_disconnect(request, self._whole(body, generation, choices, envelope))

    async def _whole(
        self, body: CompletionRequest | ChatRequest, generation: Generation, choices: Choices, envelope: Envelope
    ) -> Response:
        deltas = await generation.all_deltas()

        def make() -> Response:
            for index, delta in deltas:
                choices[index].add(delta)
            return JSONResponse(envelope.whole([choice.whole() for choice in choices], usage(choices, body.choices)))

        # log-probabilities of long prompts take a while to write, in which other streams want to go on
        return await asyncio.to_thread(make) if body.logprobs is not None else make()

    async def _chunks(
        self, body: CompletionRequest | ChatRequest, generation: Generation, choices: Choices, envelope: Envelope
    ) -> AsyncGenerator[list[dict[str, Any]], None]:
        """The stream's events, those of a step together."""
        async for deltas in generation.deltas(self.ping_seconds):
            added = [choices[index].chunk(delta) for index, delta in deltas]
            chunks = [envelope.chunk([choice], usage=None, with_usage=body.include_usage) for choice in added if choice]
            if chunks or not deltas:
                yield chunks
        if body.include_usage:
            yield [envelope.chunk([], usage=usage(choices, body.choices), with_usage=True)]

    # models and tokens

    @get("/v1/models")
    async def models(self, request: Request) -> dict[str, Any]:
        return {"object": "list", "data": [self._describe(model) for model in self.pool.models]}

    @get("/v1/models/{name:path}")
    async def one_model(self, request: Request) -> dict[str, Any]:
        return self._describe(self.pool.find(request.path_params["name"]))

    @post("/tokenize", TokenizeRequest)
    async def tokenize(self, request: Request, body: TokenizeRequest) -> dict[str, Any]:
        model = (await self.pool.load(body.model)).model

        def work() -> dict[str, Any]:
            ids = tokenize_ids(model, body)
            answer = {"count": len(ids), "max_model_len": model.engine.context, "tokens": ids}
            if body.return_token_strs:
                answer["token_strs"] = [model.tokenizer.decode([id]) for id in ids]
            return answer

        return await run_in_thread_if_long(request, work)

    @post("/detokenize", DetokenizeRequest)
    async def detokenize(self, request: Request, body: DetokenizeRequest) -> dict[str, str]:
        model = (await self.pool.load(body.model)).model

        def work() -> dict[str, str]:
            check_vocabulary(model, body.tokens, "tokens")
            return {"prompt": model.tokenizer.decode(body.tokens)}

        return await run_in_thread_if_long(request, work)

    @get("/tokenizer_info")
    async def tokenizer_info(self, request: Request) -> dict[str, Any]:
        model = (await self.pool.load(request.query_params.get("model"))).model
        tokenizer = model.tokenizer
        names = {id: name for name, id in tokenizer.controls.items()}
        return {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "eos_token": names[tokenizer.eos_id],
            "bos_token": None,
            "pad_token": names[tokenizer.end_of_text],
            "vocab_size": tokenizer.vocab_size,
            "model_max_length": model.engine.context,
            "chat_template": tokenizer.chat_template,
        }

    # the server

    @get("/health")
    async def health(self, request: Request) -> dict[str, str]:
        if any(loaded.admission.thread.broken for loaded in self.pool.loaded.values()):
            raise engine_broken()
        if self.pool.closed:
            raise shutting_down()
        return {"status": "ok"}

    @get("/metrics")
    async def metrics(self, request: Request) -> Response:
        return Response(self.pool.metrics.text(), media_type="text/plain; version=1.0.0; charset=utf-8")

    def _describe(self, model: AvailableModel) -> dict[str, Any]:
        return {
            "id": model.name, "object": "model", "created": model.created, "owned_by": "crawl2chat",
            "max_model_len": self.pool.context(model),
        }  # fmt: skip
