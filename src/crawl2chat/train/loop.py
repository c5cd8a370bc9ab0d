"""The training loop, for pretraining and fine-tuning alike."""

import contextlib
import json
import shutil
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from crawl2chat.figures import Figure
from crawl2chat.model import Transformer
from crawl2chat.model.checkpoint import load_checkpoint, save_checkpoint
from crawl2chat.progress import Progress
from crawl2chat.run import METRICS, StageError, replacing
from crawl2chat.train.data import Batch, Batches
from crawl2chat.train.optim import MuonAdamW
from crawl2chat.train.schedule import lr_scale
from crawl2chat.train.settings import TrainSettings

# Compiling takes about half a minute and makes a step about a third faster, so it pays in runs of more than
# some two minutes: about 3e13 FLOP on two cores.
COMPILE_FROM_FLOP = 3e13


def train(
    model: Transformer,
    batches: Batches,
    steps: int,
    settings: TrainSettings,
    out: Path,
    *,
    label: str,
    evaluate: Callable[[int], dict[str, float]] | None = None,
) -> None:
    """Train `model` in place for `steps` optimiser steps, from the newest checkpoint in `out` if there is one.

    Writes `out/metrics.jsonl` and checkpoints. After a kill the run goes on with the same batches and ends with
    the same weights. Raises StageError when the loss is no number, or when memory runs out.
    """
    device = choose_device(settings)
    model.to(device).train()
    optimiser = MuonAdamW(model.named_parameters(), settings.matrix_lr, settings.embedding_lr, settings.weight_decay)
    metrics = Metrics(out / METRICS)
    first = resume(model, optimiser, out / "checkpoints")
    metrics.forget_after(first)
    loss_of = _loss_function(model, steps, settings, device)
    with deterministic(device), Progress(label, steps, "step") as progress:
        for step in range(first, steps):
            started = time.monotonic()
            try:
                loss, norm = _step(model, optimiser, batches, step, steps, settings, loss_of, device)
            except torch.OutOfMemoryError as error:
                raise StageError(
                    f"{label}: out of memory; lower {label}.micro_batch_tokens (now {settings.micro_batch_tokens})"
                ) from error
            if not loss == loss or loss in (float("inf"), float("-inf")):
                raise StageError(f"{label}: the loss at step {step} is {loss}; lower {label}.matrix_lr or embedding_lr")
            speed = settings.batch_tokens / (time.monotonic() - started)
            metrics.write(step=step + 1, loss=loss, grad_norm=norm, tokens_per_second=round(speed))
            done = step + 1
            if evaluate and (done % settings.evaluate_every == 0 or done == steps):
                model.eval()
                metrics.write(step=done, **evaluate(done))
                model.train()
            if done % settings.checkpoint_every == 0 or done == steps:
                save_state(model, optimiser, out / "checkpoints", done)
            progress.update(done, metrics.summary())
    model.eval()


class Metrics:
    """`metrics.jsonl`: a line a step (and an evaluation), appended as they come."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.latest: dict[str, Any] = {}

    def write(self, **values: Any) -> None:
        self.latest |= values
        with open(self.file, "a", encoding="utf-8") as handle:
            handle.write(json.dumps(values) + "\n")

    def forget_after(self, step: int) -> None:
        """Drop the lines of steps that a resumed run will do again, and a line that a kill cut short."""
        lines = read_metrics(self.file)
        with replacing(self.file) as temporary, open(temporary, "w", encoding="utf-8") as handle:
            handle.writelines(json.dumps(line) + "\n" for line in lines if line["step"] <= step)

    def summary(self) -> str:
        """The latest of what a reader follows: the loss or the reward, how it is judged, the speed."""
        shown = self.latest
        formats = {
            "loss": "loss {:.3f}",
            "reward": "reward {:.3f}",
            "answer_tokens": "{:.0f} tok/answer",
            "entropy": "entropy {:.3f}",
            "bits_per_byte": "bpb {:.3f}",
        }
        parts = [text.format(shown[name]) for name, text in formats.items() if name in shown]
        return "  ".join([*parts, f"{shown['tokens_per_second'] / 1000:.1f}k tok/s"])


def read_metrics(file: Path) -> list[dict[str, Any]]:
    """The lines of a `metrics.jsonl`; none if there is no such file."""
    if not file.exists():
        return []
    lines = []
    for line in file.read_text(encoding="utf-8").split("\n"):
        with contextlib.suppress(json.JSONDecodeError):  # the line that a kill cut short
            lines.append(json.loads(line))
    return lines


def typical_speed(file: Path) -> list[Figure]:
    """Median tokens/s over the steps of a `metrics.jsonl`; nothing when the file has been lost."""
    speeds = [line["tokens_per_second"] for line in read_metrics(file) if "tokens_per_second" in line]
    return [Figure("tokens_per_second", statistics.median(speeds), "tokens/s", count=len(speeds))] if speeds else []


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
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(before or device == "cpu")
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def _step(
    model: Transformer,
    optimiser: MuonAdamW,
    batches: Batches,
    step: int,
    steps: int,
    settings: TrainSettings,
    loss_of: Callable[..., Tensor],
    device: str,
) -> tuple[float, float]:
    """One optimiser step; returns the batch's mean loss (nats a token) and the gradients' norm."""
    loss = add_gradients(loss_of, batches(step), settings.micro_batch_rows, device)
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm)
    optimiser.step(step, lr_scale(step, steps, settings.warmup, settings.decay))
    optimiser.zero_grad()
    return loss, norm.item()


def add_gradients(
    loss_of: Callable[[Tensor, Tensor, Tensor], Tensor], batch: Batch, rows: int, device: str, scale: float = 1.0
) -> float:
    """Add to the gradients those of `scale` times the batch's mean loss; returns that mean, in nats a token.

    `rows` go through the model at once. The weights are divided by their sum over the whole batch, so any split
    into micro-batches gives one loss.
    """
    total_weight = batch.weights_bt.sum()
    loss = 0.0
    for i in range(0, len(batch.inputs_bt), rows):
        parts = (batch.inputs_bt[i : i + rows], batch.targets_bt[i : i + rows], batch.weights_bt[i : i + rows])
        inputs, targets, weights = (part.to(device) for part in parts)
        micro_loss = loss_of(inputs, targets, weights / total_weight)
        (scale * micro_loss).backward()
        loss += micro_loss.item()
    return loss


def weighted_loss(
    model: Transformer, inputs_bt: Tensor, targets_bt: Tensor, weights_bt: Tensor, *, bf16: bool = False
) -> Tensor:
    """Sum over all tokens of weight · cross-entropy, in nats."""
    with torch.autocast(inputs_bt.device.type, dtype=torch.bfloat16, enabled=bf16):
        logits_btv = model(inputs_bt)
    losses = F.cross_entropy(logits_btv.float().flatten(0, 1), targets_bt.flatten(), reduction="none")
    return (losses * weights_bt.flatten()).sum()


def _loss_function(
    model: Transformer, steps: int, settings: TrainSettings, device: str
) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    bf16 = uses_bf16(settings, device)

    def loss_of(inputs_bt: Tensor, targets_bt: Tensor, weights_bt: Tensor) -> Tensor:
        return weighted_loss(model, inputs_bt, targets_bt, weights_bt, bf16=bf16)

    if not _compiles(model, steps, settings, device):
        return loss_of
    compiled: Callable[[Tensor, Tensor, Tensor], Tensor] = torch.compile(loss_of, dynamic=False)
    return compiled


def _compiles(model: Transformer, steps: int, settings: TrainSettings, device: str) -> bool:
    if settings.compile != "auto":
        return settings.compile == "on"
    flop = steps * settings.batch_tokens * model.flops_per_token(settings.seq_len)
    has_compiler = device != "cpu" or any(map(shutil.which, ("c++", "g++", "clang++")))
    return flop >= COMPILE_FROM_FLOP and has_compiler


def save_state(model: Transformer, optimiser: MuonAdamW, folder: Path, done: int) -> None:
    """Write all that the steps after `done` depend on."""
    state = {f"model.{name}": p for name, p in model.named_parameters()}
    save_checkpoint(folder, done, state | optimiser.state)


def resume(model: Transformer, optimiser: MuonAdamW, folder: Path) -> int:
    """Load the newest checkpoint, if any; returns the steps done."""
    found = load_checkpoint(folder)
    if found is None:
        return 0
    done, tensors = found
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(tensors[f"model.{name}"])
    optimiser.load_state(tensors)
    return done
