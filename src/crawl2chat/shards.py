"""Map a function over shards of data in local processes, each shard's output written whole or not at all."""

import contextlib
import multiprocessing
import os
import signal
import threading
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from multiprocessing import connection
from pathlib import Path
from typing import Any, TypeVar

from crawl2chat.progress import Progress
from crawl2chat.run import StageError, replacing

MAX_DEATHS = 3  # of processes over one shard, before it is given up

Item = TypeVar("Item")


class Worker:
    """A process that calls one function on each thing it is sent and answers; it dies with its parent."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        context = multiprocessing.get_context("spawn")  # forking a process with threads deadlocks
        self.connection, theirs = context.Pipe()
        # not a daemon, as those may have no children themselves
        self.process = context.Process(target=_serve, args=(theirs, function))
        self.process.start()
        theirs.close()  # so that its death is the end of our connection

    def send(self, item: Any) -> None:
        """Hand over an item; a process found dead shows when the answer is received."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.connection.send(item)

    def receive(self) -> Any:
        """The function's result. Raises WorkerError when it raised, EOFError when the process died."""
        try:
            good, result = self.connection.recv()
        except OSError as error:  # reset, or dead in the middle of its answer
            raise EOFError from error
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


def map_shards(
    function: Callable[[Item, Path], None],
    shards: Sequence[tuple[Item, Path]],
    *,
    label: str,
    workers: int | None = None,
) -> None:
    """Call `function(item, output)` for each shard whose output does not exist yet; it writes one file or folder.

    function: picklable; what it writes appears at the shard's path once it is complete. Shards run in
    `workers` processes (default: one a core). Where a process dies the shard is tried again.
    Raises StageError naming the shard that failed.
    """
    waiting = deque((item, output) for item, output in shards if not output.exists())
    deaths: dict[Path, int] = {}
    busy: dict[Any, tuple[Worker, Item, Path]] = {}
    done = len(shards) - len(waiting)
    with Progress(label, len(shards), "shards") as bar:
        bar.update(done)
        idle: list[Worker] = []
        try:
            idle.extend(Worker(_ShardWriter(function)) for _ in range(min(len(waiting), workers or cores())))
            while waiting or busy:
                while idle and waiting:
                    worker, (item, output) = idle.pop(), waiting.popleft()
                    worker.send((item, output))
                    busy[worker.connection] = worker, item, output
                for ready in connection.wait(list(busy)):
                    worker, item, output = busy.pop(ready)
                    try:
                        worker.receive()
                    except WorkerError as error:
                        worker.stop()
                        raise StageError(f"{label}: shard {item} failed: {error}") from error
                    except EOFError:
                        code = worker.wait_until_dead()
                        deaths[output] = deaths.get(output, 0) + 1
                        if deaths[output] == MAX_DEATHS:
                            raise StageError(
                                f"{label}: shard {item}: its process died {MAX_DEATHS} times, last with code {code}; "
                                "-9 often means too little memory: use fewer workers"
                            ) from None
                        waiting.append((item, output))
                        idle.append(Worker(_ShardWriter(function)))
                    else:
                        idle.append(worker)
                        done += 1
                        bar.update(done)
        finally:
            for worker in [*idle, *(worker for worker, _, _ in busy.values())]:
                worker.stop()


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _ShardWriter:
    """Calls the function on a temporary path and renames it."""

    def __init__(self, function: Callable[[Any, Path], None]) -> None:
        self.function = function

    def __call__(self, shard: tuple[Any, Path]) -> None:
        item, output = shard
        with replacing(output) as temporary:
            self.function(item, temporary)


def _serve(requests: connection.Connection, function: Callable[[Any], Any]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the parent ends us
    threading.Thread(target=_die_with_parent, daemon=True).start()
    while True:
        try:
            item = requests.recv()
        except (EOFError, ConnectionResetError):
            return
        try:
            reply = True, function(item)
        except StageError as error:
            reply = False, str(error)
        except Exception as error:
            reply = False, f"{type(error).__name__}: {error}\n\n{traceback.format_exc()}"
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
