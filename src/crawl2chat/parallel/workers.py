"""Processes that call one function on what they are sent; a call that fails, hangs or kills its process is reported."""

import contextlib
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from multiprocessing import connection, resource_tracker
from typing import Any, NamedTuple

from crawl2chat.stages.disks import describe
from crawl2chat.stages.files import StageError


class Result(NamedTuple):
    """A call that went well. key: what `submit` was given."""

    key: Any
    item: Any
    value: Any = None


class Failed(NamedTuple):
    """A call whose function raised an exception."""

    key: Any
    item: Any
    error: str


class TimedOut(NamedTuple):
    """A call that took longer than the pool's timeout, or than its process was allowed to compute (RLIMIT_CPU)."""

    key: Any
    item: Any
    error: str = "it took too long"


class Died(NamedTuple):
    """A call whose process ended. exit_code: negative for the signal that ended it; None if unknown."""

    key: Any
    item: Any
    error: str
    exit_code: int | None = None


Outcome = Result | Failed | TimedOut | Died


# Of the libraries below numpy. With workers on all cores, more threads would only wait for each other.
THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


@contextlib.contextmanager
def _one_thread_each() -> Iterator[None]:
    """Let processes that are started in the block compute in one thread each; this process is not affected."""
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _signals_blocked() -> Iterator[None]:
    """Let processes that are started in the block ignore Ctrl-C and a closed terminal: their parent ends them."""
    resource_tracker.ensure_running()  # or it starts in the block and unblocks the signals
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Worker:
    """A process that calls one function on each item it is sent and sends back the result; it dies with its parent."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        context = multiprocessing.get_context("spawn")  # forking a process with threads deadlocks
        self.connection, theirs = context.Pipe()
        # not a daemon, as those may have no children themselves
        self.process = context.Process(target=_serve, args=(theirs, function))
        with _one_thread_each(), _signals_blocked():
            self.process.start()
        theirs.close()  # so that its death is the end of our connection

    def send(self, item: Any) -> None:
        """Hand over an item; if the process is dead, `receive` will report it."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.connection.send(item)

    def receive(self) -> Any:
        """The function's result.

        Raises WorkerError when the function raised, its own OSError when a disk failed it, EOFError when the process
        died.
        """
        try:
            good, result = self.connection.recv()
        except OSError as error:  # reset, or dead in the middle of its answer
            raise EOFError from error
        if isinstance(result, OSError):
            raise result
        if not good:
            raise WorkerError(result)
        return result

    def stop(self) -> int:
        """End the process, at work or not, and return its exit code."""
        self.connection.close()
        self.process.kill()
        self.process.join()
        return self.process.exitcode or 0

    def wait_until_dead(self) -> int:
        """Exit code of a process that has closed its connection; negative: the signal that ended it."""
        self.process.join(5)
        return self.stop()


class WorkerError(Exception):
    """The function raised in the worker; the message holds its traceback."""


class WorkerPool:
    """Calls a function on items, each in one of `size` processes of this machine, which are started at once.

    A process is used again after a call that went well, and replaced after any other. timeout: seconds by the clock
    that one call may take.
    """

    def __init__(self, function: Callable[[Any], Any], size: int, timeout: float | None = None) -> None:
        self.function, self.timeout = function, timeout
        self.idle = [Worker(function) for _ in range(size)]
        self.busy: dict[Any, tuple[Worker, Any, Any, float]] = {}  # by connection: worker, key, item, when it began

    def submit(self, item: Any, key: Any = None) -> None:
        """Begin with an item; the caller sees to it that at most `size` are in `busy`."""
        worker = self.idle.pop() if self.idle else Worker(self.function)
        worker.send(item)
        self.busy[worker.connection] = worker, key, item, time.monotonic()

    def wait(self) -> list[Outcome]:
        """Return the outcomes of calls that are over, at least one; blocks until then.

        Raises the function's OSError if a disk failed it.
        """
        outcomes: list[Outcome] = []
        while not outcomes:
            for ready in connection.wait(list(self.busy), None if self.timeout is None else 1):
                worker, key, item, _ = self.busy.pop(ready)
                try:
                    outcomes.append(Result(key, item, worker.receive()))
                    self.idle.append(worker)
                except WorkerError as error:
                    worker.stop()
                    outcomes.append(Failed(key, item, str(error)))
                except OSError:
                    worker.stop()
                    raise
                except EOFError:
                    code = worker.wait_until_dead()
                    hint = ": often too little memory, use fewer workers" if code == -signal.SIGKILL else ""
                    died = Died(key, item, f"exit code {code}{hint}", code)
                    outcomes.append(TimedOut(key, item) if code == -signal.SIGXCPU else died)
            if self.timeout is not None:
                began_before = time.monotonic() - self.timeout
                for worker, key, item, _ in [call for call in self.busy.values() if call[3] < began_before]:
                    del self.busy[worker.connection]
                    worker.stop()
                    outcomes.append(TimedOut(key, item))
        return outcomes

    def stop(self) -> None:
        """End all processes, at work or not."""
        for worker in [*self.idle, *(call[0] for call in self.busy.values())]:
            worker.stop()


def map_in_order(
    function: Callable[[Any], Any], items: Iterable[Any], workers: int, *, timeout: float, max_ahead: int
) -> Iterator[Outcome]:
    """Yield the outcome of each item, in the order of the items, from calls in `workers` processes.

    A call whose process dies is tried once more. timeout: seconds by the clock for one call. max_ahead: outcomes that
    may wait for an earlier one.
    """
    numbered = enumerate(items)
    retries: list[tuple[int, Any]] = []
    died: set[int] = set()  # numbers of items that were tried again
    finished: dict[int, Outcome] = {}
    due, more = 0, True
    pool = WorkerPool(function, workers, timeout)
    try:
        while more or retries or pool.busy:
            while len(pool.busy) < workers and (retries or (more and len(finished) < max_ahead)):
                number, item = retries.pop() if retries else next(numbered, (-1, None))
                if number < 0:
                    more = False
                    break
                pool.submit(item, number)
            for outcome in pool.wait() if pool.busy else []:
                if isinstance(outcome, Died) and outcome.key not in died:
                    died.add(outcome.key)
                    retries.append((outcome.key, outcome.item))
                else:
                    finished[outcome.key] = outcome
            while due in finished:
                yield finished.pop(due)
                due += 1
    finally:
        pool.stop()


def error_text(error: Exception) -> str:
    """An error in another process as the caller of the function should read it."""
    if isinstance(error, StageError):
        return str(error)
    if isinstance(error, OSError) and (line := describe(error)):
        return line
    return f"{type(error).__name__}: {error}\n\n{''.join(traceback.format_exception(error))}"


def _serve(requests: connection.Connection, function: Callable[[Any], Any]) -> None:
    threading.Thread(target=_die_with_parent, daemon=True).start()
    while True:
        try:
            item = requests.recv()
        except (EOFError, ConnectionResetError):
            return
        try:
            reply = True, function(item)
        except Exception as error:
            reply = False, error if isinstance(error, OSError) and describe(error) else error_text(error)
        try:
            requests.send(reply)
        except (BrokenPipeError, ConnectionResetError):
            return


def _die_with_parent() -> None:
    """End with the parent, which can't end its workers if it is killed; they would write into the next run's files."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
