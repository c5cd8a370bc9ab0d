"""The one engine in its one thread. Requests go in, and what each step adds to them comes out in the event loop."""

import asyncio
import contextlib
import queue
import threading
import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar, cast

import torch

from crawl2chat.generate import Candidates, Completion, Engine, Sampling
from crawl2chat.generate import Request as EngineRequest
from crawl2chat.generate.request import Rule
from crawl2chat.serve.errors import ApiError, failed, log_failure, refused
from crawl2chat.serve.turns import Turns

Result = TypeVar("Result")

FAILURES_IN_A_ROW = 3  # of steps, after which the engine counts as broken


@dataclass(slots=True)
class PromptRead:
    """What reading the prompt gave."""

    reused: int
    logprobs: list[float | None]
    top: list[Candidates | None]


@dataclass(slots=True)
class Piece:
    """What one step added to one answer. Ids without text are a part of a character or of what may become a stop."""

    at: float  # time.perf_counter's
    text: str
    ids: list[int]
    model_logprobs: list[float]
    logprobs: list[float]
    top: list[Candidates]
    top_controlled: list[Candidates]
    finish_reason: str | None
    prompt: PromptRead | None = None  # in the first piece


@dataclass(eq=False)
class Job:
    """One answer that is asked for, and where its pieces go: `deliver` runs in the event loop."""

    prompt: Sequence[int]
    sampling: Sampling
    seed: int
    client: Hashable  # clients take turns at the engine
    call: Hashable  # and so do a client's calls
    deliver: Callable[[Piece | ApiError], None]
    prompt_logprobs: bool = False
    rule: Rule | None = None
    n_answered: int = 0  # of the prompt's last tokens, that begin the answer
    # the engine's thread alone uses these
    request: EngineRequest | None = None
    cancelled: bool = False
    n_ids: int = 0
    n_characters: int = 0
    prompt_told: bool = False


class Worker:
    """Owns the engine: no other thread calls it. Give it jobs from the event loop; it never runs there."""

    def __init__(self, engine: Engine, threads: int | None = None) -> None:
        """threads: for torch's operations in the engine's thread, if they were limited for the others."""
        self.engine, self.threads = engine, threads
        self.broken = False
        self.stopped = False  # what is asked for now would wait for ever
        self.running = 0  # as of the last step
        self._commands: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._waiting: Turns[Job] = Turns()
        self._jobs: dict[EngineRequest, Job] = {}  # that the engine has taken on
        self._ready: list[tuple[Job, Piece | ApiError]] = []
        self._failures = 0
        self._thread = threading.Thread(target=self._work, name="engine", daemon=True)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._thread.start()

    def stop(self, timeout: float = 5.0) -> None:
        """End the thread after the step that it is in. Call it in the event loop, or when that has ended."""
        self.stopped = True
        self._commands.put(None)
        self._thread.join(timeout)

    def submit(self, jobs: Iterable[Job]) -> None:
        """What becomes of each comes by its `deliver`, ending with a finish reason or an error."""
        for job in jobs:
            self._commands.put(partial(self._submit, job))

    async def compute(self, work: Callable[[Engine], Result]) -> Result:
        """What `work` makes of the engine, in its thread between two steps; raises what it raises.

        Answers that are being written wait for it, so it should take no longer than a few steps.
        """
        if self.broken:
            raise broken()
        if self.stopped:
            raise put_away()
        done: asyncio.Future[Result] = self._loop.create_future()
        self._commands.put(partial(self._compute, work, done))
        return await done

    def cancel(self, jobs: Iterable[Job]) -> None:
        """Free their slots after the step that runs; nothing more is delivered. Nothing happens to ended ones."""
        for job in jobs:
            self._commands.put(partial(self._cancel, job))

    # in the engine's thread

    def _work(self) -> None:
        if self.threads:
            torch.set_num_threads(self.threads)
        while True:
            try:
                if not self._turn():
                    return
            except BaseException as error:  # a fault of this file's, or a panic in Rust, which is no Exception
                self.broken = True  # but the thread goes on, or all would wait for ever
                self._fail(error)
            self._hand_over()

    def _turn(self) -> bool:
        """Do what was asked for meanwhile, waiting for it when the engine has nothing to do, and a step; False ends."""
        idle = self.broken or not (self._jobs or self._waiting)
        with contextlib.suppress(queue.Empty):
            while True:
                command = self._commands.get(block=idle)
                if command is None:
                    return False
                command()
                idle = False
        while self._waiting and len(self._jobs) < self.engine.max_batch and not self.broken:
            self._start(self._waiting.get())
        if self._jobs:
            self._step()
        self.running = self.engine.running
        return True

    def _compute(self, work: Callable[[Engine], Result], done: asyncio.Future[Result]) -> None:
        if done.cancelled():  # nobody waits for it any more
            return
        result, error = None, None
        try:
            result = work(self.engine)
        except BaseException as raised:  # tiktoken's panics are not Exceptions
            error = raised if isinstance(raised, Exception) else RuntimeError(f"{type(raised).__name__}: {raised}")

        def tell() -> None:
            if not done.cancelled():
                done.set_exception(error) if error else done.set_result(cast(Result, result))

        with contextlib.suppress(RuntimeError):  # the loop has closed
            self._loop.call_soon_threadsafe(tell)

    def _submit(self, job: Job) -> None:
        if job.cancelled:
            return
        if self.broken:
            self._ready.append((job, broken()))
        else:
            self._waiting.put(job, job.client, job.call)

    def _start(self, job: Job) -> None:
        try:
            job.request = self.engine.submit(
                job.prompt, job.sampling, seed=job.seed, rule=job.rule, prompt_logprobs=job.prompt_logprobs,
                n_answered=job.n_answered,
            )  # fmt: skip
            self._jobs[job.request] = job
        except ValueError as error:  # what we did not check ourselves
            self._ready.append((job, refused(str(error))))
        except BaseException as error:  # tiktoken's panics are no Exceptions
            log_failure("the engine failed to take a request", error)
            self._ready.append((job, failed()))

    def _cancel(self, job: Job) -> None:
        job.cancelled = True
        if job.request is None:
            with contextlib.suppress(ValueError):  # it never came to wait, or was refused
                self._waiting.remove(job, job.client, job.call)
        elif self._jobs.pop(job.request, None) is not None:
            try:
                self.engine.cancel(job.request)
            except Exception as error:
                self._fail(error)

    def _step(self) -> None:
        try:
            changed = self.engine.step()
            self._failures = 0
        except Exception as error:
            self._fail(error)
            return
        now = time.perf_counter()
        for request in changed:
            job = self._jobs.get(request)
            piece = _grown(job, request.completion, now) if job else None
            if job and piece:
                self._ready.append((job, piece))
                if piece.finish_reason is not None:
                    del self._jobs[request]

    def _fail(self, error: BaseException) -> None:
        """All that runs fails, and what waits goes on waiting: the engine is emptied and takes it on.

        It is broken, and all fail, when it can't be emptied or fails again and again.
        """
        log_failure(f"the engine failed with {len(self._jobs)} requests", error)
        self._failures += 1
        jobs, self._jobs = self._jobs, {}
        for request, job in jobs.items():
            self._ready.append((job, failed()))
            with contextlib.suppress(BaseException):
                self.engine.cancel(request)
        if self.broken or self._failures >= FAILURES_IN_A_ROW or self.engine.running:
            self.broken = True
            log_failure("the engine is broken; restart the server", error)
            self._ready += [(self._waiting.get(), broken()) for _ in range(len(self._waiting))]

    def _hand_over(self) -> None:
        """Everything of a step at once: a wake-up of the event loop for each token would cost more than the token."""
        if not self._ready:
            return
        ready, self._ready = self._ready, []
        with contextlib.suppress(RuntimeError):  # the loop has closed: nobody is left to hear
            self._loop.call_soon_threadsafe(_deliver, ready)


def broken() -> ApiError:
    return ApiError(503, "the engine is broken; the server has to be started anew", code="engine_broken")


def put_away() -> ApiError:
    return ApiError(
        503, "the model was put away to make room for another one; try again", code="model_not_loaded",
        headers={"Retry-After": "1"},
    )  # fmt: skip


def _deliver(ready: list[tuple[Job, Piece | ApiError]]) -> None:
    for job, piece in ready:
        try:
            job.deliver(piece)
        except Exception as error:  # asyncio's own report would quote the piece
            log_failure("a piece could not be delivered", error)


def _grown(job: Job, completion: Completion, now: float) -> Piece | None:
    """What the completion has more than when it was last looked at; None if nothing."""
    since, n_ids = job.n_ids, len(completion.ids)
    text = completion.text[job.n_characters :]
    if n_ids == since and not text and completion.finish_reason is None:
        return None
    job.n_ids, job.n_characters = n_ids, len(completion.text)
    prompt, n_new = None, n_ids - since
    if not job.prompt_told:
        job.prompt_told = True
        prompt = PromptRead(completion.reused, completion.prompt_logprobs, completion.prompt_top)
    return Piece(
        now, text, completion.ids[since:], completion.model_logprobs[since:], completion.logprobs[since:],
        completion.top[since:] or [[]] * n_new, completion.top_controlled[since:] or [[]] * n_new,
        completion.finish_reason, prompt,
    )  # fmt: skip
