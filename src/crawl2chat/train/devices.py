"""How the computer is used: which device, which arithmetic, whether to compile."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
import xxhash

from crawl2chat.generate import Engine
from crawl2chat.generate.kept import KeptCompletions
from crawl2chat.model import Transformer, WeightForm, load_model
from crawl2chat.model.matrices import multiplies_bf16
from crawl2chat.stages.files import AnyPath, StageError
from crawl2chat.stages.stage import ASKED
from crawl2chat.tokenizer import Tokenizer
from crawl2chat.train.settings import ComputeSettings

# FLOP of a run from which compiling pays. On two cores a first compilation takes about 20 s (5 s with its cache), and
# what it saved had made that up after 2e12 (depth 3), 6e12 (4), 8e12 (6) and 2e13 (8).
# For GPUs it is an estimate: a minute to compile, half as fast without at 1e14 FLOP/s.
COMPILE_FROM_FLOP = {"cpu": 1e13, "cuda": 1e16}
# What torch.compile looks for: a C++ compiler for kernels on a CPU, a C compiler for what starts Triton's on a GPU.
COMPILERS = {"cpu": ("c++", "g++", "clang++"), "cuda": ("gcc", "clang")}

LARGE = 50_000_000  # parameters from which a model's products are most of what generating takes


class HasDevice(Protocol):
    @property
    def device(self) -> Literal["auto", "cpu", "cuda"]: ...


def choose_device(settings: HasDevice) -> str:
    if settings.device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise StageError("device = cuda: no CUDA GPU is here; use device = auto or cpu")
    return settings.device


def uses_bf16(settings: ComputeSettings, device: str) -> bool:
    """Whether the forward pass computes in bf16: as asked, or where the hardware multiplies it natively."""
    if settings.precision != "auto":
        return settings.precision != "fp32"
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return multiplies_bf16()


def rollout_form(model: Transformer, settings: ComputeSettings) -> WeightForm | None:
    """The form in which a stage keeps the matrices of a model that it asks: large ones on a CPU in bf16, if it trains
    in that, since then the answers are those that it learns from; None for as they are.
    """
    device = next(model.parameters()).device.type
    large = model.n_parameters() >= LARGE
    return "bfloat16" if large and device == "cpu" and uses_bf16(settings, device) else None


def load_engine(folder: AnyPath, tokenizer: Tokenizer, settings: ComputeSettings, out: AnyPath) -> Engine:
    """A model to be asked for the stage in `out`, where its answers are kept in case the stage is killed."""
    model = load_model(folder, device=choose_device(settings))
    form = rollout_form(model, settings)
    kept = KeptCompletions(Path(out, ASKED), of=f"{_hash_of(model)} {form}")
    return Engine(model, tokenizer, weights=form, empties_model=form is not None, kept=kept)


def _hash_of(model: Transformer) -> str:
    digest = xxhash.xxh3_128(repr(model.config).encode())
    for weight in model.parameters():
        digest.update(weight.detach().cpu().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


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


def compiles(settings: ComputeSettings, device: str, flop: float) -> bool:
    """Whether to compile: as asked, or if a run of this many FLOP repays it and there is a compiler."""
    if settings.compile != "auto":
        return settings.compile == "on"
    has_compiler = any(map(shutil.which, COMPILERS[device]))
    return flop >= COMPILE_FROM_FLOP[device] and has_compiler
