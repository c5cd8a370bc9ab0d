"""Processes that call one function on what they are sent, and say so when they fail or die."""

import contextlib
import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from multiprocessing import connection, resource_tracker
from typing import Any, NamedTuple

from crawl2chat.stages.disks import describe
from crawl2chat.stages.files import StageError


class Ended(NamedTuple):
    """An attempt at an item that is over: error is None where it went well, died where its process is gone."""

    item: Any
    error: str | None
    died: bool = False


# Of the libraries below numpy. With workers on all cores, more threads would only wait for each other.
THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


@contextlib.contextmanager
def _one_thread_each() -> Iterator[None]:
    """Processes started meanwhile compute in one thread; what this one does later is left alone."""
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
    """Processes started in the block don't hear of Ctrl-C or a closed terminal: their parent ends them."""
    resource_tracker.ensure_running()  # or it starts in the block and unblocks the signals
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Worker:
    """A process that calls one function on each thing it is sent and answers; it dies with its parent."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        context = multiprocessing.get_context("spawn")  # forking a process with threads deadlocks
        self.connection, theirs = context.Pipe()
        # not a daemon, as those may have no children themselves
        self.process = context.Process(target=_serve, args=(theirs, function))
        with _one_thread_each(), _signals_blocked():
            self.process.start()
        theirs.close()  # so that its death is the end of our connection

    def send(self, item: Any) -> None:
        """Hand over an item; a process found dead shows when the answer is received."""
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
        """End the process, at work or not, and give its exit code."""
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


class LocalProcesses:
    """Calls a function on items, each in a process of this machine, as many at once as are started."""

    def __init__(self, function: Callable[[Any], None]) -> None:
        self.function = function
        self.idle: list[Worker] = []
        self.busy: dict[Any, tuple[Worker, Any]] = {}

    def start(self, item: Any) -> None:
        """Begin with an item."""
        worker = self.idle.pop() if self.idle else Worker(self.function)
        worker.send(item)
        self.busy[worker.connection] = worker, item

    def wait(self) -> list[Ended]:
        """The attempts that are over, at least one; blocks until then."""
        ended = []
        for ready in connection.wait(list(self.busy)):
            worker, item = self.busy.pop(ready)
            try:
                worker.receive()
            except WorkerError as error:
                ended.append(Ended(item, str(error)))
                worker.stop()
            except OSError:
                worker.stop()
                raise
            except EOFError:
                code = worker.wait_until_dead()
                hint = ": often too little memory, use fewer workers" if code == -signal.SIGKILL else ""
                ended.append(Ended(item, f"exit code {code}{hint}", died=True))
            else:
                ended.append(Ended(item, None))
                self.idle.append(worker)
        return ended

    def stop(self) -> None:
        """End all processes, at work or not."""
        for worker in [*self.idle, *(worker for worker, _ in self.busy.values())]:
            worker.stop()


def error_text(error: Exception) -> str:
    """What a function's caller should read of an error in another process."""
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
    """A parent that was killed can't end its workers; left alone they would write beside the next run's."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
