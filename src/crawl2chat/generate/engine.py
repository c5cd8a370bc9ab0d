"""Batched generation with a KV cache."""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch

from crawl2chat.generate.sampling import Sampling, draw
from crawl2chat.generate.stream import TextStream
from crawl2chat.model import Transformer
from crawl2chat.tokens import Tokenizer

# Constrained decoding: from the ids written so far to those that may follow; None where any may.
Rule = Callable[[Sequence[int]], Collection[int] | None]


@dataclass
class Completion:
    """What was generated: ids (with the one that ended it), text without it, and why it ended.

    `logprobs`: of each id, in nats, in the distribution that it was drawn from.
    """

    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    text: str = ""
    finish_reason: Literal["stop", "length"] | None = None


@dataclass
class _Request:
    index: int
    prompt: list[int]
    limit: int
    generator: np.random.Generator
    stream: TextStream
    completion: Completion
    rule: Rule | None = None


class Engine:
    """Generates for many prompts at once; a prompt gets the tokens that it would get alone."""

    def __init__(self, model: Transformer, tokenizer: Tokenizer, max_batch: int = 128) -> None:
        self.model, self.tokenizer, self.max_batch = model.eval(), tokenizer, max_batch
        self.device = next(model.parameters()).device
        self.context = model.config.max_position_embeddings

    def generate(
        self,
        prompts: Sequence[str | Sequence[int]],
        sampling: Sampling,
        seeds: Sequence[int] | None = None,
        rules: Sequence[Rule | None] | None = None,
    ) -> list[Completion]:
        """Complete each prompt: a text (a document's beginning) or ids (such as of `encode_chat`).

        Prompt i draws from a generator of (sampling.seed, seeds[i]); seeds default to 0, 1, 2, …
        rules[i], if given, is told what prompt i's completion holds so far and names the ids that may come next.
        Raises ValueError for a prompt that leaves no room in the model's context.
        """
        requests = [
            self._request(i, prompt, sampling, i if seeds is None else seeds[i]) for i, prompt in enumerate(prompts)
        ]
        for request, rule in zip(requests, rules or [], strict=bool(rules)):
            request.rule = rule
        by_length = sorted(requests, key=lambda r: len(r.prompt))  # little padding within a batch
        for start in range(0, len(by_length), self.max_batch):
            for _ in self._decode(by_length[start : start + self.max_batch], sampling):
                pass
        return [request.completion for request in requests]

    def stream(self, prompt: str | Sequence[int], sampling: Sampling) -> Iterator[str]:
        """Yield the completion's text as it arrives."""
        for _, text in self._decode([self._request(0, prompt, sampling, 0)], sampling):
            if text:
                yield text

    def _request(self, index: int, prompt: str | Sequence[int], sampling: Sampling, seed: int) -> _Request:
        tokenizer = self.tokenizer
        # documents were trained on behind an end-of-text token, so a text is given one
        ids = [tokenizer.end_of_text, *tokenizer.encode(prompt)] if isinstance(prompt, str) else list(prompt)
        room = self.context - len(ids)
        if not ids or room < 1:
            raise ValueError(f"prompt {index} has {len(ids)} tokens; the context takes 1 to {self.context - 1}")
        generator = np.random.default_rng((sampling.seed, seed))
        stream = TextStream(tokenizer, sampling.stop)
        return _Request(index, ids, min(sampling.max_tokens, room), generator, stream, Completion())

    @torch.inference_mode()
    def _decode(self, requests: list[_Request], sampling: Sampling) -> Iterator[tuple[int, str]]:
        """Run requests to their ends together; yields (request's index, new text) for each token."""
        lengths = [len(r.prompt) for r in requests]
        longest = max(lengths)
        padded = [r.prompt + [0] * (longest - len(r.prompt)) for r in requests]
        cache = self.model.new_cache(len(requests), longest + max(r.limit for r in requests))
        lengths_b = torch.tensor(lengths, device=self.device)
        features_btc = self.model.features(torch.tensor(padded, device=self.device), cache)
        cache.advance(lengths_b, longest)
        last_bc = features_btc[torch.arange(len(requests), device=self.device), lengths_b - 1]
        while requests:
            logits_bv = _under_rules(self.model.logits(last_bc), requests)
            drawn_b, logprobs_b = draw(logits_bv, sampling, [r.generator for r in requests])
            going: list[int] = []
            drawn = zip(requests, drawn_b.tolist(), logprobs_b.tolist(), strict=True)
            for row, (request, id, logprob) in enumerate(drawn):
                request.completion.logprobs.append(logprob)
                yield request.index, self._take(request, id)
                if request.completion.finish_reason is None:
                    going.append(row)
            if len(going) < len(requests):  # finished sequences leave the batch at once
                if not going:
                    return
                going = _fill_gaps(going)
                requests = [requests[row] for row in going]
                rows = torch.tensor(going, device=self.device)
                cache.keep(rows)
                drawn_b = drawn_b[rows]
            last_bc = self.model.features(drawn_b[:, None], cache)[:, -1]

    def _take(self, request: _Request, id: int) -> str:
        completion = request.completion
        completion.ids.append(id)
        if id in self.tokenizer.stop_ids:
            completion.finish_reason = "stop"
            text = request.stream.finish()
        else:
            text = request.stream.push(id)
            if request.stream.stopped:
                completion.finish_reason = "stop"
            elif len(completion.ids) >= request.limit:
                completion.finish_reason = "length"
                text += request.stream.finish()
        completion.text += text
        return text


def _fill_gaps(going: list[int]) -> list[int]:
    """The rows that go on (ascending), the last ones in the places of those that end: few rows move in the cache.

    [0, 2, 3, 5] of six rows becomes [0, 5, 2, 3].
    """
    stay = {row for row in going if row < len(going)}
    last = [row for row in going if row >= len(going)]
    return [place if place in stay else last.pop() for place in range(len(going))]


def _under_rules(logits_bv: torch.Tensor, requests: list[_Request]) -> torch.Tensor:
    """Leave out, by −inf, what the rules of the requests do not allow next."""
    for row, request in enumerate(requests):
        allowed = request.rule(request.completion.ids) if request.rule else None
        if allowed is not None:
            ids = torch.tensor(sorted(allowed), device=logits_bv.device)
            kept = logits_bv[row, ids]
            logits_bv[row] = -torch.inf
            logits_bv[row, ids] = kept
    return logits_bv
