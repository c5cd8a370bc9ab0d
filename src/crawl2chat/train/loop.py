"""The training loop, for pretraining and fine-tuning alike."""

import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from crawl2chat.model import Transformer
from crawl2chat.model.checkpoint import load_checkpoint, save_checkpoint
from crawl2chat.progress import Progress
from crawl2chat.run import METRICS, StageError
from crawl2chat.train.data import Batches
from crawl2chat.train.devices import choose_device, compiles, deterministic, uses_bf16
from crawl2chat.train.loss import add_gradients, weighted_loss
from crawl2chat.train.metrics import Metrics
from crawl2chat.train.optim import MuonAdamW
from crawl2chat.train.schedule import lr_scale
from crawl2chat.train.settings import TrainSettings


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


def _loss_function(
    model: Transformer, steps: int, settings: TrainSettings, device: str
) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    bf16 = uses_bf16(settings, device)

    def loss_of(inputs_bt: Tensor, targets_bt: Tensor, weights_bt: Tensor) -> Tensor:
        return weighted_loss(model, inputs_bt, targets_bt, weights_bt, bf16=bf16)

    if not compiles(model, steps, settings, device):
        return loss_of
    compiled: Callable[[Tensor, Tensor, Tensor], Tensor] = torch.compile(loss_of, dynamic=False)
    return compiled


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
