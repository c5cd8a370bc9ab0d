"""What the server counts, for Prometheus."""

import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from crawl2chat.serve.worker import Piece

SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)


class Metrics:
    """One server's counters, in a registry of their own."""

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

    def watch(self, n_prompt: int) -> Callable[[Piece], None]:
        """A function to be told each piece of one answer."""
        last = time.perf_counter()
        began = False

        def take(piece: Piece) -> None:
            nonlocal last, began
            if piece.prompt:
                self.prompt_tokens.inc(n_prompt)
                self.reused_tokens.inc(piece.prompt.reused)
            if piece.ids:
                self.generated_tokens.inc(len(piece.ids))
                (self.between_tokens if began else self.first_token).observe(piece.at - last)
                last, began = piece.at, True

        return take

    def text(self) -> bytes:
        return generate_latest(self.registry)

    def _counter(self, name: str, text: str) -> Counter:
        return Counter(f"crawl2chat_{name}", text, registry=self.registry)

    def _histogram(self, name: str, text: str) -> Histogram:
        return Histogram(f"crawl2chat_{name}", text, buckets=SECONDS, registry=self.registry)
