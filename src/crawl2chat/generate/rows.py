"""Which request has which row of the cache, and how much of a prompt is already there."""

from collections.abc import Sequence

import torch

from crawl2chat.generate.request import Request
from crawl2chat.model import KVCache, Transformer
from crawl2chat.model.cached import rows_made
from crawl2chat.model.ragged import common_prefix

MIN_ROWS = 8  # for which memory is kept, by a shorter context
SHARED = 8  # tokens, from which it pays to copy what a row holds instead of computing it again
SPARE = 8  # rows beyond the busy ones that keep what ended requests left, for requests that continue them


def length_and_rows(
    model: Transformer, rows: int, memory: int, length: int | None, dtype: torch.dtype
) -> tuple[int, int]:
    """How many tokens a row can have and how many rows there can be, within `memory` bytes.

    dtype: of keys and values.
    Raises ValueError for a length that the model was not made for, and for too little memory.
    """
    most = model.config.max_position_embeddings
    if rows < 1:
        raise ValueError(f"max_batch = {rows}: must be at least 1")
    if length is not None and not 2 <= length <= most:
        raise ValueError(f"context = {length}: must be from 2 to the model's {most}")
    token = KVCache.bytes_per_token(model.config, dtype)
    length = min(length or most, memory // (token * rows_made(min(rows, MIN_ROWS))))
    if length < 2:
        raise ValueError(f"memory = {memory:,} bytes: keys and values take {token:,} per token; give it more")
    while rows > 1 and rows_made(rows) * length * token > memory:
        rows -= 1
    return length, rows


class Rows:
    """The rows of a cache: which request runs in each, or what the last one left there."""

    def __init__(self, cache: KVCache, n: int) -> None:
        self.cache, self.n = cache, n
        self.requests: list[Request] = []  # that run, in the order in which they came
        self.busy: dict[int, Request] = {}
        self.held: list[list[int]] = [[] for _ in range(n)]  # the tokens that a row surely holds, from its beginning
        self.last_used = [0] * n
        self.clock = 0

    @property
    def has_room(self) -> bool:
        return len(self.requests) < self.n

    def enter(self, request: Request) -> None:
        """Give a request a row: of the first free ones the one that was left the longest ago."""
        free = [row for row in range(min(self.n, len(self.requests) + SPARE)) if row not in self.busy]
        request.row = min(free, key=lambda row: self.last_used[row])
        self.busy[request.row] = request
        self.requests.append(request)
        if request.prefilled:  # a prompt of one token is never read before it is decoded, over what the row holds
            self.hold(request)

    def leave(self, request: Request) -> None:
        """Free the row of a request; what it read stays there until the row is needed."""
        row = request.row
        assert row is not None
        self.clock += 1
        self.held[row], self.last_used[row] = request.tokens_read(), self.clock
        request.row = None
        del self.busy[row]
        self.requests.remove(request)

    def hold(self, request: Request) -> None:
        """Note how much of its prompt a request has read."""
        assert request.row is not None
        self.held[request.row] = request.prompt[: request.read]

    def to_prefill(self, budget: int) -> list[tuple[Request, int]]:
        """Which requests read next, and how many tokens each, within the budget, padding included.

        A request that begins first copies what another row holds of its prompt. A request that shares a longer prefix
        with one being prefilled waits, so that it can copy it. The oldest request always advances; after it come those
        with the least to read, so that short prompts don't wait for a long one.
        """
        pieces: list[tuple[Request, int]] = []
        reading: list[Request] = []
        unread = [request for request in self.requests if not request.prefilled]
        share = budget // 2 if len(unread) > 1 else budget
        for request in [*unread[:1], *sorted(unread[1:], key=lambda other: len(other.prompt) - other.read)]:
            if request.read == 0 and not request.wants_prompt_logprobs:
                wanted = request.prompt[:-1]
                row, n = self._best(wanted)
                if n < len(wanted) and any(common_prefix([wanted, other.prompt]) > max(n, SHARED) for other in reading):
                    continue
                self._give(request, row, n)
                if request.prefilled:
                    continue
            reading.append(request)
            n = min(len(request.prompt) - 1 - request.read, share)
            if (len(pieces) + 1) * max([n, *(m for _, m in pieces)]) <= budget:
                pieces.append((request, n))
        return pieces

    def reuse(self, request: Request) -> None:
        """Give a request what any row holds of its prompt."""
        self._give(request, *self._best(request.prompt[:-1]))

    def _best(self, wanted: Sequence[int]) -> tuple[int, int]:
        """The row that holds most of a beginning, and how much of it."""
        best, most = 0, 0
        for row, held in enumerate(self.held):
            if held[:SHARED] == wanted[:SHARED] and (n := common_prefix([held, wanted])) > most:
                best, most = row, n
                if n == len(wanted):
                    break
        return best, most

    def _give(self, request: Request, source: int, n: int) -> None:
        assert request.row is not None
        if n < SHARED:
            n = 0
        elif source != request.row:
            self.cache.copy(source, request.row, n)
        request.read = request.completion.reused = n
        self.hold(request)

    def close_gaps(self) -> None:
        """Move the last rows into free ones when many of those that a step computes are free."""
        while self.busy and max(self.busy) + 1 - len(self.busy) > max(SPARE, len(self.busy)):
            last = max(self.busy)
            request = self.busy.pop(last)
            free = (row for row in range(last) if row not in self.busy)
            request.row = min(free, key=lambda row: self.last_used[row])
            self.cache.copy(last, request.row, max(request.read, len(self.held[last])))
            self.busy[request.row] = request
            self.held[request.row] = list(self.held[last])
