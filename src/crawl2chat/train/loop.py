"""The training loop, for pretraining and fine-tuning alike."""

import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from crawl2chat.model import Transformer
from crawl2chat.model.checkpoint import load_checkpoint, save_checkpoint
from crawl2chat.progress import Progress
from crawl2chat.run import METRICS
from crawl2chat.train.data import Batch, Batches
from crawl2chat.train.devices import choose_device, compiles, deterministic, uses_bf16
from crawl2chat.train.guard import Guard
from crawl2chat.train.loss import add_gradients, weighted_loss
from crawl2chat.train.metrics import Metrics, read_metrics, throughput
from crawl2chat.train.micro_batch import MicroBatch, out_of_memory_says
from crawl2chat.train.optim import MuonAdamW
from crawl2chat.train.schedule import lr_scale
from crawl2chat.train.settings import TrainSettings
from crawl2chat.train.tracking import tracked


def train(
    model: Transformer,
    batches: Batches,
    steps: int,
    settings: TrainSettings,
    out: Path,
    *,
    label: str,
    evaluate: Callable[[int], dict[str, float]] | None = None,
    tokens_per_epoch: int | None = None,
) -> None:
    """Train `model` in place for `steps` optimiser steps, from the newest checkpoint in `out` if there is one.

    Writes `out/metrics.jsonl` and checkpoints. After a kill the run goes on with the same batches and ends with
    the same weights. Steps that `Guard` judges harmful are skipped. Raises StageError when the loss is no number
    several times in a row, or when memory runs out.
    """
    device = choose_device(settings)
    model.to(device).train()
    optimiser = MuonAdamW(model.named_parameters(), settings.matrix_lr, settings.embedding_lr, settings.weight_decay)
    metrics = Metrics(out / METRICS)
    first = resume(model, optimiser, out / "checkpoints")
    again = metrics.forget_after(first)
    guard = Guard(
        label, spike=settings.skip_spikes, stop_after=settings.stop_after_skipped, lines=read_metrics(metrics.file)
    )
    micro_batch = MicroBatch(settings, device, label)
    loss_of = _loss_function(model, steps, settings, device)
    flops_per_token = model.flops_per_token(settings.seq_len)
    with (
        deterministic(device),
        Progress(label, steps, "step") as progress,
        tracked(metrics, settings.track, label, settings, again),
    ):
        for step in range(first, steps):
            started = time.monotonic()
            scale = lr_scale(step, steps, settings.warmup, settings.decay)
            with out_of_memory_says(label, micro_batch.advice):
                loss, norm = _gradients(model, optimiser, batches(step), settings, loss_of, micro_batch, device)
                skipped = guard.judge(step + 1, loss=loss, grad_norm=norm)
                if not skipped:
                    optimiser.step(step, scale)
                optimiser.zero_grad()
            if skipped:
                progress.say(f"{label}: step {step + 1} is skipped: {skipped}")
            done = step + 1
            n_tokens = done * settings.batch_tokens
            metrics.write(
                step=done,
                loss=loss,
                grad_norm=norm,
                lr_scale=round(scale, 5),
                skipped=skipped,
                tokens=n_tokens,
                epoch=round(n_tokens / tokens_per_epoch, 4) if tokens_per_epoch else None,
                **throughput(settings.batch_tokens, time.monotonic() - started, flops_per_token, device),
            )
            if evaluate and (done % settings.evaluate_every == 0 or done == steps):
                model.eval()
                metrics.write(step=done, **evaluate(done))
                model.train()
            if done % settings.checkpoint_every == 0 or done == steps:
                save_state(model, optimiser, out / "checkpoints", done)
            progress.update(done, metrics.summary())
    model.eval()


def _gradients(
    model: Transformer,
    optimiser: MuonAdamW,
    batch: Batch,
    settings: TrainSettings,
    loss_of: Callable[..., Tensor],
    micro_batch: MicroBatch,
    device: str,
) -> tuple[float, float]:
    """A step's clipped gradients; returns the batch's mean loss (nats a token) and their norm before clipping."""
    loss = micro_batch.fitting(
        len(batch.inputs_bt), lambda rows: add_gradients(loss_of, batch, rows, device), optimiser.zero_grad
    )
    return loss, torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm).item()


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
