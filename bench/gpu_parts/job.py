"""What a part is given (Job) and what it shows (Row)."""

import gc
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from crawl2chat.stages.figures import Figure


@dataclass(frozen=True)
class Sizes:
    """Sizes of models, batches and texts."""

    depths: tuple[int, ...] = (12, 20)  # whose training is timed
    precisions: tuple[str, ...] = ("bf16", "fp8")
    seq_len: int = 2048
    batch_tokens: int = 65_536
    vocab: int = 32_768
    timed_steps: int = 10
    compile: str = "on"

    learning_depth: int = 8  # of the model that learns from text
    learning_seq_len: int = 1024
    learning_batch: int = 32_768
    learning_vocab: int = 8192
    epochs: float = 20  # at most; beyond it a model learns a text by heart
    evaluated: int = 200_000  # tokens of the held-out part

    decoding_depth: int = 12
    batches: tuple[int, ...] = (1, 128, 16, 512)
    prompt: int = 64  # tokens
    new_tokens: int = 128

    policy_depth: int = 12
    prompts: int = 16  # of a step
    answers: int = 8  # to each
    policy_steps: int = 20


TINY = Sizes(
    depths=(1, 3), precisions=("fp32", "fp8"), seq_len=32, batch_tokens=128, vocab=512, timed_steps=2, compile="off",
    learning_depth=3, learning_seq_len=32, learning_batch=256, learning_vocab=512, epochs=0.05, evaluated=8000,
    decoding_depth=3, batches=(1, 6), prompt=5, new_tokens=4,
    policy_depth=3, prompts=2, answers=2, policy_steps=2,
)  # fmt: skip


@dataclass(frozen=True)
class Job:
    """What a part is to do, where, and until when."""

    device: str
    sizes: Sizes
    folder: Path  # to write to
    text: Path | None
    until: float  # of the clock `time.monotonic`, which all processes share

    def left(self) -> float:
        """Seconds."""
        return self.until - time.monotonic()


@dataclass
class Row:
    """A line of the table: figures, or why there are none."""

    what: str
    figures: list[Figure] = field(default_factory=list)
    note: str = ""
    error: str = ""


Show = Callable[[Row], None]  # which a part calls as soon as it has a row


def attempt(job: Job, what: str, measure: Callable[[], list[Figure]]) -> Row:
    """Measure, unless the time is up; an error is part of the result, and the next thing is measured."""
    if job.left() <= 0:
        return Row(what, note="not measured: the time was up")
    try:
        return Row(what, measure())
    except Exception as error:
        traceback.print_exc()
        return Row(what, error=f"{type(error).__name__}: {error}")
    finally:
        free_memory(job.device)


def free_memory(device: str) -> None:
    """Let go of what earlier measurements held, so that the peak is that of the next one."""
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
