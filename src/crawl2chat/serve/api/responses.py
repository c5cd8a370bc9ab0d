"""Responses of OpenAI's API: choices, whole or as the chunks of a stream, and the log-probabilities in them.

Log-probabilities have one shape in completions and another one in chats. There is an entry for every id of an answer,
also for those whose text is held back or left out: parts of characters, stop texts, and the token that ends it.
"""

import codecs
import json
import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any

from crawl2chat.chat.tools import CALL_IN_WORDS, begins_call, parse_reply, spoken
from crawl2chat.generate import Candidates
from crawl2chat.generate.request import TextStream
from crawl2chat.serve.api.requests import ChatRequest, CompletionRequest
from crawl2chat.serve.engine_thread import Delta, Prefill
from crawl2chat.tokenizer import Tokenizer, ToolCall
from crawl2chat.tokenizer.tokenizer import TOOL_CALL

MIN_LOGPROB = -9999.0  # OpenAI's way to write −∞, which JSON can't


class _Choice:
    """One answer of a response, and what it has in common for completions and chats."""

    def __init__(
        self, tokenizer: Tokenizer, request: CompletionRequest | ChatRequest, index: int, prompt: Sequence[int]
    ) -> None:
        self.tokenizer, self.index, self.prompt = tokenizer, index, prompt
        self.returns_ids, self.controlled = bool(request.return_token_ids), bool(request.controlled_logprobs)
        self.n_ids = self.reused = 0
        self.chunks: list[dict[str, Any]] = []

    def chunk(self, delta: Delta) -> dict[str, Any] | None:
        """The choice of a stream's next chunk; None if there is nothing to send yet."""
        raise NotImplementedError

    def add(self, delta: Delta) -> None:
        """Take a delta for `whole`."""
        chunk = self.chunk(delta)
        if chunk:
            self.chunks.append(chunk)

    def _count(self, delta: Delta) -> None:
        self.n_ids += len(delta.ids)
        if delta.prefill:
            self.reused = delta.prefill.reused

    def _with_ids(self, choice: dict[str, Any], delta: Delta) -> dict[str, Any]:
        if self.returns_ids:
            choice["token_ids"] = delta.ids
            if delta.prefill:
                choice["prompt_token_ids"] = list(self.prompt)
        return choice

    def _whole_ids(self) -> dict[str, Any]:
        return {"token_ids": [id for chunk in self.chunks for id in chunk["token_ids"]]} if self.returns_ids else {}


class CompletionChoice(_Choice):
    """One answer of /v1/completions."""

    def __init__(
        self, tokenizer: Tokenizer, request: CompletionRequest, index: int, prompt: Sequence[int], *, skipped: int
    ) -> None:
        """skipped: tokens at the prompt's beginning that were not asked for, so that echo leaves them out."""
        super().__init__(tokenizer, request, index, prompt)
        self.request, self.skipped = request, skipped
        self.logprobs = CompletionLogprobs(tokenizer, controlled=self.controlled)

    def chunk(self, delta: Delta) -> dict[str, Any] | None:
        self._count(delta)
        text, logprobs = delta.text, []
        reports = self.request.logprobs is not None
        if delta.prefill and self.request.echo:
            text = self.tokenizer.decode(self.prompt[self.skipped :]) + text
            if reports:
                logprobs.append(self.logprobs.of_prompt(self.prompt, delta.prefill, self.skipped))
        if reports and delta.ids:
            logprobs.append(self.logprobs.of_delta(delta))
        if not (text or logprobs or (self.returns_ids and delta.ids) or delta.finish_reason):
            return None
        choice: dict[str, Any] = {"index": self.index, "text": text, "logprobs": join(logprobs) if reports else None}
        choice["finish_reason"] = delta.finish_reason
        return self._with_ids(choice, delta)

    def whole(self) -> dict[str, Any]:
        choice = {**self.chunks[0], "text": "".join(chunk["text"] for chunk in self.chunks)}
        choice["finish_reason"] = self.chunks[-1]["finish_reason"]
        if self.request.logprobs is not None:
            choice["logprobs"] = join([chunk["logprobs"] for chunk in self.chunks if chunk["logprobs"]])
        return choice | self._whole_ids()


class ChatChoice(_Choice):
    """One answer of /v1/chat/completions."""

    def __init__(
        self, tokenizer: Tokenizer, request: ChatRequest, index: int, prompt: Sequence[int], *, on_page: bool = False
    ) -> None:
        """on_page: whether a base model answers on a page, where a space comes before what is said."""
        super().__init__(tokenizer, request, index, prompt)
        self.request, self.on_page = request, on_page
        kind = _Calls if set(TOOL_CALL) <= tokenizer.controls.keys() else _CallsInWords
        self.calls = kind(tokenizer, request) if request.offered else None
        self.began = False

    def chunk(self, delta: Delta) -> dict[str, Any] | None:
        self._count(delta)
        text, reason = delta.text, delta.finish_reason
        calls: list[dict[str, Any]] = []
        if self.calls:
            text, calls = self.calls.split(delta)
            reason = "tool_calls" if reason == "stop" and self.calls.found else reason
        if self.on_page:
            text = text.lstrip()
            self.on_page = not text
        logprobs = None
        if self.request.logprobs:
            entries = chat_logprobs(self.tokenizer, delta, controlled=self.controlled)
            logprobs = {"content": entries, "refusal": None}
        if self.began and not (text or calls or reason or (delta.ids and (logprobs or self.returns_ids))):
            return None
        content: dict[str, Any] = {"content": text} if text else {}
        if not self.began:
            self.began = True
            content = {"role": "assistant", "content": text}
        if calls:
            content["tool_calls"] = calls
        choice = {"index": self.index, "delta": content, "logprobs": logprobs, "finish_reason": reason}
        return self._with_ids(choice, delta)

    def whole(self) -> dict[str, Any]:
        content = "".join(chunk["delta"].get("content", "") for chunk in self.chunks)
        calls = [call for chunk in self.chunks for call in chunk["delta"].get("tool_calls", ())]
        message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": None}
        if calls:
            message["content"] = content if content.strip() else None
            message["tool_calls"] = [{name: call[name] for name in ("id", "type", "function")} for call in calls]
        choice = {name: value for name, value in self.chunks[0].items() if name != "delta"}
        choice |= {"message": message, "finish_reason": self.chunks[-1]["finish_reason"]}
        if self.request.logprobs:
            parts = [chunk["logprobs"] | {"refusal": []} for chunk in self.chunks]
            choice["logprobs"] = join(parts) | {"refusal": None}
        return choice | self._whole_ids()


class _Calls:
    """Splits an answer into text and calls of tools, by the ids of the control tokens around a call.

    A call is sent when it is whole; one that was cut at max_tokens or at a stop text is not. One that is not JSON has
    the name and the argument that `parse_reply` gives it, so that, when it comes back in a conversation, the model
    reads what it was taught to read about its broken calls.
    """

    def __init__(self, tokenizer: Tokenizer, request: ChatRequest) -> None:
        self.tokenizer, self.stop = tokenizer, request.stop
        self.max_calls = 1 if request.parallel_tool_calls is False else None
        self.opening, self.closing = (tokenizer.controls[tag] for tag in TOOL_CALL)
        self.stream = TextStream(tokenizer, self.stop)
        self.inside: list[int] | None = None
        self.text, self.n_sent, self.found = "", 0, 0

    def split(self, delta: Delta) -> tuple[str, list[dict[str, Any]]]:
        text = ""
        calls: list[dict[str, Any]] = []
        for id in delta.ids:
            if id in (self.opening, self.closing):
                calls += self._end_call()
                if self.inside is None and id == self.opening:
                    text += self.stream.finish()
                    self.stream = TextStream(self.tokenizer, self.stop)
                self.inside = [] if id == self.opening else None
            elif id in self.tokenizer.stop_ids:
                continue
            elif self.inside is not None:
                self.inside.append(id)
            elif not self.stream.stopped:
                text += self.stream.push(id)
        if delta.finish_reason:
            if not (delta.ids and delta.ids[-1] in self.tokenizer.stop_ids):  # cut, not ended by the model
                self.inside = None
            calls += self._end_call()
            if not self.stream.stopped:
                text += self.stream.finish()
        self.text += text
        if self.text.lstrip().startswith("{") and not self.found:  # perhaps a call whose tokens were forgotten
            if not delta.finish_reason:
                return "", calls
            if CALL_IN_WORDS.match(self.text):
                ended = bool(delta.ids) and delta.ids[-1] in self.tokenizer.stop_ids
                self.inside = self.tokenizer.encode(self.text) if ended else None
                return "", calls + self._end_call()
        new, self.n_sent = self.text[self.n_sent :], len(self.text)
        return new, calls

    def _end_call(self) -> list[dict[str, Any]]:
        ids, self.inside = self.inside, None
        if not ids or self.found == self.max_calls:
            return []
        (called,) = parse_reply(self.tokenizer, [self.opening, *ids, self.closing])["tool_calls"]
        self.found += 1
        return [_sent_call(self.found - 1, called)]


class _CallsInWords:
    """Splits the answer of a model that calls in words, as its template teaches: Llama 3's, Mistral's, SmolLM2's.

    Text is sent as soon as it can't be part of a call. Calls are read when the answer has ended; one that was cut at
    max_tokens or at a stop text is not sent.
    """

    def __init__(self, tokenizer: Tokenizer, request: ChatRequest) -> None:
        self.tokenizer = tokenizer
        self.max_calls = 1 if request.parallel_tool_calls is False else None
        self.stream = TextStream(tokenizer, request.stop)
        self.ids: list[int] = []
        self.text, self.n_sent, self.found = "", 0, 0

    def split(self, delta: Delta) -> tuple[str, list[dict[str, Any]]]:
        self.ids += delta.ids
        for id in delta.ids:
            if id not in self.tokenizer.stop_ids:
                self.text += self.stream.push(id)  # nothing behind a stop text
        calls: list[ToolCall] = []
        if delta.finish_reason:
            self.text += self.stream.finish()
            if delta.ids and delta.ids[-1] in self.tokenizer.stop_ids:
                calls = parse_reply(self.tokenizer, self.ids).get("tool_calls", [])[: self.max_calls]
        text = spoken(self.tokenizer, self.ids, self.text)
        if delta.finish_reason and not calls and not begins_call(self.tokenizer, self.ids, self.text):
            text = self.text  # what could have become a call has not
        new, self.n_sent, self.found = text[self.n_sent :], max(self.n_sent, len(text)), len(calls)
        return new, [_sent_call(i, called) for i, called in enumerate(calls)]


def _sent_call(index: int, called: ToolCall) -> dict[str, Any]:
    function = called["function"]
    return {
        "index": index,
        "id": f"call_{secrets.token_hex(12)}",
        "type": "function",
        "function": {
            # JSON can name halves of characters ("\ud800"), which can't be sent as they are
            "name": function["name"].encode(errors="replace").decode(),
            "arguments": json.dumps(function["arguments"]),
        },
    }


class Envelope:
    """What is around the choices of a response: its id, the model, the time, and in the end the usage."""

    def __init__(self, kind: str, model: str) -> None:
        """kind: the object's name, "chat.completion" or "text_completion"."""
        prefix = "chatcmpl" if kind == "chat.completion" else "cmpl"
        self.kind = kind
        self.fields = {"id": f"{prefix}-{secrets.token_hex(12)}", "created": int(time.time()), "model": model}

    def whole(self, choices: list[dict[str, Any]], usage: dict[str, Any]) -> dict[str, Any]:
        return {**self.fields, "object": self.kind, "choices": choices, "usage": usage}

    def chunk(self, choices: list[dict[str, Any]], *, usage: dict[str, Any] | None, with_usage: bool) -> dict[str, Any]:
        """with_usage: whether the client asked for it; then every chunk has the field, null but in the last one."""
        kind = "chat.completion.chunk" if self.kind == "chat.completion" else self.kind
        chunk = {**self.fields, "object": kind, "choices": choices}
        return chunk | {"usage": usage} if with_usage else chunk


def usage(choices: Sequence[CompletionChoice] | Sequence[ChatChoice], per_prompt: int) -> dict[str, Any]:
    """Tokens read and written. A prompt with several answers counts once."""
    firsts = choices[::per_prompt]
    read, written = sum(len(choice.prompt) for choice in firsts), sum(choice.n_ids for choice in choices)
    return {
        "prompt_tokens": read,
        "completion_tokens": written,
        "total_tokens": read + written,
        "prompt_tokens_details": {"cached_tokens": sum(choice.reused for choice in firsts)},
    }


def token_text(tokenizer: Tokenizer, id: int) -> str:
    """A token as text; a part of a character by its bytes, as OpenAI writes it, so that no two look alike."""
    content = tokenizer.decode_bytes([id])
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in content)


class CompletionLogprobs:
    """Lists with one entry per token, and the place of each token in the text."""

    def __init__(self, tokenizer: Tokenizer, *, controlled: bool) -> None:
        """controlled: whether to add the log-probabilities after all controls."""
        self.tokenizer, self.controlled = tokenizer, controlled
        self.decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self.offset = 0

    def of_prompt(self, ids: Sequence[int], prefill: Prefill, skipped: int) -> dict[str, Any]:
        """Of the prompt without its first `skipped` tokens, which were not asked for; the first has none."""
        ids = ids[skipped:]  # none are left of a text without one
        values = [None, *prefill.logprobs[skipped + 1 :]][: len(ids)]
        entry = self._lists(ids, values, [None, *prefill.top[skipped + 1 :]][: len(ids)])
        if self.controlled:  # nothing controls a prompt
            entry |= {"controlled_token_logprobs": values, "controlled_top_logprobs": entry["top_logprobs"]}
        return entry

    def of_delta(self, delta: Delta) -> dict[str, Any]:
        entry = self._lists(delta.ids, delta.model_logprobs, delta.top)
        if self.controlled:
            entry["controlled_token_logprobs"] = [finite_logprob(value) for value in delta.logprobs]
            entry["controlled_top_logprobs"] = self._tops(delta.ids, delta.logprobs, delta.top_controlled)
        return entry

    def _lists(
        self, ids: Sequence[int], values: Sequence[float | None], tops: Sequence[Candidates | None]
    ) -> dict[str, Any]:
        offsets = []
        for id in ids:
            offsets.append(self.offset)
            self.offset += len(self.decoder.decode(self.tokenizer.decode_bytes([id])))
        return {
            "tokens": [token_text(self.tokenizer, id) for id in ids],
            "token_logprobs": [finite_logprob(value) for value in values],
            "top_logprobs": self._tops(ids, values, tops),
            "text_offset": offsets,
        }

    def _tops(
        self, ids: Sequence[int], values: Sequence[float | None], tops: Sequence[Candidates | None]
    ) -> list[dict[str, float] | None]:
        return [
            None if value is None else self._top(id, value, top or [])
            for id, value, top in zip(ids, values, tops, strict=True)
        ]

    def _top(self, id: int, value: float, top: Candidates) -> dict[str, float]:
        """The most probable tokens and the one that was drawn; of two that look alike the more probable."""
        entry: dict[str, float] = {}
        for other, logprob in top:
            entry.setdefault(token_text(self.tokenizer, other), max(MIN_LOGPROB, logprob))
        entry.setdefault(token_text(self.tokenizer, id), max(MIN_LOGPROB, value))
        return entry


def chat_logprobs(tokenizer: Tokenizer, delta: Delta, *, controlled: bool) -> list[dict[str, Any]]:
    """One entry per token, with the most probable ones in its place."""
    entries = []
    for i, id in enumerate(delta.ids):
        entry = _entry(tokenizer, id, delta.model_logprobs[i])
        entry["top_logprobs"] = [_entry(tokenizer, *candidate) for candidate in delta.top[i]]
        if controlled:
            entry["controlled_logprob"] = max(MIN_LOGPROB, delta.logprobs[i])
            entry["controlled_top_logprobs"] = [_entry(tokenizer, *candidate) for candidate in delta.top_controlled[i]]
        entries.append(entry)
    return entries


def join(lists: Sequence[Mapping[str, list[Any]]]) -> dict[str, list[Any]]:
    """The lists of several deltas, concatenated."""
    return {name: [value for part in lists for value in part[name]] for name in (lists[0] if lists else {})}


def _entry(tokenizer: Tokenizer, id: int, logprob: float) -> dict[str, Any]:
    is_control = id in tokenizer.controls.values()
    return {
        "token": token_text(tokenizer, id),
        "logprob": max(MIN_LOGPROB, logprob),
        "bytes": None if is_control else list(tokenizer.decode_bytes([id])),
    }


def finite_logprob(value: float | None) -> float | None:
    return None if value is None else max(MIN_LOGPROB, value)
