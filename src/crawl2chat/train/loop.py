"""The one training loop: whatever is learned, it is stepped, guarded, watched, saved and resumed here."""

import contextlib
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from torch import Tensor, nn

from crawl2chat.model import Transformer
from crawl2chat.model.adapters import AdaptedTransformer
from crawl2chat.parallel import torchrun
from crawl2chat.stages.files import StageError
from crawl2chat.stages.interrupts import Stop
from crawl2chat.stages.progress import Progress
from crawl2chat.stages.stage import METRICS
from crawl2chat.train.checkpoint import Checkpoints
from crawl2chat.train.devices import choose_device, compiles, deterministic, uses_bf16
from crawl2chat.train.distributed import SINGLE_PROCESS, ParallelModel, Ranks, process_group
from crawl2chat.train.fp8 import check_fp8, swap_linears
from crawl2chat.train.guard import Guard
from crawl2chat.train.memory import MicroBatch, explain_out_of_memory
from crawl2chat.train.metrics import Metrics, throughput, tracked
from crawl2chat.train.optim import MuonAdamW, lr_scale, muon_momentum
from crawl2chat.train.settings import TrainerSettings


class Objective(ABC):
    """What a model learns: the one thing in which trainings differ.

    A batch and its next tokens (`next_token`), rollouts and their rewards (`rl.grpo`), rankings
    (`rl.preferences.reward_model`).
    """

    model: nn.Module  # whose parameters are trained, in place
    whole_model: bool = False  # whether each rank must hold all of it, as to draw answers
    step_tokens: int = 0  # of the last step, for its speed
    steps_per_round: int = 1  # that go by the same answers, which no checkpoint holds: it is written between rounds
    seq_len: int | None = None  # tokens of each row, where all have equally many
    flops_per_token: float | None = None  # forward and backward, where it is known

    @abstractmethod
    def accumulate_gradients(self, step: int, learner: "Learner") -> dict[str, Any]:
        """Add a step's gradients to those of the learner's model; all ranks make this call with the same step.

        step counts from 0, and all that is drawn depends on it alone: a resumed run then ends with the same weights.
        Returns what the metrics are to say of the step, over all ranks. A `loss` among it is judged by the guard.
        `skipped`: why there are no gradients, if there are none.
        """

    def running(self, steps: int) -> contextlib.AbstractContextManager[object]:
        """The context in which a run of `steps` steps is made, such as one that prepares batches ahead."""
        return contextlib.nullcontext()

    def micro_batch(self, settings: TrainerSettings, device: str, label: str, ranks: Ranks) -> MicroBatch:
        """How much goes through the model at once, to begin with."""
        return MicroBatch(settings, device, label, alone=ranks.size == 1)


class Learner:
    """A model on this rank's device with its optimiser: what an objective adds gradients to."""

    def __init__(
        self, objective: Objective, steps: int, settings: TrainerSettings, label: str, ranks: Ranks = SINGLE_PROCESS,
        adapter_lr: float = 0.0,
    ) -> None:  # fmt: skip
        self.ranks, self.device = ranks, choose_device(settings)
        bf16 = uses_bf16(settings, self.device)
        networks = [module for module in objective.model.modules() if isinstance(module, Transformer)]
        for network in networks:
            network.recomputes_blocks = settings.gradient_checkpointing == "on"
        if settings.precision == "fp8":
            if any(isinstance(network, AdaptedTransformer) for network in networks):
                raise StageError(f"{label}: precision = fp8 is for training all weights, without lora.rank; use bf16")
            check_fp8(objective.model, objective.seq_len, self.device)
            swap_linears(objective.model)
        parallel = "ddp" if objective.whole_model and settings.parallel == "auto" else settings.parallel
        self.model = ParallelModel(
            objective.model, ranks, parallel, device=self.device, bf16=bf16,
            compiled=compiles(settings, self.device, steps * objective.step_tokens * (objective.flops_per_token or 0)),
            one_shape=objective.seq_len is not None,
        )  # fmt: skip
        self.optimiser = MuonAdamW(
            self.model.named_parameters(), settings.matrix_lr, settings.embedding_lr, settings.weight_decay,
            ranks, beta1=settings.embedding_momentum, bf16=bf16, adapter_lr=adapter_lr,
        )  # fmt: skip
        self.micro_batch = objective.micro_batch(settings, self.device, label, ranks)
        if settings.gradient_checkpointing == "auto":
            self.micro_batch.networks = networks


def train(
    objective: Objective,
    steps: int,
    settings: TrainerSettings,
    out: Path,
    *,
    label: str,
    evaluate: Callable[[int], dict[str, float]] | None = None,
    rates: str | None = None,
    adapter_lr: float = 0.0,
    ranks: Ranks | None = None,
) -> None:
    """Train `objective.model` in place for `steps` steps of the optimiser, from the newest checkpoint in `out`, if any.

    evaluate: called with the number of steps done, every `settings.evaluate_every` steps and at the end.
    label: of the progress line and in errors. rates: what the learning rates' settings begin with, by default
    `label.`, for an error's advice. adapter_lr: learning rate of an adapter, where the model has one; nothing else of
    it is then trained or saved in checkpoints, but for a reward model's head.

    Writes `out/metrics.jsonl` and checkpoints. After a kill the run goes on with the same steps and ends with the same
    weights. Asked to stop by a signal, it writes a checkpoint and raises KeyboardInterrupt, in the last step too; an
    evaluation that was due then is made up for when the run goes on. Steps that `Guard` judges harmful are skipped.
    ranks: those that all make this call with the same arguments. By default only the first rank makes it, and what the
    others need to train along is sent to them (`join_training`). The first one's `objective.model` is trained, and it
    alone calls `evaluate` and writes metrics.
    Raises StageError when loss or gradients are NaN or infinite several times in a row, when memory runs out, or when
    another rank is gone.
    """
    if ranks is None:
        device = choose_device(settings)
        torchrun.call_others({"training": device})
        with process_group(device) as ranks, _explain_lost_rank(label):
            ranks.from_first((objective, steps, settings, out.resolve(), label, rates, adapter_lr))
            train(
                objective, steps, settings, out, label=label, evaluate=evaluate, rates=rates, adapter_lr=adapter_lr,
                ranks=ranks,
            )  # fmt: skip
        return
    learner = Learner(objective, steps, settings, label, ranks, adapter_lr)
    optimiser, guard = learner.optimiser, Guard(label, settings, rates)
    metrics = Metrics(out / METRICS)
    checkpoints = Checkpoints(out / "checkpoints", settings.keep_checkpoints, ranks)
    state = training_state(learner.model.module, optimiser)
    decisive = settings.model_dump(mode="json", exclude=set(settings.RUNTIME_ONLY)) | {"steps": steps}
    first, unevaluated = resume(checkpoints, state, decisive)
    guard.replay_metrics(metrics.until(first))
    ranks.meet()  # before the first one rewrites what all have just read
    redone = metrics.truncate_after(first) if ranks.first else []

    def measure(done: int) -> None:
        if evaluate:
            with learner.model.whole(), ranks.first_alone():
                if ranks.first:
                    metrics.write(step=done, **evaluate(done))

    with (
        deterministic(learner.device),
        _explain_lost_rank(label),
        explain_out_of_memory(label, learner.micro_batch.advice),
        objective.running(steps),
        checkpoints,
        Progress(label, steps, "step", quiet=not ranks.first) as progress,
        tracked(metrics, settings.track if ranks.first else "none", label, settings, redone),
        Stop() as stop,
    ):
        if unevaluated:
            measure(first)
        for step in range(first, steps):
            started, done = time.monotonic(), step + 1
            scale = lr_scale(step, steps, settings.warmup, settings.decay)
            line = objective.accumulate_gradients(step, learner)
            if "skipped" not in line:
                line["grad_norm"] = learner.model.clip_gradients(settings.clip_norm)
                line["skipped"] = guard.judge(done, line["grad_norm"], line.get("loss"))
            if line["skipped"]:
                progress.say(f"{label}: step {done} is skipped: {line['skipped']}")
            elif line["grad_norm"] > 0:  # without any signal, Muon would go on by its momentum, at full length
                optimiser.step(step, scale, muon_momentum(step, steps, settings.momentum_warmup))
            optimiser.zero_grad()

            in_round, every = done % objective.steps_per_round, settings.checkpoint_every
            due = checkpoints.due() if every is None else done // every > (done - objective.steps_per_round) // every
            flags = ranks.gather([stop.asked, due])
            stopping = bool(flags[:, 0].any()) and done < steps and not in_round
            save = bool(flags[0, 1]) and not in_round
            evaluating = done % settings.evaluate_every == 0 or done == steps
            if ranks.first:
                line["lr_scale"] = round(scale, 5)
                seconds = time.monotonic() - started
                line |= throughput(objective.step_tokens, seconds, learner.device, objective.flops_per_token)
                metrics.write(step=done, **line)
            if evaluating and not stopping:
                measure(done)
            if save or stopping or done == steps:
                checkpoints.save(done, state, decisive | {"unevaluated": evaluating and stopping})
            if ranks.first:
                progress.update(done, metrics.summary())
            if stopping:
                checkpoints.wait()
                raise stop.interruption()
        with learner.model.whole():
            pass  # brings the model that was given up to date where each rank trained a part of a copy
    objective.model.eval()


def join_training(device: str) -> None:
    """Train along with the first rank, which has called `train`: on the other ranks, for its message `training`."""
    with process_group(device) as ranks, _explain_lost_rank("training"):
        objective, steps, settings, out, label, rates, adapter_lr = ranks.from_first(cast(tuple[Any, ...], ()))
        train(objective, steps, settings, out, label=label, rates=rates, adapter_lr=adapter_lr, ranks=ranks)


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


def training_state(model: nn.Module, optimiser: MuonAdamW) -> dict[str, Tensor]:
    """All tensors that the next steps depend on; they stay the same ones while they change."""
    trained = {f"model.{name}": p for name, p in model.named_parameters() if p.requires_grad}
    return trained | optimiser.state


def resume(checkpoints: Checkpoints, state: dict[str, Tensor], decisive: Mapping[str, Any]) -> tuple[int, bool]:
    """Load the newest checkpoint, if any; returns the steps done, and whether their evaluation is still due.

    decisive: the settings that decide what comes out, as they are saved along. Raises StageError where they differ.
    """
    found = checkpoints.load(state)
    if not found:
        return 0, False
    step, saved = found
    others = [f"{name} = {saved[name]}" for name in decisive if name in saved and saved[name] != decisive[name]]
    if others:
        raise StageError(
            f"{checkpoints.folder}: its checkpoints are of a run with {', '.join(others)}; "
            "give the same settings, or remove the folder to begin again"
        )
    return step, bool(saved.get("unevaluated"))
