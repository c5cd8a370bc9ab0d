"""Map a function over shards of data, in local processes or on a Ray cluster.

Each shard's output is written whole or not at all, and is the same whatever the engine.
"""

import contextlib
import os
from collections import Counter, deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from crawl2chat.parallel.workers import Failed, Result, WorkerPool
from crawl2chat.stages.files import StageError, atomic_write_shared, remove_leftovers
from crawl2chat.stages.progress import Progress

if TYPE_CHECKING:
    from crawl2chat.parallel.ray import RayTasks

MAX_DEATHS = 3  # of processes over one shard, before it is given up
NAMED = 300  # characters of a shard in an error

Item = TypeVar("Item")
Engine = Literal["local", "ray"]


def map_shards(
    function: Callable[[Item, Path], None],
    shards: Sequence[tuple[Item, Path]],
    *,
    label: str,
    workers: int | None = None,
    engine: Engine = "local",
    cores_each: int = 1,
    summary: Callable[[Path], str] | None = None,
) -> None:
    """Call `function(item, output)` for each shard whose output does not exist yet; it writes one file or folder.

    function: picklable; what it writes appears at the shard's path once it is complete. Up to `workers` shards
    (default: one per core) are made at once, each in a process of its own, which with the engine ray is given
    `cores_each` cores of a node. If the process dies, the shard is tried again.
    summary: called with each finished output; what it returns is shown, such as a speed.
    Raises StageError naming the shard that failed.
    """
    waiting = deque((item, output) for item, output in shards if not output.exists())
    deaths: Counter[Path] = Counter()
    done = len(shards) - len(waiting)
    with Progress(label, len(shards), "shards") as bar, engine_running(engine):
        bar.update(done)
        slots = min(len(waiting), workers or sum(node_cores(engine)))
        write = _ShardWriter(function)
        pool: WorkerPool | RayTasks = WorkerPool(write, slots) if engine == "local" else _on_ray(write, cores_each)
        try:
            while waiting or pool.busy:
                while waiting and len(pool.busy) < slots:
                    pool.submit(waiting.popleft())
                for outcome in pool.wait():
                    item, output = outcome.item
                    if isinstance(outcome, Result):
                        done += 1
                        bar.update(done, summary(output) if summary else "")
                        continue
                    name = f"{label}: shard {_in_short(item)}"
                    if isinstance(outcome, Failed):
                        raise StageError(f"{name} failed: {outcome.error}")
                    deaths[output] += 1
                    if deaths[output] == MAX_DEATHS:
                        raise StageError(f"{name}: its process died {MAX_DEATHS} times, last with {outcome.error}")
                    bar.say(f"{name}: its process died with {outcome.error}; it is tried again")
                    waiting.append((item, output))
        finally:
            pool.stop()
            for output in deaths:
                remove_leftovers(output)


def _in_short(item: object) -> str:
    """The beginning of what names a shard, which may be a thousand small files."""
    text = str(item)
    return text if len(text) <= NAMED else f"{text[:NAMED]} …"


def engine_running(engine: Engine) -> contextlib.AbstractContextManager[None]:
    """Around several calls of `map_shards`, so that Ray is started or joined only once."""
    if engine == "local":
        return contextlib.nullcontext()
    from crawl2chat.parallel.ray import ray_running

    return ray_running(cores())


def split_cores(engine: Engine, workers: int, n_shards: int) -> tuple[int, int]:
    """How many of `n_shards` to make at once, and with how many cores each; within `engine_running`.

    workers: cores to use in all; 0: all of the machine or cluster. Many shards get a core each, a few get several,
    all of them on one node.
    """
    nodes = node_cores(engine)
    if engine == "local" and workers:
        nodes = [workers]
    total = min(workers, sum(nodes)) or sum(nodes)
    at_once = max(1, min(n_shards, total))
    for each in range(min(total // at_once, max(nodes)), 1, -1):
        if sum(node // each for node in nodes) >= at_once:
            return at_once, each
    return at_once, 1


def node_cores(engine: Engine) -> list[int]:
    """Cores of each machine that the engine may use; within `engine_running`."""
    if engine == "local":
        return [cores()]
    from crawl2chat.parallel import ray as cluster

    return cluster.node_cores()


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _on_ray(function: Callable[[Any], None], cores_each: int) -> "RayTasks":
    from crawl2chat.parallel.ray import RayTasks

    return RayTasks(function, cores_each)


class _ShardWriter:
    """Calls the function on a temporary path and renames it."""

    def __init__(self, function: Callable[[Any, Path], None]) -> None:
        self.function = function

    def __call__(self, shard: tuple[Any, Path]) -> None:
        item, output = shard
        with atomic_write_shared(output) as temporary:
            self.function(item, temporary)
