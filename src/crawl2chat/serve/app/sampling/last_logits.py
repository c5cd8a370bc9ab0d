"""The last logits of the model, kept so that moving a slider computes the controls again but not the model."""

from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor

from crawl2chat.generate import Engine, Sampling
from crawl2chat.serve.desk import Wanted
from crawl2chat.serve.shelf import Seat

BYTES = 64 << 20  # 400 steps of a vocabulary of 40,000


class LastLogits:
    """Bounded in bytes; what was asked for the longest ago goes first. Lives in the event loop."""

    def __init__(self, most_bytes: int = BYTES) -> None:
        self.most_bytes, self.bytes = most_bytes, 0
        self.kept: OrderedDict[tuple[str, tuple[int, ...]], Tensor] = OrderedDict()

    async def of(self, seat: Seat, ids: Sequence[int]) -> Tensor:
        """Logits (V,) of what follows these ids, float32 on the CPU. Raises ApiError when the model is too busy."""
        key = (seat.model.name, tuple(ids))
        if key in self.kept:
            self.kept.move_to_end(key)
            return self.kept[key]
        if len(ids) > seat.engine.prefill_tokens:  # more than others should wait for in one piece
            await _read_in_turn(seat, ids)

        def work(engine: Engine) -> Tensor:
            return engine.next_logits(ids).cpu()

        logits_v = await seat.compute(work)
        self._keep(key, logits_v)
        return logits_v

    def _keep(self, key: tuple[str, tuple[int, ...]], logits_v: Tensor) -> None:
        if key in self.kept:  # asked for twice at the same time
            return
        self.kept[key] = logits_v
        self.bytes += _size(key, logits_v)
        while self.bytes > self.most_bytes and len(self.kept) > 1:
            self.bytes -= _size(*self.kept.popitem(last=False))


def _size(key: tuple[str, tuple[int, ...]], logits_v: Tensor) -> int:
    return logits_v.numel() * logits_v.element_size() + 8 * len(key[1])


async def _read_in_turn(seat: Seat, ids: Sequence[int]) -> None:
    """Have the engine read a long prompt like any other request's; its row of the cache then holds it."""
    call = seat.desk.admit([Wanted(ids, Sampling(max_tokens=0), 0)])
    try:
        async for _ in call.pieces():
            pass
    finally:
        call.close()
