"""Asking a model: messages become a prompt, and the prompt an answer that is written out as it is made."""

import time
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from crawl2chat.chat.citing import listed, with_passages
from crawl2chat.chat.toolbox import PASSAGES
from crawl2chat.chat.tools import (
    MAX_ROUNDS,
    AnyTool,
    OfferForm,
    begins_call,
    carry_out_all,
    opening,
    parse_reply,
    question_of,
    quoting,
    sayable,
    spoken,
)
from crawl2chat.evals.base.base_prompts import helper_page
from crawl2chat.generate import Completion, Engine, Sampling
from crawl2chat.generate.request import Rule
from crawl2chat.search import SearchIndex
from crawl2chat.tokenizer import Message, ToolCall

Ending = Literal["stop", "max_tokens", "context", "rounds", "interrupted"]
ENDINGS: dict[str, Ending] = {"stop": "stop", "cancelled": "interrupted"}


@dataclass
class Reply:
    """What a model added to a conversation, how that ended, and what it took.

    `ended`: by the model or a stop text, at max_tokens, where the context is full, after MAX_ROUNDS of calls, or by
    the person. Of several rounds with tools, `read` and `reused` are the last one's, the others of all together.
    """

    messages: list[Message] = field(default_factory=list)
    ended: Ending = "stop"
    written: int = 0  # tokens
    read: int = 0  # tokens of the prompt
    reused: int = 0  # of these, those that the engine had read before
    started: float = field(default_factory=time.monotonic)
    seconds: float = 0.0
    first_seconds: float | None = None  # until the first token
    passages: str = ""  # that were put before the question, as the model reads them


class Talk:
    """How messages become a prompt, and a prompt becomes an answer.

    A chat model reads ChatML. A base model has never seen it: it is given a page on which a helper answers, and
    goes on with that page to the end of the line. With tools, calls are carried out and shown.
    """

    def __init__(
        self,
        engine: Engine,
        sampling: Sampling,
        *,
        base: bool = False,
        tools: Mapping[str, AnyTool] | None = None,
        offers: OfferForm | None = "names",
        address: Callable[[int], str | None] = lambda page: None,
        reads: SearchIndex | None = None,
    ) -> None:
        """offers: how tools are offered. address: of a page by the number that a search of paragraphs gives it, to be
        shown next to an answer that names it. reads: documents in which every question is looked up before the model
        reads it, with what was found.
        """
        self.engine, self.sampling, self.base = engine, sampling, base
        self.tools, self.offers, self.address, self.reads = tools or {}, offers, address, reads

    def opening(self, system: str | None = None) -> list[Message]:
        """Return the messages that a conversation begins with: the tools on offer, and a system message."""
        return opening(self.tools, self.offers, system)

    def prompt(self, messages: Sequence[Message], begun: str = "") -> list[int]:
        """Return the ids that the model reads before it answers; begun: an answer's beginning, to be gone on with."""
        tokenizer = self.engine.tokenizer
        if not self.base:
            return [*tokenizer.encode_chat(messages, add_generation_prompt=True)[0], *tokenizer.encode(begun)]
        line = " ".join(["", *begun.split()])  # as the page writes what was said
        return [tokenizer.bos_id, *tokenizer.encode(helper_page(messages) + line)]

    def answer(
        self,
        messages: Sequence[Message],
        write: Callable[[str], object] = lambda text: None,
        *,
        show: Callable[[ToolCall, str], object] = lambda called, result: None,
        seed: int = 0,
        interrupted: Callable[[], bool] = lambda: False,
    ) -> Reply:
        """Answer the last message. Text goes to `write` as it arrives, each call of a tool and its result to `show`.

        seed: another one draws another answer. interrupted: asked between tokens; what was said by then is returned.
        Raises ValueError for a prompt that leaves no room in the context.
        """
        asked, reply = question_of(messages), Reply()
        messages, reply.passages = self._with_passages(messages)
        for n_rounds in range(1 + MAX_ROUNDS):
            prompt = self.prompt([*messages, *reply.messages])
            if n_rounds and len(prompt) >= self.engine.context:
                reply.ended = "context"
                break
            rule = quoting(self.engine.tokenizer, [*messages, *reply.messages])
            calls = self._round(prompt, reply, write, seed, interrupted, rule)
            if not calls:
                break
            if n_rounds == MAX_ROUNDS:
                reply.ended = "rounds"
                break
            results = carry_out_all(reply.messages, self.tools, asked)
            reply.messages += results
            for called, result in zip(calls, results, strict=True):
                show(called, result["content"])
        reply.seconds = time.monotonic() - reply.started
        return reply

    def _with_passages(self, messages: Sequence[Message]) -> tuple[Sequence[Message], str]:
        """The conversation with what was found for its last question in that message, as much as leaves room."""
        if self.reads is None or not messages or messages[-1]["role"] != "user":
            return messages, ""
        question = messages[-1]["content"]
        found = self.reads.best(question, PASSAGES)
        room = self.engine.context - max(1, min(self.sampling.max_tokens, self.engine.context // 2))
        for n in range(len(found), 0, -1):
            said = [*messages[:-1], Message(role="user", content=with_passages(question, found[:n]))]
            if len(self.prompt(said)) <= room:
                return said, listed(found[:n])
        return messages, ""

    def _round(
        self,
        prompt: list[int],
        reply: Reply,
        write: Callable[[str], object],
        seed: int,
        interrupted: Callable[[], bool],
        rule: Rule | None,
    ) -> list[ToolCall]:
        """One message of the model, added to the reply; returns the calls that it makes."""
        if self.base:
            sampling = replace(self.sampling, stop=(*self.sampling.stop, "\n"))
        else:
            sampling = sayable(self.engine.tokenizer, self.sampling, calls=bool(self.tools))
        request = self.engine.submit(prompt, sampling, seed=seed, rule=rule)
        completion, text, n_written = request.completion, "", 0
        while completion.finish_reason is None:
            if interrupted():
                self.engine.cancel(request)
            else:
                self.engine.step()
            if reply.first_seconds is None and completion.ids:
                reply.first_seconds = time.monotonic() - reply.started
            text = self._spoken(completion)
            write(text[n_written:])
            n_written = len(text)
        reply.written += len(completion.ids)
        reply.read, reply.reused = len(prompt), completion.reused
        full: Ending = "context" if len(completion.ids) < self.sampling.max_tokens else "max_tokens"
        reply.ended = ENDINGS.get(completion.finish_reason or "", full)
        if reply.ended == "interrupted" and not text:
            return []
        message = Message(role="assistant", content=text)
        if self.tools and reply.ended != "interrupted":  # an unfinished call does not count
            parsed = parse_reply(self.engine.tokenizer, completion.ids)
            message = parsed if parsed.get("tool_calls") else Message(role="assistant", content=text.strip())
        reply.messages.append(message)
        return message.get("tool_calls", [])

    def _spoken(self, completion: Completion) -> str:
        """The text so far without the calls in it; it only ever grows."""
        text = completion.text
        if self.tools and not self.base:
            text = spoken(self.engine.tokenizer, completion.ids, text)
            if completion.finish_reason and not self._calls(completion):
                text = completion.text  # what could have become a call has not
        return text.lstrip() if self.base or self.tools else text

    def _calls(self, completion: Completion) -> bool:
        """Whether an answer that has ended is a call of a tool, or the beginning of one."""
        tokenizer, ids = self.engine.tokenizer, completion.ids
        return begins_call(tokenizer, ids, completion.text) or "tool_calls" in parse_reply(tokenizer, ids)


def fit_context(talk: Talk, opening: list[Message], history: list[Message]) -> list[Message] | None:
    """The newest turns that leave room for an answer; None when not even the last message does.

    Room is `max_tokens`, or half the context if that is less. What is left begins with a user's message.
    """
    context = talk.engine.context
    most = context - max(1, min(talk.sampling.max_tokens, context // 2))
    starts = [place for place, message in enumerate(history) if message["role"] == "user"]
    fitting = bisect_left(starts, True, key=lambda start: len(talk.prompt([*opening, *history[start:]])) <= most)
    return history[starts[fitting] :] if fitting < len(starts) else None
