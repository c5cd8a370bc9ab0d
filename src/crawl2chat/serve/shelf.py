"""The models that a server has on offer: those of a run, or one. Each is loaded when it is first asked for."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from crawl2chat.generate import Engine
from crawl2chat.model import ModelConfig
from crawl2chat.serve.desk import Desk, closing
from crawl2chat.serve.errors import ApiError
from crawl2chat.serve.metrics import Metrics
from crawl2chat.serve.prompts import Model
from crawl2chat.serve.worker import Worker
from crawl2chat.stages.files import StageError

Result = TypeVar("Result")

MEMORY = 8_000_000_000  # bytes of weights and caches, of all loaded models
COPIES = 2  # of the weights: the model's own, for the page Inside, and those that the engine has laid out


@dataclass(frozen=True)
class Offer:
    """A model that can be asked for, loaded or not."""

    name: str  # what clients call it
    stage: str | None  # that made it; they may call it so, too
    created: int  # seconds since 1970
    config: ModelConfig
    context: int  # tokens of prompt and answer at most
    n_parameters: int
    read: Callable[[], Model]

    @property
    def names(self) -> tuple[str, ...]:
        """A base model's stage is called pretrain in its folder and base on the command line."""
        return tuple(filter(None, (self.name, self.stage, "base" if self.stage == "pretrain" else None)))


@dataclass(eq=False)
class Seat:
    """A loaded model: the only thread that runs it, behind the desk where requests are let in."""

    model: Model
    desk: Desk
    size: int  # bytes of weights and of the cache of keys and values
    n_using: int = 0  # pieces of work that will need the engine again

    @property
    def engine(self) -> Engine:
        return self.model.engine

    async def compute(self, work: Callable[[Engine], Result]) -> Result:
        """What `work` makes of the engine, in the engine's thread, between two steps of the answers that it writes."""
        if self.desk.closed:
            raise closing()
        with self.in_use():
            return await self.desk.worker.compute(work)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Keep the model loaded meanwhile."""
        self.n_using += 1
        try:
            yield
        finally:
            self.n_using -= 1

    @property
    def busy(self) -> bool:
        return bool(self.desk.open or self.n_using)


class Shelf:
    """Opens models by name, and puts the one that was used longest ago away when memory runs short."""

    def __init__(
        self, offers: Sequence[Offer], *, queue: int, memory: int = MEMORY, threads: int | None = None
    ) -> None:
        """offers: the first is the default, and stays. queue: answers that may wait beside those that an engine runs.
        memory: bytes of weights and caches that all loaded models may take. threads: of torch, for each engine.
        """
        self.offers, self.queue, self.memory, self.threads = list(offers), queue, memory, threads
        self.metrics = Metrics(self._running, self._waiting)
        self.closed = False
        self.seats: dict[str, Seat] = {}  # the one that was used last is at the end
        self._sizes: dict[str, int] = {}  # of models that were loaded once; before that, only the weights' is known
        self._loading = asyncio.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.default = self._seat(self.offers[0])  # at once, so that what is wrong with it is heard before it listens
        self.seats[self.offers[0].name] = self.default

    @staticmethod
    def of(model: Model, *, queue: int, threads: int | None = None) -> "Shelf":
        """With this model alone."""
        config, engine = model.engine.model.config, model.engine
        parameters = engine.model.n_parameters()
        offer = Offer(model.name, model.stage, model.created, config, engine.context, parameters, lambda: model)
        return Shelf([offer], queue=queue, threads=threads)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.default.desk.worker.start(loop)

    def offer(self, name: str | None) -> Offer:
        """Raises ApiError where none is called that."""
        if name is None:
            return self.offers[0]
        found = next((offer for offer in self.offers if name in offer.names), None)
        if found is None:
            has = ", ".join(repr(offer.name) for offer in self.offers)
            raise ApiError(
                404, f"there is no model {name[:100]!r} here; this server has {has}", param="model",
                code="model_not_found",
            )  # fmt: skip
        return found

    async def open(self, name: str | None) -> Seat:
        """The model of that name, or the default one, loaded. Raises ApiError when there is none, or no memory."""
        offer = self.offer(name)
        if offer.name not in self.seats:
            async with self._loading:  # one at a time, or two might each find room
                if self.closed:
                    raise closing()
                if offer.name not in self.seats:
                    await self._load(offer)
        seat = self.seats[offer.name] = self.seats.pop(offer.name)
        return seat

    async def _load(self, offer: Offer) -> None:
        assert self._loop is not None
        self._make_room(offer, self._sizes.get(offer.name, 4 * COPIES * offer.n_parameters))
        try:
            seat = await asyncio.to_thread(self._seat, offer)
        except StageError as error:
            raise ApiError(503, f"the model {offer.name} can't be loaded: {error}", code="model_not_loaded") from error
        if self.closed:
            raise closing()
        self._sizes[offer.name] = seat.size
        self._make_room(offer, seat.size)
        seat.desk.worker.start(self._loop)
        self.seats[offer.name] = seat

    def _seat(self, offer: Offer) -> Seat:
        model = offer.read()
        weights = sum(part.numel() * part.element_size() for part in model.engine.model.parameters())
        cache = model.engine.cached.cache.content
        size = COPIES * weights + cache.numel() * cache.element_size()
        desk = Desk(Worker(model.engine, self.threads), model.engine.max_batch + self.queue, self.metrics)
        return Seat(model, desk, size)

    def _make_room(self, offer: Offer, needed: int) -> None:
        """Put away idle models, those that were used longest ago first, until this one fits into the bytes it needs.

        Raises ApiError when those that stay, the default one and busy ones, leave too little.
        """
        for name, seat in list(self.seats.items()):
            if needed + sum(seat.size for seat in self.seats.values()) <= self.memory:
                return
            if seat is not self.default and not seat.busy:
                del self.seats[name]
                seat.desk.worker.stop(0)  # after what it is at
        if needed + sum(seat.size for seat in self.seats.values()) > self.memory:
            raise ApiError(
                503, f"{offer.name} is not loaded, and memory for models has no room for it next to the default model "
                "and those that are busy; try again soon, or start the server with more --models-memory",
                code="model_not_loaded", headers={"Retry-After": "1"},
            )  # fmt: skip

    # the end

    def close(self) -> None:
        """Let nobody in any more."""
        self.closed = True
        for seat in self.seats.values():
            seat.desk.closed = True

    async def drain(self, seconds: float) -> int:
        """Wait for those within; returns how many answers had to be cut off."""
        self.close()
        return sum(await asyncio.gather(*(seat.desk.drain(seconds) for seat in self.seats.values())))

    def stop(self) -> None:
        for seat in self.seats.values():
            seat.desk.worker.stop()

    def _running(self) -> int:
        return sum(seat.desk.worker.running for seat in self.seats.values())

    def _waiting(self) -> int:
        return sum(max(0, len(seat.desk.open) - seat.desk.worker.running) for seat in self.seats.values())
