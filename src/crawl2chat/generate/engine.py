"""Continuous batching: requests join and leave at any step, over a cache of a fixed size."""

from collections import deque
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from crawl2chat.generate.drawing import Controls
from crawl2chat.generate.kept import KeptCompletions
from crawl2chat.generate.request import Candidates, Completion, Request, Rule, TextStream
from crawl2chat.generate.rows import Rows, length_and_rows
from crawl2chat.generate.settings import Sampling
from crawl2chat.model import CachedTransformer, Transformer, WeightForm
from crawl2chat.stages.progress import Progress
from crawl2chat.tokenizer import Tokenizer

MEMORY = 2_000_000_000  # bytes for keys and values; on a CPU only what is used is taken
PREFILL_FLOP = {"cpu": 5e9, "cuda": 5e12}  # per step, some 0.05 s, for which other requests wait
SOON = 10.0  # seconds in which `generate` need not say how far it is
NUMBERS_AT_ONCE = 2**26  # attention's scores in a layer, or logits when a whole prompt's are wanted


class Engine:
    """Generates for many prompts at once; a prompt gets the tokens that it would get alone.

    `generate` and `stream` take prompts to their ends. Servers use `submit`, `step` and `cancel`, which those two are
    made of. Not for several threads.
    """

    def __init__(
        self,
        model: Transformer,
        tokenizer: Tokenizer,
        max_batch: int = 128,
        *,
        memory: int = MEMORY,
        context: int | None = None,
        empties_model: bool = False,
        weights: WeightForm | None = None,
        kept: KeptCompletions | None = None,
    ) -> None:
        """max_batch: requests that run at a time; memory: bytes for their keys and values.
        context: tokens of a prompt and its completion (default: the model's). To fit the memory, first requests are
        reduced, then context.
        empties_model: the engine takes over the weights and leaves the model empty; not for models to be trained or
        saved.
        weights: in what form matrices are kept, on a CPU; None: as in the model.
        kept: completions that `generate` need not compute again, for a model whose weights do not change.
        """
        self.model, self.tokenizer, self.kept = model.eval(), tokenizer, kept
        self.context, self.max_batch = length_and_rows(
            model, max_batch, memory, context, torch.float32 if weights else next(model.parameters()).dtype
        )
        flop = PREFILL_FLOP[next(model.parameters()).device.type]
        scores = model.config.num_attention_heads * self.context  # per token
        self.prefill_tokens = max(64, min(int(flop / (2 * model.n_parameters())), NUMBERS_AT_ONCE // scores))
        self.cached = CachedTransformer(
            model, self.max_batch, self.context, empties_model=empties_model, weights=weights,
            compiled=compiles(model, self.max_batch),
        )  # fmt: skip
        self.rows = Rows(self.cached.cache, self.max_batch)
        self.queue: deque[Request] = deque()
        nobody: tuple[list[Request], Controls] = ([], Controls([]))
        self.controls = {False: nobody, True: nobody}  # of the last requests that drew, as they seldom change

    @property
    def running(self) -> int:
        return len(self.rows.requests)

    @property
    def waiting(self) -> int:
        return len(self.queue)

    def generate(
        self,
        prompts: Sequence[str | Sequence[int]],
        sampling: Sampling,
        seeds: Sequence[int] | None = None,
        rules: Sequence[Rule | None] | None = None,
        *,
        label: str = "generate",
    ) -> list[Completion]:
        """Complete each prompt: a text (a document's beginning) or ids (such as of `encode_chat`).

        Prompt i draws from a generator of (sampling.seed, seeds[i]); seeds default to 0, 1, 2, …
        rules[i], if given, gets the ids of prompt i's completion so far and returns those that may come next.
        Shows its progress under `label` if it takes long.
        Raises ValueError for a prompt that leaves no room in the model's context.
        """
        seeds = range(len(prompts)) if seeds is None else seeds
        requests = [
            self._request(prompt, sampling, seed, rule, where=f"prompt {i}")
            for i, (prompt, seed, rule) in enumerate(zip(prompts, seeds, rules or [None] * len(prompts), strict=True))
        ]
        self._begin()
        todo = [request for request in requests if not (self.kept and self.kept.recall(request))]
        todo.sort(key=lambda request: len(request.prompt))  # little padding when they are read
        self.queue.extend(todo)
        unended = set(map(id, todo))
        tokens = 0
        try:
            with Progress(label, len(requests), "answer", after=SOON) as progress:
                while unended:
                    ended = [request for request in self.step() if request.ended and id(request) in unended]
                    unended -= set(map(id, ended))
                    tokens += sum(len(request.completion.ids) for request in ended)
                    if self.kept and ended:
                        self.kept.keep(ended)
                    progress.update(len(requests) - len(unended), f"{tokens:,} tokens")
        finally:
            for request in todo:
                self.cancel(request)
        return [request.completion for request in requests]

    def stream(self, prompt: str | Sequence[int], sampling: Sampling) -> Iterator[str]:
        """Yield the completion's text as it arrives; closing the iterator ends the generation."""
        request = self.submit(prompt, sampling)
        shown = 0
        try:
            while not request.ended:
                self.step()
                if new := request.completion.text[shown:]:
                    shown += len(new)
                    yield new
        finally:
            self.cancel(request)

    def submit(
        self,
        prompt: str | Sequence[int],
        sampling: Sampling,
        *,
        seed: int = 0,
        rule: Rule | None = None,
        prompt_logprobs: bool = False,
        n_answered: int = 0,
    ) -> Request:
        """Queue a prompt; `step` takes it on, first in, first out.

        prompt_logprobs: whether to report the log-probabilities of the prompt's own tokens, too.
        n_answered: how many of the prompt's last tokens begin the answer, as the penalties count it.
        Raises ValueError for a prompt that leaves no room in the context, and for ids outside the vocabulary.
        """
        request = self._request(prompt, sampling, seed, rule, prompt_logprobs)
        if not 0 <= n_answered <= len(request.prompt):
            raise ValueError(f"n_answered = {n_answered}: must be from 0 to the prompt's {len(request.prompt)} tokens")
        request.n_answered = n_answered
        self._begin()
        self.queue.append(request)
        return request

    def cancel(self, request: Request) -> None:
        """End a request now, whether it waits or runs; its place is free at once, also after a step that failed."""
        if request.row is not None:
            self.rows.leave(request)
        elif not request.ended:
            self.queue.remove(request)
        if not request.ended:
            request.end("cancelled")

    def step(self) -> list[Request]:
        """Prefill some prompts and draw a token for each that is read; returns the requests that advanced or ended."""
        while self.queue and self.rows.has_room:
            self.rows.enter(self.queue.popleft())
        changed = self._prefill()
        writing = [request for request in self.rows.requests if request.prefilled and not request.ended]
        if writing:
            self._write_tokens(writing)
            changed += [request for request in writing if request not in changed]
        for request in changed:
            if request.ended:
                self.rows.leave(request)
        self.rows.close_gaps()
        return changed

    @torch.inference_mode()
    def next_logits(self, ids: Sequence[int]) -> Tensor:
        """The model's logits (V,), float32, after these ids: those that a request with this prompt draws from.

        Computed at once, between the steps of others, from what the cache holds of the ids; where all rows are busy,
        without the cache. Raises ValueError as `submit` does.
        """
        request = self._request(ids, Sampling(max_tokens=1), 0)
        self._begin()
        if not self.rows.has_room:
            ids_1t = torch.tensor([request.prompt], device=self.cached.device)
            return self.model.logits(self.model.features(ids_1t)[:, -1])[0].float()
        self.rows.enter(request)
        try:
            row = request.row
            assert row is not None
            if not request.prefilled:
                self.rows.reuse(request)
            while not request.prefilled:
                piece = request.prompt[request.read : min(request.read + self.prefill_tokens, len(request.prompt) - 1)]
                self.cached.prefill([row], [request.read], [piece])
                request.read += len(piece)
                self.rows.hold(request)
            logits_bv = self.cached.decode([*[None] * row, (request.next_id, request.read)])
            request.read += 1
            return logits_bv[row].float().clone()
        finally:
            self.cancel(request)

    def _begin(self) -> None:
        """Before the first of several requests: see whether the model was trained since."""
        if not self.running and not self.waiting and self.cached.refresh():
            self.rows = Rows(self.cached.cache, self.max_batch)

    def _request(
        self,
        prompt: str | Sequence[int],
        sampling: Sampling,
        seed: int,
        rule: Rule | None = None,
        prompt_logprobs: bool = False,
        where: str = "the prompt",
    ) -> Request:
        tokenizer, vocabulary = self.tokenizer, self.model.config.vocab_size
        # documents were trained on after an end-of-text token, so a text is given one
        ids = [tokenizer.bos_id, *tokenizer.encode(prompt)] if isinstance(prompt, str) else list(prompt)
        room = self.context - len(ids)
        if not ids or room < (1 if sampling.max_tokens else 0):
            raise ValueError(f"{where} has {len(ids)} tokens; the context takes 1 to {self.context - 1}")
        for what, of in ((where, ids), ("logit_bias", sampling.logit_bias)):
            strange = next((id for id in of if not 0 <= id < vocabulary), None)
            if strange is not None:
                raise ValueError(f"{what}: there is no token {strange}; ids are 0 to {vocabulary - 1}")
        generator = np.random.default_rng((sampling.seed, seed))
        stream = TextStream(tokenizer, sampling.stop)
        limit = min(sampling.max_tokens, room)
        request = Request(ids, sampling, limit, generator, stream, rule, prompt_logprobs, seed)
        if prompt_logprobs:  # the first token has nothing before it
            request.completion.prompt_logprobs.append(None)
            request.completion.prompt_top.append(None)
            request.completion.prompt_entropies.append(None)
        return request

    def _prefill(self) -> list[Request]:
        """Read a piece of the prompts that are not read yet; returns those that end with it."""
        pieces = self.rows.to_prefill(self.prefill_tokens)
        if pieces:
            rows = [request.row for request, _ in pieces if request.row is not None]
            ids = [request.prompt[request.read : request.read + n] for request, n in pieces]
            features_btc = self.cached.prefill(rows, [request.read for request, _ in pieces], ids)
            for (request, n), features_tc in zip(pieces, features_btc, strict=True):
                if request.wants_prompt_logprobs:
                    self._score_prompt(request, features_tc, n)
                request.read += n
                self.rows.hold(request)
        done = [r for r in self.rows.requests if r.prefilled and not r.limit]
        for request in done:
            request.end("length")
        return done

    @torch.inference_mode()
    def _score_prompt(self, request: Request, features_tc: Tensor, n: int) -> None:
        """Log-probabilities of the n tokens of the prompt after those whose features these are, and entropies."""
        completion, k = request.completion, request.sampling.top_logprobs
        size = max(4, NUMBERS_AT_ONCE // self.model.config.vocab_size)
        for begin in range(0, n, size):
            log_p_tv = self.cached.head(features_tc[begin : begin + size]).float().log_softmax(dim=-1)
            following = request.prompt[request.read + begin + 1 : request.read + 1 + min(n, begin + size)]
            log_p_tv = log_p_tv[: len(following)]
            ids_t1 = torch.tensor(following, device=log_p_tv.device)[:, None]
            completion.prompt_logprobs += log_p_tv.gather(-1, ids_t1)[:, 0].tolist()
            completion.prompt_top += most_probable(log_p_tv, k)
            completion.prompt_entropies += torch.special.entr(log_p_tv.exp()).sum(dim=-1).tolist()

    @torch.inference_mode()
    def _write_tokens(self, writing: list[Request]) -> None:
        """Draw the next token of each of these requests."""
        by_row = {request.row: request for request in writing if request.row is not None}
        inputs = [(by_row[row].next_id, by_row[row].read) if row in by_row else None for row in range(max(by_row) + 1)]
        logits_bv = self.cached.decode(inputs).float()
        for request in writing:
            request.read += 1
        # a sequence must not depend on others, so those that draw from a few tokens are drawn separately
        for short in (False, True):
            rows = [row for row in sorted(by_row) if by_row[row].sampling.short == short]
            if rows:
                some = logits_bv if len(rows) == len(logits_bv) else logits_bv[rows]
                self._draw([by_row[row] for row in rows], some, short)

    def _draw(self, order: list[Request], logits_bv: Tensor, short: bool) -> None:
        """Give each request its next token. short: all draw among the SHORT most probable."""
        drawn_before, controls = self.controls[short]
        if drawn_before != order:
            controls = Controls([request.sampling for request in order], logits_bv.device)
            self.controls[short] = (order, controls)
        shifted_bv = controls.shift(_under_rules(logits_bv, order), [request.written for request in order])
        cut_bk, ids_bk = controls.drawn_from(shifted_bv, short=short)
        place_b1 = controls.draw(cut_bk, [request.generator for request in order])[:, None]
        drawn_b1 = place_b1 if ids_bk is None else ids_bk.gather(-1, place_b1)
        log_p_bv = logits_bv.log_softmax(dim=-1)
        log_q_bk = log_p_bv if cut_bk is logits_bv else cut_bk.log_softmax(dim=-1)
        scores = torch.cat([log_q_bk.gather(-1, place_b1), log_p_bv.gather(-1, drawn_b1)], dim=-1).tolist()
        k = max(request.sampling.top_logprobs for request in order)
        if k:
            tops = most_probable(log_p_bv, k), most_probable(log_q_bk, k, ids_bk)
        for row, (request, id) in enumerate(zip(order, drawn_b1[:, 0].tolist(), strict=True)):
            completion, k = request.completion, request.sampling.top_logprobs
            completion.logprobs.append(scores[row][0])
            completion.model_logprobs.append(scores[row][1])
            if k:
                completion.top.append(tops[0][row][:k])
                completion.top_controlled.append(tops[1][row][:k])
            request.take(id, self.tokenizer.stop_ids)


def compiles(model: Transformer, rows: int) -> bool:
    """Whether to decode on a CPU by `model.cpu_kernel`: for a small model with few rows, whose products are quick.

    It was measured on two cores with AVX2; with AVX-512, oneDNN's products should pay from fewer rows on.
    """
    few = 16 if torch.backends.cpu.get_cpu_capability() == "AVX512" else 64
    return rows <= few and model.n_parameters() < 20_000_000


def most_probable(log_p_tk: Tensor, n: int, ids_tk: Tensor | None = None) -> list[Candidates]:
    """Of each row the n most probable ids with their log-probabilities, without those that were left out (−inf).

    ids_tk: which tokens the columns are, if not all of the vocabulary.
    """
    top = log_p_tk.topk(min(n, log_p_tk.shape[-1]), dim=-1)
    ids_tn = top.indices if ids_tk is None else ids_tk.gather(-1, top.indices)
    return [
        [(id, value) for id, value in zip(ids, values, strict=True) if value > -torch.inf]
        for ids, values in zip(ids_tn.tolist(), top.values.tolist(), strict=True)
    ]


def _under_rules(logits_bv: Tensor, requests: Sequence[Request]) -> Tensor:
    """Leave out, by −inf, what the rules of the requests do not allow next."""
    ruled = [(row, request.rule(request.completion.ids)) for row, request in enumerate(requests) if request.rule]
    if all(allowed is None for _, allowed in ruled):
        return logits_bv
    logits_bv = logits_bv.clone()
    for row, allowed in ruled:
        if allowed is not None:
            ids = torch.tensor(sorted(allowed), device=logits_bv.device)
            kept = logits_bv[row, ids]
            logits_bv[row] = -torch.inf
            logits_bv[row, ids] = kept
    return logits_bv
