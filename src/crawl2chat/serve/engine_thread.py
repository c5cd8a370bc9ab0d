"""The thread of an engine. Requests go in, and what each step adds to them comes out in the event loop."""

import asyncio
import contextlib
import queue
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Generic, TypeVar, cast

import torch

from crawl2chat.generate import Candidates, Engine, Sampling
from crawl2chat.generate import Request as EngineRequest
from crawl2chat.generate.request import Rule
from crawl2chat.serve.errors import ApiError, bad_request, engine_broken, internal_error, log_failure, model_unloaded

Item = TypeVar("Item")
Result = TypeVar("Result")

MAX_FAILURES_IN_A_ROW = 3  # of steps, after which the engine counts as broken


class FairQueue(Generic[Item]):
    """Clients take turns, and so do the calls of each client; the items of a call are first in, first out."""

    def __init__(self) -> None:
        self._clients: OrderedDict[Hashable, OrderedDict[Hashable, deque[Item]]] = OrderedDict()  # the next one first

    def __len__(self) -> int:
        return sum(len(items) for calls in self._clients.values() for items in calls.values())

    def put(self, item: Item, client: Hashable, call: Hashable) -> None:
        self._clients.setdefault(client, OrderedDict()).setdefault(call, deque()).append(item)

    def get(self) -> Item:
        """The next item. Raises IndexError for an empty queue."""
        if not self._clients:
            raise IndexError("the queue is empty")
        client, calls = self._clients.popitem(last=False)
        call, items = calls.popitem(last=False)
        item = items.popleft()
        if items:
            calls[call] = items
        if calls:
            self._clients[client] = calls
        return item

    def remove(self, item: Item, client: Hashable, call: Hashable) -> None:
        """Raises ValueError for an item that is not in the queue."""
        calls = self._clients.get(client, OrderedDict())
        items = calls.get(call, deque())
        items.remove(item)
        if not items:
            del calls[call]
        if not calls:
            del self._clients[client]


@dataclass(slots=True)
class Prefill:
    """What reading a prompt gave."""

    reused: int  # tokens whose keys and values were in the cache
    logprobs: list[float | None]
    top: list[Candidates | None]
    entropies: list[float | None]


@dataclass(slots=True)
class Delta:
    """What one step added to one answer. Ids without text are part of a character, or of what may become a stop."""

    at: float  # time.perf_counter's
    text: str
    ids: list[int]
    model_logprobs: list[float]
    logprobs: list[float]
    top: list[Candidates]
    top_controlled: list[Candidates]
    finish_reason: str | None
    prefill: Prefill | None = None  # in the first delta


@dataclass(eq=False)
class GenerationRequest:
    """One answer that is to be generated, and how much of it has been delivered.

    Endpoints make it, `Admission.admit` sets whose it is and where its deltas go, and the engine's thread works on it.
    """

    prompt: Sequence[int]
    sampling: Sampling
    seed: int  # in addition to the sampling's own, so that several answers to one prompt differ
    prompt_logprobs: bool = False
    logprobs: bool = False  # of the answer
    rule: Rule | None = None
    n_answered: int = 0  # of the prompt's last tokens, that begin the answer
    client: Hashable = None  # clients take turns at the engine
    call: Hashable = None  # and so do the calls of a client
    deliver: Callable[["Delta | ApiError"], None] = lambda _: None  # runs in the event loop
    # the engine's thread alone uses these
    running: EngineRequest | None = field(default=None, init=False)
    cancelled: bool = field(default=False, init=False)
    n_ids: int = field(default=0, init=False)
    n_characters: int = field(default=0, init=False)
    has_prefill: bool = field(default=False, init=False)

    def next_delta(self) -> Delta | None:
        """What the answer has grown by since the last call; None if by nothing."""
        assert self.running is not None
        completion, since = self.running.completion, self.n_ids
        n_new, text = len(completion.ids) - since, completion.text[self.n_characters :]
        if not (n_new or text or completion.finish_reason):
            return None
        self.n_ids, self.n_characters = len(completion.ids), len(completion.text)
        prefill = None
        if not self.has_prefill:
            self.has_prefill = True
            scores = completion.prompt_logprobs, completion.prompt_top, completion.prompt_entropies
            prefill = Prefill(completion.reused, *scores)
        return Delta(
            time.perf_counter(), text, completion.ids[since:], completion.model_logprobs[since:],
            completion.logprobs[since:], completion.top[since:] or [[]] * n_new,
            completion.top_controlled[since:] or [[]] * n_new, completion.finish_reason, prefill,
        )  # fmt: skip


class EngineThread:
    """Owns the engine: no other thread calls it. Give it requests from the event loop; it never runs there."""

    def __init__(self, engine: Engine, threads: int | None = None) -> None:
        """threads: for torch's operations in the engine's thread, if they were limited for the others."""
        self.engine, self.threads = engine, threads
        self.broken = False
        self.stopped = False  # nothing that is asked for from now on would be answered
        self.running = 0  # as of the last step
        self._commands: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._waiting: FairQueue[GenerationRequest] = FairQueue()
        self._running: dict[EngineRequest, GenerationRequest] = {}
        self._ready: list[tuple[GenerationRequest, Delta | ApiError]] = []
        self._failures = 0
        self._thread = threading.Thread(target=self._work, name="engine", daemon=True)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._thread.start()

    def stop(self, timeout: float = 5.0) -> None:
        """End the thread after the current step. Call it in the event loop, or when that has ended."""
        self.stopped = True
        self._commands.put(None)
        self._thread.join(timeout)

    def check_running(self) -> None:
        """Raises ApiError if the engine is broken or its model was unloaded."""
        if self.broken:
            raise engine_broken()
        if self.stopped:
            raise model_unloaded()

    def submit(self, requests: Iterable[GenerationRequest]) -> None:
        """Each request's `deliver` gets its deltas, the last one with a finish reason, or an error."""
        for request in requests:
            self._commands.put(partial(self._submit, request))

    async def compute(self, work: Callable[[Engine], Result]) -> Result:
        """What `work` makes of the engine, in its thread between two steps; raises what it raises.

        Answers that are being generated wait for it, so it should take no longer than a few steps.
        """
        self.check_running()
        done: asyncio.Future[Result] = self._loop.create_future()
        self._commands.put(partial(self._compute, work, done))
        return await done

    def cancel(self, requests: Iterable[GenerationRequest]) -> None:
        """Free their slots after the current step and deliver nothing more. Requests that have ended are unaffected."""
        for request in requests:
            self._commands.put(partial(self._cancel, request))

    # in the engine's thread

    def _work(self) -> None:
        if self.threads:
            torch.set_num_threads(self.threads)
        while True:
            try:
                if not self._turn():
                    return
            except BaseException as error:  # a fault of this file's, or a panic in Rust, which is not an Exception
                self.broken = True  # but the thread goes on, or every request would wait for ever
                self._fail(error)
            self._hand_over()

    def _turn(self) -> bool:
        """Carry out commands, waiting for one if the engine has nothing to do, and a step; False ends the thread."""
        idle = self.broken or not (self._running or self._waiting)
        with contextlib.suppress(queue.Empty):
            while True:
                command = self._commands.get(block=idle)
                if command is None:
                    return False
                command()
                idle = False
        while self._waiting and len(self._running) < self.engine.max_batch and not self.broken:
            self._start(self._waiting.get())
        if self._running:
            self._step()
        self.running = self.engine.running
        return True

    def _compute(self, work: Callable[[Engine], Result], done: asyncio.Future[Result]) -> None:
        if done.cancelled():  # its client has gone
            return
        result, error = None, None
        try:
            result = work(self.engine)
        except BaseException as raised:  # tiktoken's panics are not Exceptions
            error = raised if isinstance(raised, Exception) else RuntimeError(f"{type(raised).__name__}: {raised}")

        def finish() -> None:
            if not done.cancelled():
                done.set_exception(error) if error else done.set_result(cast(Result, result))

        with contextlib.suppress(RuntimeError):  # the loop has closed
            self._loop.call_soon_threadsafe(finish)

    def _submit(self, request: GenerationRequest) -> None:
        if request.cancelled:
            return
        if self.broken:
            self._ready.append((request, engine_broken()))
        else:
            self._waiting.put(request, request.client, request.call)

    def _start(self, request: GenerationRequest) -> None:
        try:
            request.running = self.engine.submit(
                request.prompt, request.sampling, seed=request.seed, rule=request.rule,
                prompt_logprobs=request.prompt_logprobs, n_answered=request.n_answered,
            )  # fmt: skip
            self._running[request.running] = request
        except ValueError as error:  # what we did not check ourselves
            self._ready.append((request, bad_request(str(error))))
        except BaseException as error:  # tiktoken's panics are not Exceptions
            log_failure("the engine failed to take a request", error)
            self._ready.append((request, internal_error()))

    def _cancel(self, request: GenerationRequest) -> None:
        request.cancelled = True
        if request.running is None:
            with contextlib.suppress(ValueError):  # it was never queued, or was refused
                self._waiting.remove(request, request.client, request.call)
        elif self._running.pop(request.running, None) is not None:
            try:
                self.engine.cancel(request.running)
            except Exception as error:
                self._fail(error)

    def _step(self) -> None:
        try:
            changed = self.engine.step()
            self._failures = 0
        except Exception as error:
            self._fail(error)
            return
        for running in changed:
            request = self._running.get(running)
            delta = request.next_delta() if request else None
            if request and delta:
                self._ready.append((request, delta))
                if delta.finish_reason is not None:
                    del self._running[running]

    def _fail(self, error: BaseException) -> None:
        """Fail every running request and empty the engine, which then takes on those that wait.

        If it can't be emptied, or fails several times in a row, it is broken, and those that wait fail as well.
        """
        log_failure(f"the engine failed with {len(self._running)} requests", error)
        self._failures += 1
        failed, self._running = self._running, {}
        for running, request in failed.items():
            self._ready.append((request, internal_error()))
            with contextlib.suppress(BaseException):
                self.engine.cancel(running)
        if self.broken or self._failures >= MAX_FAILURES_IN_A_ROW or self.engine.running:
            self.broken = True
            log_failure("the engine is broken; restart the server", error)
            self._ready += [(self._waiting.get(), engine_broken()) for _ in range(len(self._waiting))]

    def _hand_over(self) -> None:
        """Everything of a step at once: waking the event loop for each token would cost more than the token."""
        if not self._ready:
            return
        ready, self._ready = self._ready, []
        with contextlib.suppress(RuntimeError):  # the loop has closed
            self._loop.call_soon_threadsafe(_deliver, ready)


def _deliver(ready: list[tuple[GenerationRequest, Delta | ApiError]]) -> None:
    for request, delta in ready:
        try:
            request.deliver(delta)
        except Exception as error:  # asyncio's own report would quote the answer
            log_failure("an answer could not be delivered", error)
