"""Passes through a model, made in pieces between the steps of answers, and the last few of them kept."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Generator, Hashable
from dataclasses import dataclass
from typing import TypeVar

import torch

from crawl2chat.chat.talk import Talk
from crawl2chat.evals.heads import random_twice, score_heads
from crawl2chat.generate import Engine, Sampling
from crawl2chat.model.inside import Inside, flop_per_token
from crawl2chat.serve.app.inside.asked import Form, PassAsked
from crawl2chat.serve.errors import refused
from crawl2chat.serve.prompts import Model
from crawl2chat.serve.shelf import Seat, Shelf

Result = TypeVar("Result")

MEMORY = 256_000_000  # bytes of all kept passes
PIECE_SECONDS = 0.03  # of work, for which answers that are being written wait
MOST_TOKENS = 512
FEWEST_TOKENS = 16
MOST_FLOP = 2e11  # of a pass with its lenses; some seconds on a laptop


@dataclass(frozen=True)
class Read:
    """A text as the ids of a pass."""

    ids: list[int]
    n_all: int  # tokens of the whole text, of which the ids are the first


def most_tokens(model: Model) -> int:
    """How many tokens of a text are looked at, by the model's context and by what a pass costs."""
    affordable = int(MOST_FLOP / flop_per_token(model.engine.model))
    return min(model.engine.context, MOST_TOKENS, max(FEWEST_TOKENS, affordable))


def read_text(model: Model, text: str, form: Form) -> Read:
    tokenizer = model.tokenizer
    if form == "chat":
        ids = Talk(model.engine, Sampling(), base=model.base).prompt([{"role": "user", "content": text}])
    else:
        ids = [*([tokenizer.end_of_text] if form == "document" else []), *tokenizer.encode(text)]
    if not ids:
        raise refused("text: holds no token; expected at least one", "text")
    return Read(ids[: most_tokens(model)], len(ids))


async def in_pieces(seat: Seat, work: Generator[None, None, Result]) -> Result:
    """The result of work that yields now and then, done in the engine's thread in pieces of PIECE_SECONDS."""

    def piece(_: Engine) -> tuple[bool, Result | None]:
        end = time.perf_counter() + PIECE_SECONDS
        while time.perf_counter() < end:
            try:
                next(work)
            except StopIteration as stop:
                return True, stop.value
        return False, None

    while True:
        ended, result = await seat.compute(piece)
        if ended:
            return result  # type: ignore[return-value]


class Passes:
    """Finds a pass among the last ones, or makes it."""

    def __init__(self, shelf: Shelf, memory: int = MEMORY) -> None:
        self.shelf, self.memory = shelf, memory
        self.kept: OrderedDict[Hashable, tuple[Seat, Inside]] = OrderedDict()  # the one that was used last at the end
        self.random_scores: dict[str, tuple[Seat, torch.Tensor]] = {}
        self._making = asyncio.Lock()

    async def of(self, seat: Seat, asked: PassAsked, *, changed: bool = True) -> Inside:
        """The pass that a request means, or with `changed` False the same one without its changes.

        Raises ApiError for changes that it can't have.
        """
        other = None
        if changed and asked.other is not None and any(change.patched for change in asked.changes):
            other = await self._pass(seat, tuple(read_text(seat.model, asked.other, asked.form).ids))
        ids = tuple(read_text(seat.model, asked.text, asked.form).ids)
        return await self._pass(seat, ids, asked if changed and asked.changes else None, other)

    async def random_scores_of(self, seat: Seat) -> torch.Tensor:
        """Induction and previous-token scores of all heads on random tokens that come twice, (2, L, H)."""
        kept = self.random_scores.get(seat.model.name)
        if kept is None or kept[0] is not seat:
            model, tokenizer = seat.engine.model, seat.model.tokenizer
            vocabulary = min(model.config.vocab_size, tokenizer.vocab_size)
            room = min(seat.engine.context, most_tokens(seat.model))
            inside = Inside(model, random_twice([tokenizer.end_of_text], vocabulary, room))

            def score() -> Generator[None, None, torch.Tensor]:
                while inside.advance():
                    yield
                scores = score_heads(inside)
                return torch.stack([scores.induction_lh, scores.previous_lh])

            kept = self.random_scores[seat.model.name] = seat, await in_pieces(seat, score())
        return kept[1]

    async def _pass(
        self, seat: Seat, ids: tuple[int, ...], asked: PassAsked | None = None, other: Inside | None = None
    ) -> Inside:
        changes = tuple(change.change() for change in asked.changes) if asked else ()
        key = seat.model.name, ids, changes, tuple(other.ids) if other else None
        async with self._making:  # those who ask for the same one at the same time wait for it
            seats = set(map(id, self.shelf.seats.values()))
            for gone in [k for k, (its_seat, _) in self.kept.items() if id(its_seat) not in seats]:
                del self.kept[gone]  # or the weights of models that were put away would stay
            if key in self.kept:
                self.kept.move_to_end(key)
                return self.kept[key][1]
            try:
                inside = Inside(seat.engine.model, ids, changes, other)
            except ValueError as error:
                raise refused(f"changes: {error}", "changes") from error
            await in_pieces(seat, _advance(inside))
            self.kept[key] = seat, inside
            while len(self.kept) > 1 and sum(kept.n_bytes for _, kept in self.kept.values()) > self.memory:
                self.kept.popitem(last=False)
            return inside


def _advance(inside: Inside) -> Generator[None, None, None]:
    while inside.advance():
        yield
