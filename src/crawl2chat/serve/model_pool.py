"""The models that a server has: those of a run, or one. Each is loaded when it is first asked for."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from crawl2chat.chat.tools import OfferForm
from crawl2chat.generate import Engine
from crawl2chat.model import ModelConfig
from crawl2chat.serve.admission import Admission, Metrics
from crawl2chat.serve.engine_thread import EngineThread
from crawl2chat.serve.errors import ApiError, shutting_down
from crawl2chat.stages.files import StageError
from crawl2chat.stages.table import TOOL_STAGES
from crawl2chat.tokenizer import Tokenizer
from crawl2chat.tokenizer.tokenizer import CHAT_TEMPLATE, TOOL_CALL, TOOL_RESPONSE

Result = TypeVar("Result")

MEMORY = 8_000_000_000  # bytes of weights and caches, of all loaded models
COPIES = 2  # of the weights: the model's own, for the page Inside, and those that the engine has laid out
TOOLS_BY_NAME_STAGES = TOOL_STAGES  # taught to call tools that are offered by name
NO_TOOLS_STAGES = ("pretrain", "sft")  # of ours, never taught to, unless a file of conversations did


@dataclass(frozen=True)
class ServedModel:
    """A model in memory: its engine, what it is called, and what it has been taught."""

    engine: Engine
    name: str
    stage: str | None  # that made it; "import" or None for one from outside
    taught_offer: str | None = None  # "names" or "functions": how a file that it was fine-tuned on offers tools

    @property
    def tokenizer(self) -> Tokenizer:
        return self.engine.tokenizer

    @cached_property
    def longest_token(self) -> int:
        """In bytes."""
        return max(map(len, self.tokenizer.ranks))

    @property
    def base(self) -> bool:
        return self.stage == "pretrain"

    @property
    def calls_tools(self) -> bool:
        tags = (*TOOL_CALL, *TOOL_RESPONSE)
        knows = self.tokenizer.template.reads_tools or all(tag in self.tokenizer.controls for tag in tags)
        return taught_tools(self.stage, self.taught_offer) and knows

    @property
    def offer_taught(self) -> OfferForm | None:
        """How it was taught that tools are offered, if it was."""
        return "names" if self.reads_names else "functions" if self.taught_offer == "functions" else None

    @property
    def reads_names(self) -> bool:
        """Whether it was taught tools that are offered by their names."""
        ours = self.stage in TOOLS_BY_NAME_STAGES and self.tokenizer.chat_template == CHAT_TEMPLATE
        return ours or self.taught_offer == "names"


def taught_tools(stage: str | None, taught_offer: str | None) -> bool:
    """Whether a model of this stage, fine-tuned on conversations that offer tools so, was taught to call them."""
    return stage not in NO_TOOLS_STAGES or taught_offer is not None


@dataclass(frozen=True)
class AvailableModel:
    """A model that can be asked for, loaded or not."""

    name: str  # what clients call it
    stage: str | None  # that made it; also a name for it
    created: int  # seconds since 1970
    config: ModelConfig
    context: int  # maximum length of prompt plus answer, in tokens
    n_parameters: int
    read: Callable[[], Engine]
    taught_offer: str | None = None  # as of `ServedModel`

    @property
    def names(self) -> tuple[str, ...]:
        """A base model's stage is called pretrain in its folder and base on the command line."""
        return tuple(filter(None, (self.name, self.stage, "base" if self.stage == "pretrain" else None)))


@dataclass(eq=False)
class LoadedModel:
    """A served model with the only thread that runs it, and the admission of requests to it."""

    model: ServedModel
    admission: Admission
    size: int  # bytes of weights and of the cache of keys and values
    n_using: int = 0  # pieces of work that will need the engine again

    @property
    def engine(self) -> Engine:
        return self.model.engine

    async def compute(self, work: Callable[[Engine], Result]) -> Result:
        """What `work` makes of the engine, in the engine's thread between two steps of the answers that it writes."""
        if self.admission.closed:
            raise shutting_down()
        with self.in_use():
            return await self.admission.thread.compute(work)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Keep the model loaded meanwhile."""
        self.n_using += 1
        try:
            yield
        finally:
            self.n_using -= 1

    @property
    def is_busy(self) -> bool:
        return bool(self.admission.open or self.n_using)


class ModelPool:
    """Loads models by name, and unloads the least recently used one when memory runs short."""

    def __init__(
        self, models: Sequence[AvailableModel], *, queue: int, memory: int = MEMORY, threads: int | None = None
    ) -> None:
        """models: the first is the default, and stays. queue: answers that may wait next to those that an engine runs.
        memory: bytes of weights and caches that all loaded models may take. threads: of torch, for each engine.
        """
        self.models, self.queue, self.memory, self.threads = list(models), queue, memory, threads
        self.metrics = Metrics(self._running, self._waiting)
        self.closed = False
        self.loaded: dict[str, LoadedModel] = {}  # the one that was used last is at the end
        self._sizes: dict[str, int] = {}  # of models that were loaded before; otherwise only the weights' is known
        self._loading = asyncio.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.default = self._read(self.models[0])  # at once, so that what is wrong with it is heard before it listens
        self.loaded[self.models[0].name] = self.default

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.default.admission.thread.start(loop)

    def find(self, name: str | None) -> AvailableModel:
        """The model of that name, or the default one. Raises ApiError for an unknown name."""
        if name is None:
            return self.models[0]
        found = next((model for model in self.models if name in model.names), None)
        if found is None:
            has = ", ".join(repr(model.name) for model in self.models)
            raise ApiError(
                404, f"there is no model {name[:100]!r} here; this server has {has}", param="model",
                code="model_not_found",
            )  # fmt: skip
        return found

    def context(self, model: AvailableModel) -> int:
        """Tokens of prompt and answer that a model takes: what memory leaves it, once it is loaded."""
        loaded = self.loaded.get(model.name)
        return loaded.engine.context if loaded else model.context

    async def load(self, name: str | None) -> LoadedModel:
        """The model of that name, or the default one. Raises ApiError for an unknown name, and without memory."""
        available = self.find(name)
        if available.name not in self.loaded:
            async with self._loading:  # one at a time, or two might each find room
                if self.closed:
                    raise shutting_down()
                if available.name not in self.loaded:
                    await self._load(available)
        loaded = self.loaded[available.name] = self.loaded.pop(available.name)
        return loaded

    async def _load(self, available: AvailableModel) -> None:
        assert self._loop is not None
        name = available.name
        self._make_room(name, self._sizes.get(name, 4 * COPIES * available.n_parameters))
        try:
            loaded = await asyncio.to_thread(self._read, available)
        except StageError as error:
            raise ApiError(503, f"the model {name} can't be loaded: {error}", code="model_not_loaded") from error
        if self.closed:
            raise shutting_down()
        self._sizes[name] = loaded.size
        self._make_room(name, loaded.size)
        loaded.admission.thread.start(self._loop)
        self.loaded[name] = loaded

    def _read(self, available: AvailableModel) -> LoadedModel:
        engine = available.read()
        weights = sum(part.numel() * part.element_size() for part in engine.model.parameters())
        cache = engine.cached.cache.content
        size = COPIES * weights + cache.numel() * cache.element_size()
        admission = Admission(EngineThread(engine, self.threads), engine.max_batch + self.queue, self.metrics)
        model = ServedModel(engine, available.name, available.stage, available.taught_offer)
        return LoadedModel(model, admission, size)

    def _make_room(self, name: str, needed: int) -> None:
        """Unload idle models, the least recently used first, until `needed` bytes are free for the one of that name.

        Raises ApiError when those that stay, the default one and busy ones, leave too little.
        """
        for other, loaded in list(self.loaded.items()):
            if self._fits(needed):
                return
            if loaded is not self.default and not loaded.is_busy:
                del self.loaded[other]
                loaded.admission.thread.stop(0)  # after its current step
        if not self._fits(needed):
            raise ApiError(
                503, f"{name} is not loaded, and memory for models has no room for it next to the default model "
                "and those that are busy; try again soon, or start the server with more --models-memory",
                code="model_not_loaded", headers={"Retry-After": "1"},
            )  # fmt: skip

    def _fits(self, needed: int) -> bool:
        return needed + sum(loaded.size for loaded in self.loaded.values()) <= self.memory

    def close(self) -> None:
        """Accept nothing more."""
        self.closed = True
        for loaded in self.loaded.values():
            loaded.admission.closed = True

    async def drain(self, seconds: float) -> int:
        """Wait for what runs; returns how many answers had to be cut off."""
        self.close()
        return sum(await asyncio.gather(*(loaded.admission.drain(seconds) for loaded in self.loaded.values())))

    def stop(self) -> None:
        for loaded in self.loaded.values():
            loaded.admission.thread.stop()

    def _running(self) -> int:
        return sum(loaded.admission.thread.running for loaded in self.loaded.values())

    def _waiting(self) -> int:
        admissions = [loaded.admission for loaded in self.loaded.values()]
        return sum(max(0, len(admission.open) - admission.thread.running) for admission in admissions)
