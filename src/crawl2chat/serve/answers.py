"""What goes back: OpenAI's objects, whole or piece by piece."""

import json
import secrets
import time
from collections.abc import Sequence
from typing import Any

from crawl2chat.chat.tools import parse_reply
from crawl2chat.generate.request import TextStream
from crawl2chat.serve.logprobs import CompletionLogprobs, chat_logprobs, join
from crawl2chat.serve.requests import ChatRequest, CompletionRequest
from crawl2chat.serve.worker import Piece
from crawl2chat.tokenizer import Tokenizer
from crawl2chat.tokenizer.tokenizer import TOOL_CALL


class CompletionChoice:
    """One answer of /v1/completions; `take` gives what a piece adds to it, `whole` all of it."""

    def __init__(
        self, tokenizer: Tokenizer, request: CompletionRequest, index: int, prompt: Sequence[int], *, skipped: int
    ) -> None:
        """skipped: tokens at the prompt's beginning that were not asked for, so that echo leaves them out."""
        self.tokenizer, self.request, self.index = tokenizer, request, index
        self.prompt, self.skipped = prompt, skipped
        self.logprobs = CompletionLogprobs(tokenizer, controlled=bool(request.controlled_logprobs))
        self.n_ids = self.reused = 0
        self.taken: list[dict[str, Any]] = []

    def take(self, piece: Piece) -> dict[str, Any] | None:
        """The choice of a stream's next chunk; None where there is nothing to tell yet."""
        self.n_ids += len(piece.ids)
        text, ids, logprobs = piece.text, piece.ids, []
        wanted = self.request.logprobs is not None
        if piece.prompt:
            self.reused = piece.prompt.reused
            if self.request.echo:
                text = self.tokenizer.decode(self.prompt[self.skipped :]) + text
                if wanted:
                    logprobs.append(self.logprobs.of_prompt(self.prompt, piece.prompt, self.skipped))
        if wanted and ids:
            logprobs.append(self.logprobs.of_piece(piece))
        ids_told = ids if self.request.return_token_ids else []
        if not (text or logprobs or ids_told or piece.finish_reason):
            return None
        choice: dict[str, Any] = {"index": self.index, "text": text, "logprobs": join(logprobs) if wanted else None}
        choice["finish_reason"] = piece.finish_reason
        if self.request.return_token_ids:
            choice["token_ids"] = ids
            if piece.prompt:
                choice["prompt_token_ids"] = list(self.prompt)
        return choice

    def keep(self, piece: Piece) -> None:
        """Take a piece for `whole`."""
        choice = self.take(piece)
        if choice:
            self.taken.append(choice)

    def whole(self) -> dict[str, Any]:
        parts = self.taken
        choice = {**parts[0], "text": "".join(part["text"] for part in parts)}
        choice["finish_reason"] = parts[-1]["finish_reason"]
        if self.request.logprobs is not None:
            choice["logprobs"] = join([part["logprobs"] for part in parts if part["logprobs"]])
        if self.request.return_token_ids:
            choice["token_ids"] = [id for part in parts for id in part["token_ids"]]
        return choice


class ChatChoice:
    """One answer of /v1/chat/completions; `take` gives what a piece adds to it, `whole` all of it."""

    def __init__(
        self, tokenizer: Tokenizer, request: ChatRequest, index: int, prompt: Sequence[int], *, on_page: bool = False
    ) -> None:
        """on_page: whether a base model answers on a page, where a space comes before what is said."""
        self.on_page = on_page
        self.tokenizer, self.request, self.index, self.prompt = tokenizer, request, index, prompt
        self.calls = _Calls(tokenizer, request) if request.offered else None
        self.n_ids = self.reused = 0
        self.taken: list[dict[str, Any]] = []
        self.began = False

    def take(self, piece: Piece) -> dict[str, Any] | None:
        """The choice of a stream's next chunk; None where there is nothing to tell yet."""
        self.n_ids += len(piece.ids)
        if piece.prompt:
            self.reused = piece.prompt.reused
        text, reason = piece.text, piece.finish_reason
        calls: list[dict[str, Any]] = []
        if self.calls:
            text, calls = self.calls.take(piece)
            reason = "tool_calls" if reason == "stop" and self.calls.found else reason
        if self.on_page:
            text = text.lstrip()
            self.on_page = not text
        logprobs = None
        if self.request.logprobs:
            controlled = bool(self.request.controlled_logprobs)
            logprobs = {"content": chat_logprobs(self.tokenizer, piece, controlled=controlled), "refusal": None}
        tells = text or calls or reason or (piece.ids and (logprobs or self.request.return_token_ids))
        if self.began and not tells:
            return None
        delta: dict[str, Any] = {"content": text} if text else {}
        if not self.began:
            self.began = True
            delta = {"role": "assistant", "content": text}
        if calls:
            delta["tool_calls"] = calls
        choice = {"index": self.index, "delta": delta, "logprobs": logprobs, "finish_reason": reason}
        if self.request.return_token_ids:
            choice["token_ids"] = piece.ids
            if piece.prompt:
                choice["prompt_token_ids"] = list(self.prompt)
        return choice

    def keep(self, piece: Piece) -> None:
        """Take a piece for `whole`."""
        choice = self.take(piece)
        if choice:
            self.taken.append(choice)

    def whole(self) -> dict[str, Any]:
        parts = self.taken
        content = "".join(part["delta"].get("content", "") for part in parts)
        calls = [call for part in parts for call in part["delta"].get("tool_calls", ())]
        message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": None}
        if calls:
            message["content"] = content if content.strip() else None
            message["tool_calls"] = [{name: call[name] for name in ("id", "type", "function")} for call in calls]
        choice = {name: value for name, value in parts[0].items() if name != "delta"}
        choice |= {"message": message, "finish_reason": parts[-1]["finish_reason"]}
        if self.request.logprobs:
            choice["logprobs"] = join([part["logprobs"] | {"refusal": []} for part in parts]) | {"refusal": None}
        if self.request.return_token_ids:
            choice["token_ids"] = [id for part in parts for id in part["token_ids"]]
        return choice


class _Calls:
    """Splits an answer into text and calls of tools, by the ids of the control tokens around a call.

    A call is told when it is whole; one that was cut at the most tokens or at a stop text is not. One that is no JSON
    has the name and the argument that `parse_reply` gives it, so that, when it comes back in a conversation, the model
    reads what it was taught to read about its broken calls.
    """

    def __init__(self, tokenizer: Tokenizer, request: ChatRequest) -> None:
        self.tokenizer, self.stop = tokenizer, request.stop
        self.most = 1 if request.parallel_tool_calls is False else None
        self.opening, self.closing = (tokenizer.controls[tag] for tag in TOOL_CALL)
        self.stream = TextStream(tokenizer, self.stop)
        self.inside: list[int] | None = None
        self.found = 0

    def take(self, piece: Piece) -> tuple[str, list[dict[str, Any]]]:
        text = ""
        calls: list[dict[str, Any]] = []
        for id in piece.ids:
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
        if piece.finish_reason:
            if not (piece.ids and piece.ids[-1] in self.tokenizer.stop_ids):  # cut, not ended by the model
                self.inside = None
            calls += self._end_call()
            if not self.stream.stopped:
                text += self.stream.finish()
        return text, calls

    def _end_call(self) -> list[dict[str, Any]]:
        ids, self.inside = self.inside, None
        if not ids or self.found == self.most:
            return []
        (called,) = parse_reply(self.tokenizer, [self.opening, *ids, self.closing])["tool_calls"]
        self.found += 1
        function = called["function"]
        return [
            {
                "index": self.found - 1,
                "id": f"call_{secrets.token_hex(12)}",
                "type": "function",
                "function": {
                    # JSON can name halves of characters ("\ud800"), which can't be sent as they are
                    "name": function["name"].encode(errors="replace").decode(),
                    "arguments": json.dumps(function["arguments"]),
                },
            }
        ]


class Envelope:
    """What stands around the choices of a request: its id, the model, the time, and in the end the usage."""

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
