"""The order in which problems are learned from."""

import random
from collections.abc import Iterator


def in_epochs(count: int, per_step: int, seed: int, step: int) -> Iterator[int]:
    """Which `per_step` of `count` problems a step takes: all of them once per epoch, each time in a new order."""
    orders: dict[int, list[int]] = {}
    for i in range(step * per_step, (step + 1) * per_step):
        epoch, place = divmod(i, count)
        if epoch not in orders:
            orders[epoch] = random.Random(f"epoch {epoch} {seed}").sample(range(count), count)
        yield orders[epoch][place]
