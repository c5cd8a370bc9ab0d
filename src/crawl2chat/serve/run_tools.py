"""Tools that the server runs itself: it answers the model's calls; clients get the final answer, with its sources."""

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from starlette.requests import Request

from crawl2chat.chat.citing import citations, listed, with_passages
from crawl2chat.chat.toolbox import PASSAGES, Tool
from crawl2chat.chat.tools import (
    MAX_ROUNDS,
    begins_call,
    carry_out_all,
    offer_form,
    parse_reply,
    question_of,
    spoken,
)
from crawl2chat.honesty.search import find_documents, find_tools
from crawl2chat.search import SearchIndex
from crawl2chat.serve.api.prompts import chat_prompt
from crawl2chat.serve.api.requests import ChatRequest
from crawl2chat.serve.engine_thread import Delta, GenerationRequest
from crawl2chat.serve.errors import bad_request
from crawl2chat.serve.http import client_address, run_in_thread_if_long
from crawl2chat.serve.model_pool import LoadedModel, ServedModel
from crawl2chat.stages.files import StageError
from crawl2chat.tokenizer import Message

# The tools by name, the address of a page by its number, what every question is looked up in
ModelTools = tuple[dict[str, Tool], Callable[[int], str | None], SearchIndex | None]


@dataclass(frozen=True)
class RunTools:
    """Which tools the server may run, and what its search looks in. Python is among them only if it was named."""

    names: Sequence[str] = ()
    folder: Path = Path()  # of the run, or of the one model
    documents: Path | None = None  # None: those of the run
    vectors: Path | None = None
    always: bool = False  # every question is looked up before the model reads it
    found: dict[tuple[str, ...], ModelTools] = field(default_factory=dict, compare=False)  # of models, once asked for

    def wanted(self, model: ServedModel, body: ChatRequest) -> list[str]:
        """Return the tools to run for a request: those that it names, else all, but none next to tools of its own.

        Raises ApiError for a name that was not allowed when the server was started.
        """
        if body.run_tools is None:
            return [] if body.tools or body.tool_choice == "none" or body.continues or model.base else list(self.names)
        wrong = [name for name in body.run_tools if name not in self.names]
        if wrong:
            has = f"it was started with {', '.join(self.names)}" if self.names else "it was started with none"
            raise bad_request(f"run_tools: this server does not run {', '.join(wrong)[:200]}; {has}", "run_tools")
        if body.run_tools and (body.tools or model.base):
            raise bad_request("run_tools: not next to tools of the client, and not for a base model", "run_tools")
        return list(body.run_tools)

    def of_model(self, model: ServedModel, names: Sequence[str]) -> ModelTools:
        """Return the tools as this model gets them, where pages are from, and what to look every question up in.

        A model whose template offers no tools is given what a search finds. Raises StageError.
        """
        key = (model.name, *names)
        if key in self.found:
            return self.found[key]
        form = offer_form(model.stage, model.offer_taught, model.tokenizer)
        reads = None
        if "search" in names and (self.always or form is None):
            reads = find_documents(self.folder, self.documents, self.vectors)
            names = [name for name in names if name != "search"]
        if form is None:
            names = []
        tools, address = find_tools(self.folder, names, form, self.documents, self.vectors)
        self.found[key] = tools, address, reads
        return self.found[key]


@dataclass
class Round:
    """What a model read and wrote up to a call of a tool, or to its answer; log-probabilities as of a Completion."""

    prompt: list[int]
    ids: list[int] = field(default_factory=list)
    text: str = ""
    model_logprobs: list[float] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    finish_reason: str = "stop"

    def take(self, delta: Delta) -> None:
        self.ids += delta.ids
        self.text += delta.text
        self.model_logprobs += delta.model_logprobs
        self.logprobs += delta.logprobs
        self.finish_reason = delta.finish_reason or self.finish_reason


@dataclass
class AnswerWithTools:
    """One answer of a chat for which the server runs tools."""

    loaded: LoadedModel
    body: ChatRequest
    settings: RunTools
    names: Sequence[str]
    text: str = ""
    rounds: list[Round] = field(default_factory=list)
    sources: list[dict[str, Any]] = field(default_factory=list)
    added: list[Message] = field(default_factory=list)  # the model's calls, and the results that it read
    passages: str = ""  # that were put next to the question, where the model does not call a search itself

    def check(self) -> None:
        """Raise ApiError for what can't be had next to tools that the server runs."""
        for name, asked in (("n", self.body.choices > 1), ("logprobs", self.body.logprobs)):
            if asked or self.body.return_token_ids:
                name = name if asked else "return_token_ids"
                raise bad_request(f"{name}: not while the server runs tools; send run_tools = [] for none", name)

    async def pieces(self, request: Request, patience: float) -> AsyncGenerator[str, None]:
        """Yield the text as it comes; an empty one after `patience` seconds without any. Then the rest is known."""
        model = self.loaded.model
        tokenizer = model.tokenizer
        try:
            tools, address, reads = await asyncio.to_thread(self.settings.of_model, model, self.names)
        except StageError as error:
            raise bad_request(f"run_tools: {error}", "run_tools") from error
        messages = self.body.messages
        question = messages[-1]["content"] if messages[-1]["role"] == "user" else ""
        if reads is not None and question:
            found = await asyncio.to_thread(reads.best, question, PASSAGES)
            messages = [*messages[:-1], Message(role="user", content=with_passages(question, found))]
            self.passages = listed(found)
        offered = [tool.definition for tool in tools.values()] or None
        for n_rounds in range(1 + MAX_ROUNDS):
            asked = self.body.model_copy(update={"messages": [*messages, *self.added], "tools": offered})
            prompt, sampling, rule = await run_in_thread_if_long(
                request, lambda asked=asked: chat_prompt(model, asked, runs_here=True)  # type: ignore[misc]
            )  # fmt: skip
            wanted = [GenerationRequest(prompt, sampling, 0, rule=rule)]
            generation = self.loaded.admission.admit(wanted, client_address(request))
            now, said = Round(prompt), ""
            self.rounds.append(now)
            try:
                async for deltas in generation.deltas(patience):
                    for _, delta in deltas:
                        now.take(delta)
                    new = (spoken(tokenizer, now.ids, now.text) if tools else now.text)[len(said) :]
                    said += new
                    yield new
            finally:
                generation.close()
            reply = parse_reply(tokenizer, now.ids) if tools else Message(role="assistant", content=now.text)
            calls = reply.get("tool_calls")
            rest = "" if calls or begins_call(tokenizer, now.ids, now.text) else now.text[len(said) :]
            self.text += said + rest
            if rest:
                yield rest
            if not calls or now.finish_reason != "stop" or n_rounds == MAX_ROUNDS:
                break
            self.added.append(reply)
            self.added += await asyncio.to_thread(carry_out_all, self.added, tools, question_of(self.body.messages))
        results = [message["content"] for message in self.added if message["role"] == "tool"]
        self.sources = _sources(self.text, [self.passages, *results], address)

    @property
    def finish_reason(self) -> str:
        return self.rounds[-1].finish_reason if self.rounds else "stop"

    @property
    def steps(self) -> list[dict[str, Any]]:
        """The calls and the results that came before the text, in their order."""
        return [
            {"calls": [call["function"] for call in message["tool_calls"]]}
            if message.get("tool_calls")
            else {"result": message["content"]}
            for message in self.added
        ]

    def usage(self) -> dict[str, int]:
        """Tokens of the first prompt, and those that the model wrote, calls among them."""
        n_read = len(self.rounds[0].prompt) if self.rounds else 0
        n_written = sum(len(done.ids) for done in self.rounds)
        return {"prompt_tokens": n_read, "completion_tokens": n_written, "total_tokens": n_read + n_written}


def _sources(text: str, read: Sequence[str], address: Callable[[int], str | None]) -> list[dict[str, Any]]:
    """What was read for an answer, by number or by page, and whether the answer cites it."""
    found = [
        {"number": source.number, "title": source.title, "url": source.address, "cited": source.cited}
        for source in citations(text, read)
    ]
    pages = dict.fromkeys(int(page) for result in read for page in re.findall(r"^Page (\d+):", result))
    return found + [
        {"number": page, "title": f"Page {page}", "url": address(page), "cited": f"Page {page} " in text}
        for page in pages
    ]
