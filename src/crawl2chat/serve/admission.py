"""Admission: which requests a loaded model accepts, and those that it is answering. Also what the server counts."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Hashable, Sequence
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from crawl2chat.serve.engine_thread import Delta, EngineThread, GenerationRequest
from crawl2chat.serve.errors import ApiError, bad_request, shutting_down

RETRY_SECONDS = 1
MAX_LOGPROBS = 500_000  # numbers in one call; each takes some 100 bytes on the way out
BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)  # seconds


class Metrics:
    """One server's counters for Prometheus, in a registry of their own."""

    def __init__(self, running: Callable[[], int], waiting: Callable[[], int]) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "crawl2chat_requests", "requests by route and by what became of them: ok, refused, busy, failed, gone",
            ["route", "outcome"], registry=self.registry,
        )  # fmt: skip
        self.prompt_tokens = self._counter("prompt_tokens", "tokens of prompts")
        self.reused_tokens = self._counter("reused_prompt_tokens", "of those, whose keys and values were there already")
        self.generated_tokens = self._counter("generated_tokens", "tokens generated")
        self.first_token = self._histogram("first_token_seconds", "from a request's arrival to its first token")
        self.between_tokens = self._histogram("between_tokens_seconds", "from one token of an answer to the next")
        for name, text, value in (
            ("running", "in the engine's batch", running),
            ("waiting", "waiting for it", waiting),
        ):
            gauge = Gauge(f"crawl2chat_{name}", f"answers {text}", registry=self.registry)
            gauge.set_function(value)

    def observer(self, n_prompt: int) -> Callable[[Delta], None]:
        """A function to be called with each delta of one answer."""
        last = time.perf_counter()
        began = False

        def observe(delta: Delta) -> None:
            nonlocal last, began
            if delta.prefill:
                self.prompt_tokens.inc(n_prompt)
                self.reused_tokens.inc(delta.prefill.reused)
            if delta.ids:
                self.generated_tokens.inc(len(delta.ids))
                (self.between_tokens if began else self.first_token).observe(delta.at - last)
                last, began = delta.at, True

        return observe

    def text(self) -> bytes:
        return generate_latest(self.registry)

    def _counter(self, name: str, text: str) -> Counter:
        return Counter(f"crawl2chat_{name}", text, registry=self.registry)

    def _histogram(self, name: str, text: str) -> Histogram:
        return Histogram(f"crawl2chat_{name}", text, buckets=BUCKETS, registry=self.registry)


class Admission:
    """Accepts requests as long as there is room, and knows those that are being answered. Lives in the event loop."""

    def __init__(self, thread: EngineThread, capacity: int, metrics: Metrics) -> None:
        """capacity: maximum number of answers that run or wait."""
        self.thread, self.capacity, self.metrics = thread, capacity, metrics
        self.open: set[GenerationRequest] = set()
        self.closed = False

    @property
    def max_answers(self) -> int:
        """Of one call, so that it leaves room for others."""
        return max(1, self.capacity // 2)

    def check_size(self, answers: int) -> None:
        """Raises ApiError for a call that can never be accepted; call it before work is done for each answer."""
        if answers > self.max_answers:
            raise bad_request(
                f"asks for {answers} answers (prompts × n); this server takes {self.max_answers} at most in a request",
                "n",
            )

    def admit(self, requests: Sequence[GenerationRequest], client: Hashable = None) -> "Generation":
        """Raises ApiError without room, and where there will be none: the server closes, or the model is not run."""
        if self.closed:
            raise shutting_down()
        self.thread.check_running()
        self.check_size(len(requests))
        numbers = sum(self._n_logprobs(request) for request in requests)
        if numbers > MAX_LOGPROBS:
            raise bad_request(
                f"asks for up to {numbers} log-probabilities; at most {MAX_LOGPROBS} in a request, "
                "so lower max_tokens, n, or how many are reported per token", "logprobs",
            )  # fmt: skip
        if len(self.open) + len(requests) > self.capacity:
            raise ApiError(
                429, f"{len(self.open)} answers run or wait, and there is room for {self.capacity}; try again soon",
                code="queue_full", headers={"Retry-After": str(RETRY_SECONDS)},
            )  # fmt: skip
        return Generation(self, requests, client)

    def _n_logprobs(self, request: GenerationRequest) -> int:
        """How many numbers are kept for it at most: those of an answer are the model's and those after the controls."""
        room = self.thread.engine.context - len(request.prompt)
        tokens = len(request.prompt) if request.prompt_logprobs else 0
        tokens += 2 * min(request.sampling.max_tokens, room) if request.logprobs else 0
        return tokens * (1 + request.sampling.top_logprobs)

    async def drain(self, seconds: float) -> int:
        """Accept nothing more and wait for what runs; returns how many answers had to be cut off."""
        self.closed = True
        until = asyncio.get_running_loop().time() + seconds
        while self.open and asyncio.get_running_loop().time() < until:
            await asyncio.sleep(0.02)
        left = list(self.open)
        self.thread.cancel(left)
        for request in left:
            request.deliver(shutting_down())
        return len(left)


class Generation:
    """The answers to one call while they are generated."""

    def __init__(self, admission: Admission, requests: Sequence[GenerationRequest], client: Hashable) -> None:
        self.admission, self._requests = admission, requests
        self._arrived: asyncio.Queue[tuple[int, Delta | ApiError]] = asyncio.Queue()
        for index, request in enumerate(requests):
            request.client, request.call = client, self
            request.deliver = partial(self._deliver, index, admission.metrics.observer(len(request.prompt)))
        admission.open.update(requests)
        admission.thread.submit(requests)

    def _deliver(self, index: int, observe: Callable[[Delta], None], delta: Delta | ApiError) -> None:
        if isinstance(delta, ApiError) or delta.finish_reason is not None:
            self.admission.open.discard(self._requests[index])
        if isinstance(delta, Delta):
            observe(delta)
        self._arrived.put_nowait((index, delta))

    async def deltas(self, patience: float | None = None) -> AsyncGenerator[list[tuple[int, Delta]], None]:
        """All deltas that have arrived, with their answers' indices, as soon as there are any, until all have ended.

        Yields an empty list after `patience` seconds without one. Raises ApiError when an answer fails.
        """
        left = len(self._requests)
        while left:
            arrived = []
            try:
                async with asyncio.timeout(patience):
                    arrived.append(await self._arrived.get())
                while not self._arrived.empty():
                    arrived.append(self._arrived.get_nowait())
            except TimeoutError:
                pass
            good = []
            for index, delta in arrived:
                if isinstance(delta, ApiError):
                    raise delta
                left -= delta.finish_reason is not None
                good.append((index, delta))
            yield good

    async def all_deltas(self) -> list[tuple[int, Delta]]:
        """Wait for the end; then the call is closed."""
        try:
            return [delta async for arrived in self.deltas() for delta in arrived]
        finally:
            self.close()

    def close(self) -> None:
        """Cancel what still runs: its client is gone."""
        running = [request for request in self._requests if request in self.admission.open]
        self.admission.open.difference_update(running)
        self.admission.thread.cancel(running)
