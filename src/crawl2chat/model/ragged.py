"""Rows of unequal length: which of them to read at once, what they have in common, how they become one tensor."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor


def by_length(lengths: Sequence[int], tokens: int, *, longest_first: bool = False) -> Iterator[list[int]]:
    """Places of rows in order of length, as many together as fill `tokens` with their padding; one alone may exceed it.

    Shortest first; or longest first, so that what doesn't fit in memory fails early.
    """
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    part: list[int] = []
    for i in reversed(order) if longest_first else order:
        if part and max(lengths[i], lengths[part[0]]) * (len(part) + 1) > tokens:
            yield part
            part = []
        part.append(i)
    if part:
        yield part


def pad(rows: Sequence[Sequence[int]], device: torch.device | str = "cpu") -> Tensor:
    """The rows as one tensor (B, T), with zeros after the shorter ones."""
    T = max(map(len, rows))
    return torch.tensor([[*row, *[0] * (T - len(row))] for row in rows], dtype=torch.long, device=device)


def common_prefix(sequences: Sequence[Sequence[int]]) -> int:
    """How many tokens all sequences begin with."""
    first, *others = sequences
    n = min(map(len, sequences))
    if all(other[:n] == first[:n] for other in others):
        return n
    return next((i for i in range(n) if any(other[i] != first[i] for other in others)), n)
