"""The training loop, for pretraining and fine-tuning alike."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from crawl2chat.model import Transformer
from crawl2chat.stages.files import StageError
from crawl2chat.stages.interrupts import Stop
from crawl2chat.stages.progress import Progress
from crawl2chat.stages.stage import METRICS
from crawl2chat.train.checkpoint import Checkpoints
from crawl2chat.train.data import Batch, Batches, prefetched
from crawl2chat.train.devices import check_fp8, choose_device, compiles, deterministic, uses_bf16
from crawl2chat.train.distributed import SINGLE_PROCESS, ParallelModel, Ranks, choose_parallel
from crawl2chat.train.fp8 import fp8_linear
from crawl2chat.train.guard import NOTHING_COUNTS, Guard
from crawl2chat.train.loss import add_gradients, rows_of_rank, weighted_loss
from crawl2chat.train.metrics import Metrics, throughput
from crawl2chat.train.micro_batch import MicroBatch, explain_out_of_memory
from crawl2chat.train.optim import MuonAdamW
from crawl2chat.train.schedule import lr_scale, muon_momentum
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
    ranks: Ranks = SINGLE_PROCESS,
) -> None:
    """Train `model` in place for `steps` optimiser steps, from the newest checkpoint in `out` if there is one.

    Writes `out/metrics.jsonl` and checkpoints. After a kill the run goes on with the same batches and ends with
    the same weights; asked to stop by a signal, it writes a checkpoint and raises KeyboardInterrupt. Steps that
    `Guard` judges harmful are skipped.
    On several ranks all make this call with the same arguments; the first one's `model` is then trained, and it
    alone calls `evaluate` and writes metrics.
    Raises StageError when the loss is no number several times in a row, when memory runs out, or when another rank
    is gone.
    """
    flops_per_token = model.flops_per_token(settings.seq_len)
    learner = Learner(model, steps, settings, label, ranks)
    checkpoints = Checkpoints(out / "checkpoints", settings.keep_checkpoints, ranks)
    state = training_state(learner.trained.model, learner.optimiser)
    meant = settings.model_dump(mode="json", exclude=set(settings.RUNTIME_ONLY)) | {"steps": steps}
    first = resume(checkpoints, state, meant)
    metrics = Metrics(out / METRICS)
    learner.guard.replay_metrics(metrics.until(first))
    ranks.meet()  # before the first one rewrites what all have just read
    again = metrics.truncate_after(first) if ranks.first else []
    with (
        deterministic(learner.device),
        _explain_lost_rank(label),
        explain_out_of_memory(label, learner.micro_batch.advice),
        prefetched(batches, steps) as batches,
        checkpoints,
        Progress(label, steps, "step", quiet=not ranks.first) as progress,
        tracked(metrics, settings.track if ranks.first else "none", label, settings, again),
        Stop() as stop,
    ):
        for step in range(first, steps):
            started = time.monotonic()
            line = learner.step(step, batches(step))
            done = step + 1
            if line["skipped"]:
                progress.say(f"{label}: step {done} is skipped: {line['skipped']}")
            due = checkpoints.due() if settings.checkpoint_every is None else done % settings.checkpoint_every == 0
            flags = ranks.gather([stop.asked, due])
            stopping, save = bool(flags[:, 0].any()) and done < steps, bool(flags[0, 1])
            if ranks.first:
                n_tokens = done * settings.batch_tokens
                line |= {"tokens": n_tokens, "epoch": tokens_per_epoch and round(n_tokens / tokens_per_epoch, 4)}
                seconds = time.monotonic() - started
                line |= throughput(settings.batch_tokens, seconds, flops_per_token, learner.device)
                metrics.write(step=done, **line)
            if evaluate and (done % settings.evaluate_every == 0 or done == steps) and not stopping:
                with learner.trained.whole(), ranks.first_alone():
                    if ranks.first:
                        metrics.write(step=done, **evaluate(done))
            if save or stopping or done == steps:
                checkpoints.save(done, state, meant)
            if ranks.first:
                progress.update(done, metrics.summary())
            if stopping:
                checkpoints.wait()
                raise stop.interruption()
        with learner.trained.whole():
            pass
    model.eval()


class Learner:
    """A model, its optimiser and what guards them, on this rank: takes one step after the other."""

    def __init__(self, model: Transformer, steps: int, settings: TrainSettings, label: str, ranks: Ranks) -> None:
        """steps: of the whole run, over which the schedules reach. Moves the model to the device."""
        self.settings, self.steps, self.ranks = settings, steps, ranks
        self.device = choose_device(settings)
        bf16 = uses_bf16(settings, self.device)
        compiled = compiles(model, steps, settings, self.device)
        if compiled:
            torch.compiler.reset()  # what earlier stages compiled, for other shapes
        if settings.precision == "fp8":
            check_fp8(model, settings, self.device)
            model.train_with(fp8_linear)
        self.trained = ParallelModel(
            model, partial(weighted_loss, bf16=bf16, compiled=compiled), ranks,
            choose_parallel(settings.parallel, model, ranks, self.device), device=self.device, bf16=bf16,
        )  # fmt: skip
        self.optimiser = MuonAdamW(
            self.trained.model.named_parameters(), settings.matrix_lr, settings.embedding_lr, settings.weight_decay,
            ranks, beta1=settings.embedding_momentum, bf16=bf16,
        )  # fmt: skip
        self.micro_batch = MicroBatch(settings, self.device, label, alone=ranks.size == 1)
        self.guard = Guard(label, spike=settings.skip_spikes, stop_after=settings.stop_after_skipped)

    def step(self, step: int, batch: Batch) -> dict[str, Any]:
        """Learn from a batch, the same on all ranks; returns what is to be known of the step, over all of them.

        step counts from 0. The loss is in nats a token, the gradients' norm from before clipping; `skipped` says why
        the optimiser was not moved, if it was not.
        """
        scale = lr_scale(step, self.steps, self.settings.warmup, self.settings.decay)
        weight = batch.weights_bt.sum().item()
        if not weight:  # the data's fault, not the rates', and Muon would go on by its momentum at full length
            return {"lr_scale": round(scale, 5), "skipped": NOTHING_COUNTS}
        loss, norm = self._gradients(rows_of_rank(batch, self.ranks), weight)
        skipped = self.guard.judge(step + 1, loss=loss, grad_norm=norm)
        if not skipped:
            self.optimiser.step(step, scale, muon_momentum(step, self.steps, self.settings.momentum_warmup))
        self.optimiser.zero_grad()
        return {"loss": loss, "grad_norm": norm, "lr_scale": round(scale, 5), "skipped": skipped}

    def _gradients(self, batch: Batch, weight: float) -> tuple[float, float]:
        """The clipped gradients of this rank's rows; returns loss and norm over all ranks.

        weight: of all tokens of the step, whichever rank has them.
        """

        def attempt(rows: int) -> float:
            return add_gradients(
                self.trained.loss, batch, rows, self.device,
                scale=self.ranks.size,  # as they are averaged over the ranks
                total_weight=weight, micro_batch=self.trained.micro_batch,
            )  # fmt: skip

        loss = self.micro_batch.fitting(len(batch.inputs_bt), attempt, self.optimiser.zero_grad)
        return self.ranks.gather([loss]).sum().item(), self.trained.clip_gradients(self.settings.clip_norm)


@contextlib.contextmanager
def _explain_lost_rank(label: str) -> Iterator[None]:
    """Say of errors that come from another process's end what to do."""
    try:
        yield
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


def resume(checkpoints: Checkpoints, state: dict[str, Tensor], meant: Mapping[str, Any]) -> int:
    """Load the newest checkpoint, if any; returns the steps done.

    meant: the settings that decide what comes out, as they were saved along. Raises StageError where they differ.
    """
    found = checkpoints.load(state)
    if not found:
        return 0
    step, made_with = found
    others = [f"{name} = {made_with[name]}" for name in meant if name in made_with and made_with[name] != meant[name]]
    if others:
        raise StageError(
            f"{checkpoints.folder}: its checkpoints are of a run with {', '.join(others)}; "
            "give the same settings, or remove the folder to begin anew"
        )
    return step
