"""Stands in for an engine: says, token by token, what it was told to say."""

import time
from types import SimpleNamespace

from crawl2chat.tokenizer import Tokenizer


class ScriptedEngine:
    """Answers requests in turn with `replies`: texts, or messages with calls of tools; then says them all again.

    `requests` keeps what was asked for: prompt, sampling and seed. seconds: that a token takes.
    """

    def __init__(self, tokenizer: Tokenizer, *replies, context=1000, seconds=0.0):
        self.tokenizer, self.replies, self.context, self.seconds = tokenizer, replies, context, seconds
        self.requests, self.running = [], []

    def submit(self, prompt, sampling, *, seed=0, rule=None):
        reply = self.replies[len(self.requests) % len(self.replies)]
        message = {"role": "assistant", "content": reply} if isinstance(reply, str) else reply
        ids, mask = self.tokenizer.encode_chat([message])
        completion = SimpleNamespace(ids=[], text="", finish_reason=None, reused=0)
        request = SimpleNamespace(
            prompt=self.tokenizer.decode(prompt), sampling=sampling, seed=seed, rule=rule, completion=completion,
            waiting=[id for id, mine in zip(ids, mask, strict=True) if mine],
            room=min(sampling.max_tokens, self.context - len(prompt)),
        )  # fmt: skip
        self.requests.append(request)
        self.running.append(request)
        return request

    def step(self):
        time.sleep(self.seconds)
        for request in list(self.running):
            completion = request.completion
            completion.ids.append(request.waiting.pop(0))
            if not request.waiting:
                completion.finish_reason = "stop"
            elif len(completion.ids) >= request.room:
                completion.finish_reason = "length"
            completion.text = self.tokenizer.decode(id for id in completion.ids if id not in self.tokenizer.stop_ids)
            if completion.finish_reason:
                self.running.remove(request)
        return []

    def cancel(self, request):
        request.completion.finish_reason = "cancelled"
        self.running.remove(request)
