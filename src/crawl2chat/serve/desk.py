"""The desk between clients and the engine: who is let in, and who is waiting for what."""

import asyncio
from collections.abc import AsyncIterator, Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial

from crawl2chat.generate import Sampling
from crawl2chat.generate.request import Rule
from crawl2chat.serve.errors import ApiError, refused
from crawl2chat.serve.metrics import Metrics
from crawl2chat.serve.worker import Job, Piece, Worker, broken, put_away

RETRY_SECONDS = 1
MOST_LOGPROBS = 500_000  # numbers in one call; each takes some 100 bytes on the way out


@dataclass(frozen=True)
class Wanted:
    """An answer that a request asks for; `seed` beside the sampling's own tells those to one prompt apart."""

    prompt: Sequence[int]
    sampling: Sampling
    seed: int
    prompt_logprobs: bool = False
    logprobs: bool = False  # of the answer
    rule: Rule | None = None
    n_answered: int = 0  # of the prompt's last tokens, that begin the answer


class Desk:
    """Lets requests in as far as there is room, and knows those that are being answered. Lives in the event loop."""

    def __init__(self, worker: Worker, room: int, metrics: Metrics) -> None:
        """room: answers that run and wait together at most."""
        self.worker, self.room, self.metrics = worker, room, metrics
        self.open: set[Job] = set()
        self.closed = False

    @property
    def most_answers(self) -> int:
        """Of one call, so that it leaves room for others."""
        return max(1, self.room // 2)

    def check_size(self, answers: int) -> None:
        """Raises ApiError for a call that can never be let in; to be asked before anything is made for each answer."""
        if answers > self.most_answers:
            raise refused(
                f"asks for {answers} answers (prompts × n); this server takes {self.most_answers} at most in a request",
                "n",
            )

    def admit(self, wanted: Sequence[Wanted], client: Hashable = None) -> "Call":
        """Raises ApiError when there is no room, or there will be none: the server closes, or the model is not run."""
        if self.closed:
            raise closing()
        if self.worker.broken:
            raise broken()
        if self.worker.stopped:
            raise put_away()
        self.check_size(len(wanted))
        numbers = sum(self._logprobs(w) for w in wanted)
        if numbers > MOST_LOGPROBS:
            raise refused(
                f"asks for up to {numbers} log-probabilities; at most {MOST_LOGPROBS} in a request, "
                "so lower max_tokens, n, or how many are told for each token", "logprobs",
            )  # fmt: skip
        if len(self.open) + len(wanted) > self.room:
            raise ApiError(
                429, f"{len(self.open)} answers run or wait, and there is room for {self.room}; try again soon",
                code="queue_full", headers={"Retry-After": str(RETRY_SECONDS)},
            )  # fmt: skip
        return Call(self, wanted, client)

    def _logprobs(self, wanted: Wanted) -> int:
        """How many numbers are kept for it at most: an answer's are the model's and those after the controls."""
        room = self.worker.engine.context - len(wanted.prompt)
        tokens = len(wanted.prompt) if wanted.prompt_logprobs else 0
        tokens += 2 * min(wanted.sampling.max_tokens, room) if wanted.logprobs else 0
        return tokens * (1 + wanted.sampling.top_logprobs)

    async def drain(self, seconds: float) -> int:
        """Let nobody in any more and wait for those within; returns how many had to be sent away."""
        self.closed = True
        until = asyncio.get_running_loop().time() + seconds
        while self.open and asyncio.get_running_loop().time() < until:
            await asyncio.sleep(0.02)
        left = list(self.open)
        self.worker.cancel(left)
        for job in left:
            job.deliver(closing())
        return len(left)


class Call:
    """The answers of one request while they are made."""

    def __init__(self, desk: Desk, wanted: Sequence[Wanted], client: Hashable) -> None:
        self.desk = desk
        self._arrived: asyncio.Queue[tuple[int, Piece | ApiError]] = asyncio.Queue()
        self._jobs: list[Job] = []
        for index, w in enumerate(wanted):
            deliver = partial(self._deliver, index, desk.metrics.watch(len(w.prompt)))
            job = Job(w.prompt, w.sampling, w.seed, client, self, deliver, w.prompt_logprobs, w.rule, w.n_answered)
            self._jobs.append(job)
        desk.open.update(self._jobs)
        desk.worker.submit(self._jobs)

    def _deliver(self, index: int, watch: Callable[[Piece], None], piece: Piece | ApiError) -> None:
        if isinstance(piece, ApiError) or piece.finish_reason is not None:
            self.desk.open.discard(self._jobs[index])
        if isinstance(piece, Piece):
            watch(piece)
        self._arrived.put_nowait((index, piece))

    async def pieces(self, patience: float | None = None) -> AsyncIterator[list[tuple[int, Piece]]]:
        """All pieces that have arrived, each with its answer's index, as soon as there are any, until all have ended.

        Yields an empty list after `patience` seconds without one. Raises ApiError when an answer fails.
        """
        left = len(self._jobs)
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
            for index, piece in arrived:
                if isinstance(piece, ApiError):
                    raise piece
                left -= piece.finish_reason is not None
                good.append((index, piece))
            yield good

    def close(self) -> None:
        """Nobody waits for this any more: what still runs is cancelled."""
        running = [job for job in self._jobs if job in self.desk.open]
        self.desk.open.difference_update(running)
        self.desk.worker.cancel(running)


def closing() -> ApiError:
    return ApiError(503, "the server is shutting down", code="shutting_down", headers={"Connection": "close"})
