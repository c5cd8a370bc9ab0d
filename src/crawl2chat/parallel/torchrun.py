"""One command as several processes, as torchrun starts them: the first leads, the others join it where it asks.

    torchrun --nproc-per-node 8 -m crawl2chat run recipe.toml

Rank 0 does what a single process would. The others wait, for hours if need be, until it calls them to a stage that
can use them, and end when it ends. They wait by asking the store that torchrun keeps, which has no time limit as
collective operations have, and in which the first failure is recorded for all.
"""

import atexit
import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from torch.distributed.distributed_c10d import Store

ASK_EVERY_SECONDS = 0.1
DISMISS_SECONDS = 10.0  # how long the first rank waits for the others to notice that it is done


class RanksLost(Exception):
    """Another rank has failed and has reported why, so this one ends in silence."""


def rank() -> int:
    """Which of the processes this is; 0 leads, and is the only one without torchrun."""
    return int(os.environ.get("RANK", 0))


def world_size() -> int:
    return int(os.environ.get("WORLD_SIZE", 1))


def local_rank() -> int:
    """Which of this machine's processes this is, and so which of its GPUs is ours."""
    return int(os.environ.get("LOCAL_RANK", 0))


@lru_cache(maxsize=1)
def store() -> "Store":
    """Keys and values that all ranks see, from MASTER_ADDR and MASTER_PORT in the environment."""
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    everyones, _, _ = next(iter(rendezvous("env://")))
    return PrefixStore(f"crawl2chat/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", everyones)


class _Place:
    """Number of calls and meetings so far; the same on all ranks, as they run the same code."""

    calls = 0
    meetings = 0


def call_others(message: Any) -> None:
    """From the first rank: have the others do something; they read `message` (JSON) in `calls`."""
    if world_size() > 1:
        store().set(f"call/{_Place.calls}", json.dumps(message))
        _Place.calls += 1


def calls() -> Iterator[Any]:
    """On the other ranks: the messages of the first until it is done. Raises RanksLost when one has failed."""
    while True:
        message = json.loads(_wait_for(f"call/{_Place.calls}"))
        _Place.calls += 1
        if message is None:
            store().add("left", 1)
            return
        yield message


def dismiss_others() -> None:
    """From the first rank, at its end."""
    call_others(None)
    until = time.monotonic() + DISMISS_SECONDS  # the store may be ours and end with us
    while world_size() > 1 and store().add("left", 0) < world_size() - 1 and time.monotonic() < until:
        time.sleep(ASK_EVERY_SECONDS)


@contextlib.contextmanager
def first_rank_first() -> Iterator[None]:
    """Let the first rank through the block, then the others, which find what it made. Raises RanksLost like `calls`."""
    key = f"meeting/{_Place.meetings}"
    _Place.meetings += 1
    if rank():
        _wait_for(key)
    yield
    if world_size() > 1 and not rank():
        store().set(key, "")


def is_first_to_fail() -> bool:
    """Whether no rank has failed before; only the first one reports why."""
    if world_size() == 1:
        return True
    try:
        return bool(store().add("failed", 1) == 1)
    except RuntimeError:  # the store is gone, and with it the rank that kept it, so nobody can have reported
        return True


def leave(status: int) -> NoReturn:
    """End this process as Python does, except for the libraries' own end.

    Threads of torch's process groups outlive `destroy_process_group`; some runs that ended in the usual way were
    aborted during Python's shutdown, with all their work done.
    """
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _wait_for(key: str) -> bytes:
    while True:
        try:
            if store().check([key]):
                return store().get(key)
            if store().add("failed", 0):
                raise RanksLost
        except RuntimeError as error:
            raise RanksLost from error
        time.sleep(ASK_EVERY_SECONDS)
