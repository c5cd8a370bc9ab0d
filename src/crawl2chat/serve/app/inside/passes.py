"""Passes through a model, made in pieces between the steps of answers, and the last few of them kept."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Generator, Hashable
from dataclasses import dataclass
from typing import TypeVar
from weakref import WeakKeyDictionary

import torch
from starlette.requests import Request

from crawl2chat.chat.talk import Talk
from crawl2chat.evals.base.heads import random_twice, score_heads
from crawl2chat.generate import Engine, Sampling
from crawl2chat.model.inside import Inside, flop_per_token
from crawl2chat.serve.app.inside.asked import Form, PassAsked
from crawl2chat.serve.errors import ApiError, refused
from crawl2chat.serve.prompts import Model
from crawl2chat.serve.shelf import Seat

Result = TypeVar("Result")

MEMORY = 64_000_000  # bytes of the passes that are kept, of each loaded model
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


async def in_pieces(seat: Seat, work: Generator[None, None, Result], request: Request) -> Result:
    """The result of work that yields now and then, done in the engine's thread in pieces of PIECE_SECONDS.

    Raises ApiError as soon as the client has hung up, as a page does when its user types on.
    """

    def piece(_: Engine) -> tuple[bool, Result | None]:
        end = time.perf_counter() + PIECE_SECONDS
        while time.perf_counter() < end:
            try:
                next(work)
            except StopIteration as stop:
                return True, stop.value
        return False, None

    with seat.in_use():
        while True:
            ended, result = await seat.compute(piece)
            if ended:
                return result  # type: ignore[return-value]
            if await request.is_disconnected():
                work.close()
                request.scope["outcome"] = "gone"
                raise ApiError(499, "the client has hung up")


class Passes:
    """Finds a pass among the last ones, or makes it."""

    def __init__(self, memory: int = MEMORY) -> None:
        self.memory = memory
        # held weakly by the seat, or the weights of models that were put away would stay;
        # of each seat's passes the one that was used last is at the end
        self.kept: WeakKeyDictionary[Seat, OrderedDict[Hashable, Inside]] = WeakKeyDictionary()
        self.random_scores: WeakKeyDictionary[Seat, torch.Tensor] = WeakKeyDictionary()
        self._making = asyncio.Lock()

    async def of(self, seat: Seat, asked: PassAsked, request: Request, *, changed: bool = True) -> Inside:
        """The pass that is meant, or with `changed` False the same one without its changes.

        Raises ApiError for changes that it can't have.
        """
        other = None
        if changed and asked.other is not None and any(change.patched for change in asked.changes):
            other = await self._pass(seat, tuple(read_text(seat.model, asked.other, asked.form).ids), request)
        ids = tuple(read_text(seat.model, asked.text, asked.form).ids)
        return await self._pass(seat, ids, request, asked if changed and asked.changes else None, other)

    async def random_scores_of(self, seat: Seat, request: Request) -> torch.Tensor:
        """Induction and previous-token scores of all heads on random tokens that come twice, (2, L, H)."""
        if seat not in self.random_scores:
            model, tokenizer = seat.engine.model, seat.model.tokenizer
            vocabulary = min(model.config.vocab_size, tokenizer.vocab_size)
            room = min(seat.engine.context, most_tokens(seat.model))
            inside = Inside(model, random_twice([tokenizer.end_of_text], vocabulary, room))

            def score() -> Generator[None, None, torch.Tensor]:
                while inside.advance():
                    yield
                scores = score_heads(inside)
                return torch.stack([scores.induction_lh, scores.previous_lh])

            self.random_scores[seat] = await in_pieces(seat, score(), request)
        return self.random_scores[seat]

    async def _pass(
        self,
        seat: Seat,
        ids: tuple[int, ...],
        request: Request,
        asked: PassAsked | None = None,
        other: Inside | None = None,
    ) -> Inside:
        changes = tuple(change.change() for change in asked.changes) if asked else ()
        key = ids, changes, tuple(other.ids) if other else None
        async with self._making:  # requests for the same one at the same time wait for it
            kept = self.kept.setdefault(seat, OrderedDict())
            if key in kept:
                kept.move_to_end(key)
                return kept[key]
            try:
                inside = Inside(seat.engine.model, ids, changes, other)
            except ValueError as error:
                raise refused(f"changes: {error}", "changes") from error
            await in_pieces(seat, _advance(inside), request)
            kept[key] = inside
            while len(kept) > 1 and sum(one.n_bytes for one in kept.values()) > self.memory:
                kept.popitem(last=False)
            return inside


def _advance(inside: Inside) -> Generator[None, None, None]:
    while inside.advance():
        yield
