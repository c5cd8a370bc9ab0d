"""Problems with answers that can be checked, to learn from and to measure with."""

import random
from collections.abc import Iterator
from pathlib import Path

from crawl2chat.evals import tasks
from crawl2chat.evals.tasks import Problem


def read_problems(source: Path, measured: int, seed: int) -> tuple[list[Problem], list[Problem]]:
    """Problems to learn from and `measured` others to measure with. Raises StageError."""
    return tasks.split_problems(tasks.read_problems(source), measured, seed, source)


def in_epochs(count: int, per_step: int, seed: int, step: int) -> Iterator[int]:
    """Which `per_step` of `count` problems a step takes: all of them once per epoch, each time in a new order."""
    orders: dict[int, list[int]] = {}
    for i in range(step * per_step, (step + 1) * per_step):
        epoch, place = divmod(i, count)
        if epoch not in orders:
            orders[epoch] = random.Random(f"epoch {epoch} {seed}").sample(range(count), count)
        yield orders[epoch][place]
