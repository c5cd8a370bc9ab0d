"""How the computer is used: which device, which arithmetic, whether to compile."""

import contextlib
import shutil
from collections.abc import Iterator
from typing import Any, Literal, Protocol

import torch

from crawl2chat.model import Transformer
from crawl2chat.stages.files import StageError
from crawl2chat.train.settings import TrainSettings

# FLOP of a run from which compiling pays. On two cores a first compilation takes about 20 s (5 s with its cache), and
# what it saved had made that up after 2e12 (depth 3), 6e12 (4), 8e12 (6) and 2e13 (8).
# For GPUs it is an estimate: a minute to compile, half as fast without at 1e14 FLOP/s.
COMPILE_FROM_FLOP = {"cpu": 1e13, "cuda": 1e16}


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
        return settings.precision != "fp32"
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def check_fp8(model: Transformer, settings: TrainSettings, device: str) -> None:
    """Raise StageError where products in fp8 can't be computed."""
    if device != "cuda":
        raise StageError("precision = fp8 needs a GPU of compute capability 8.9 or later, and the device is a CPU")
    capability = torch.cuda.get_device_capability()
    if capability < (8, 9):
        raise StageError(
            f"precision = fp8 needs a GPU of compute capability 8.9 or later (Ada, Hopper, Blackwell); "
            f"{torch.cuda.get_device_name()} has {capability[0]}.{capability[1]}; use precision = bf16"
        )
    check_fp8_sizes(model, settings)


def check_fp8_sizes(model: Transformer, settings: TrainSettings) -> None:
    c = model.config
    sizes = {
        "width": c.hidden_size,
        "mlp_width": c.intermediate_size,
        "heads times head_dim": c.num_attention_heads * c.head_dim,
        "key-value heads times head_dim": c.num_key_value_heads * c.head_dim,
        "seq_len": settings.seq_len,
    }
    odd = [f"{name} = {size}" for name, size in sizes.items() if size % 16]
    if odd:
        raise StageError(f"precision = fp8 needs sizes that are multiples of 16, which {', '.join(odd)} isn't")


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
    return flop >= COMPILE_FROM_FLOP[device] and has_compiler
