"""How the computer is used: which device, which arithmetic, whether to compile."""

import contextlib
import shutil
from collections.abc import Iterator
from typing import Any, Literal, Protocol

import torch

from crawl2chat.model import Transformer
from crawl2chat.run import StageError
from crawl2chat.train.settings import TrainSettings

# Compiling takes about half a minute and makes a step about a third faster, so it pays in runs of more than
# some two minutes: about 3e13 FLOP on two cores.
COMPILE_FROM_FLOP = 3e13


class HasDevice(Protocol):
    @property
    def device(self) -> Literal["auto", "cpu", "cuda"]: ...


def choose_device(settings: HasDevice) -> str:
    if settings.device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise StageError("device = cuda: no CUDA GPU is here; use device = auto or cpu")
    return settings.device


def uses_bf16(settings: TrainSettings, device: str) -> bool:
    """Whether the forward pass computes in bf16: as asked, or where the hardware multiplies it natively."""
    if settings.precision != "auto":
        return settings.precision == "bf16"
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


@contextlib.contextmanager
def deterministic(device: str) -> Iterator[None]:
    """Equal runs, equal weights, on CPUs: compiled, an embedding's gradient is otherwise summed in any order.

    It costs no speed there. CUDA's kernels lack some deterministic forms, so there runs differ in the last bits.
    """
    details: Any = torch.utils.deterministic
    before = torch.are_deterministic_algorithms_enabled(), details.fill_uninitialized_memory
    torch.use_deterministic_algorithms(before[0] or device == "cpu")
    details.fill_uninitialized_memory = False  # it would write NaN into each new tensor first, a help in debugging
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        details.fill_uninitialized_memory = before[1]


def compiles(model: Transformer, steps: int, settings: TrainSettings, device: str) -> bool:
    if settings.compile != "auto":
        return settings.compile == "on"
    flop = steps * settings.batch_tokens * model.flops_per_token(settings.seq_len)
    has_compiler = device != "cpu" or any(map(shutil.which, ("c++", "g++", "clang++")))
    return flop >= COMPILE_FROM_FLOP and has_compiler
