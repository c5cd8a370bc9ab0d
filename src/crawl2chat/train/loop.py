"""The training loop, for pretraining and fine-tuning alike."""

import contextlib
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from crawl2chat.model import Transformer
from crawl2chat.progress import Progress
from crawl2chat.run import METRICS, StageError
from crawl2chat.train.checkpoint import Checkpoints
from crawl2chat.train.data import Batches
from crawl2chat.train.devices import choose_device, compiles, deterministic, uses_bf16
from crawl2chat.train.distributed import ALONE, Ranks, Trained, choose_parallel
from crawl2chat.train.loss import add_gradients, rows_of_rank, weighted_loss
from crawl2chat.train.metrics import Metrics
from crawl2chat.train.optim import MuonAdamW
from crawl2chat.train.schedule import lr_scale
from crawl2chat.train.settings import TrainSettings
from crawl2chat.train.stopping import Stop


def train(
    model: Transformer,
    batches: Batches,
    steps: int,
    settings: TrainSettings,
    out: Path,
    *,
    label: str,
    evaluate: Callable[[int], dict[str, float]] | None = None,
    ranks: Ranks = ALONE,
) -> None:
    """Train `model` in place for `steps` optimiser steps, from the newest checkpoint in `out` if there is one.

    Writes `out/metrics.jsonl` and checkpoints. After a kill the run goes on with the same batches and ends with
    the same weights; asked to stop by a signal, it writes a checkpoint and raises KeyboardInterrupt.
    On several ranks all make this call with the same arguments; the first one's `model` is then trained, and it
    alone calls `evaluate` and writes metrics.
    Raises StageError when the loss is no number, when memory runs out, or when another rank is gone.
    """
    device = choose_device(settings)
    bf16 = uses_bf16(settings, device)
    compiled = compiles(model, steps, settings, device)
    if compiled:
        torch.compiler.reset()  # what earlier stages compiled, for other shapes
    trained = Trained(
        model, partial(weighted_loss, bf16=bf16, compiled=compiled), ranks,
        choose_parallel(settings.parallel, model, ranks, device), device=device, bf16=bf16,
    )  # fmt: skip
    optimiser = MuonAdamW(
        trained.model.named_parameters(), settings.matrix_lr, settings.embedding_lr, settings.weight_decay, ranks
    )
    metrics = Metrics(out / METRICS)
    with (
        deterministic(device),
        _explained(label, settings),
        Checkpoints(out / "checkpoints", settings.keep_checkpoints, ranks) as checkpoints,
        Progress(label, steps, "step", quiet=not ranks.first) as progress,
        Stop() as stop,
    ):
        state = training_state(trained.model, optimiser)
        first = resume(checkpoints, state)
        if ranks.first:
            metrics.forget_after(first)
        for step in range(first, steps):
            started = time.monotonic()
            loss, norm = _step(trained, optimiser, batches, step, steps, settings, ranks, device)
            if not abs(loss) < float("inf"):
                raise StageError(f"{label}: the loss at step {step} is {loss}; lower {label}.matrix_lr or embedding_lr")
            done = step + 1
            due = checkpoints.due() if settings.checkpoint_every is None else done % settings.checkpoint_every == 0
            flags = ranks.gather([stop.asked, due])
            stopping, save = bool(flags[:, 0].any()), bool(flags[0, 1])
            if ranks.first:
                speed = settings.batch_tokens / (time.monotonic() - started)
                metrics.write(step=done, loss=loss, grad_norm=norm, tokens_per_second=round(speed))
            if evaluate and (done % settings.evaluate_every == 0 or done == steps) and not stopping:
                with trained.whole(), ranks.first_alone():
                    if ranks.first:
                        metrics.write(step=done, **evaluate(done))
            if save or stopping or done == steps:
                checkpoints.save(done, state, {"seed": settings.seed})
            if ranks.first:
                progress.update(done, metrics.summary())
            if stopping and done < steps:
                checkpoints.wait()
                raise KeyboardInterrupt
        with trained.whole():
            pass
    model.eval()


def _step(
    trained: Trained,
    optimiser: MuonAdamW,
    batches: Batches,
    step: int,
    steps: int,
    settings: TrainSettings,
    ranks: Ranks,
    device: str,
) -> tuple[float, float]:
    """One optimiser step; returns the batch's mean loss (nats a token) and the gradients' norm, over all ranks."""
    batch = rows_of_rank(batches(step), ranks)
    weight = ranks.gather([batch.weights_bt.sum().item()]).sum().item()
    loss = add_gradients(
        trained.loss, batch, settings.micro_batch_rows(len(batch.inputs_bt)), device,
        scale=ranks.size,  # as they are averaged over the ranks
        total_weight=weight, micro_batch=trained.micro_batch,
    )  # fmt: skip
    norm = trained.clip_gradients(settings.clip_norm)
    optimiser.step(step, lr_scale(step, steps, settings.warmup, settings.decay))
    optimiser.zero_grad()
    return ranks.gather([loss]).sum().item(), norm


@contextlib.contextmanager
def _explained(label: str, settings: TrainSettings) -> Iterator[None]:
    """Say of errors that come from the machine what to do."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise StageError(
            f"{label}: out of memory; lower {label}.micro_batch_tokens (now {settings.micro_batch_tokens})"
        ) from error
    except RuntimeError as error:
        if not any(library in str(error) for library in ("gloo", "NCCL", "Connection closed")):
            raise
        raise StageError(
            f"{label}: lost another process of this run ({str(error).splitlines()[0]}); "
            "the same command goes on from the last checkpoint"
        ) from error


def training_state(model: Transformer, optimiser: MuonAdamW) -> dict[str, Tensor]:
    """All tensors that the next steps depend on; they stay the same ones while they change."""
    return {f"model.{name}": p for name, p in model.named_parameters()} | optimiser.state


def resume(checkpoints: Checkpoints, state: dict[str, Tensor]) -> int:
    """Load the newest checkpoint, if any; returns the steps done."""
    found = checkpoints.load(state)
    return found[0] if found else 0
