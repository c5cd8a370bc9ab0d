"""`metrics.jsonl`: what is watched while a model trains, a line a step."""

import contextlib
import json
import math
import resource
import statistics
import sys
from pathlib import Path
from typing import Any, Protocol

import torch

from crawl2chat.stages.figures import Figure
from crawl2chat.stages.files import AnyPath, atomic_write


class Tracker(Protocol):
    def log(self, line: dict[str, Any]) -> None: ...


class Metrics:
    """`metrics.jsonl`: a line a step (and an evaluation), appended as they come; a tracker may be shown them too.

    JSON has no word for what is no number: such a value is left out, and the step's `skipped` names it.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.latest: dict[str, Any] = {}
        self.tracker: Tracker | None = None

    def write(self, **values: Any) -> None:
        line = {
            k: v for k, v in values.items() if v is not None and not (isinstance(v, float) and not math.isfinite(v))
        }
        self.latest |= line
        with open(self.file, "a", encoding="utf-8") as handle:
            handle.write(json.dumps(line) + "\n")
        if self.tracker:
            self.tracker.log(line)

    def until(self, step: int) -> list[dict[str, Any]]:
        """The lines of the steps that a resumed run has behind it; says so when they have been lost."""
        lines = [line for line in read_metrics(self.file) if line["step"] <= step]
        if step and not any(line["step"] == step for line in lines):
            print(
                f"{self.file}: lacks step {step}, of the checkpoint; spikes are judged anew from here", file=sys.stderr
            )
        return lines

    def truncate_after(self, step: int) -> list[dict[str, Any]]:
        """Drop the lines of steps that a resumed run will do again, which are returned, and one cut short by a kill."""
        lines = read_metrics(self.file)
        with atomic_write(self.file) as temporary, open(temporary, "w", encoding="utf-8") as handle:
            handle.writelines(json.dumps(line) + "\n" for line in lines if line["step"] <= step)
        return [line for line in lines if line["step"] > step]

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


def throughput(tokens: int, seconds: float, flops_per_token: float, device: str) -> dict[str, float]:
    """How fast a step of so many tokens was, in tokens/s and model FLOP/s, and the memory it took so far, in MB."""
    speed = tokens / seconds
    return {
        "seconds": round(seconds, 4),
        "tokens_per_second": round(speed),
        "gflops_per_second": round(speed * flops_per_token / 1e9, 2),
        "memory_mb": round(peak_memory(device) / 1e6),
    }


def peak_memory(device: str) -> int:
    """Bytes: the most that tensors took on a GPU, or the most that the process took of the main memory."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # Linux counts in KiB


def read_metrics(file: AnyPath) -> list[dict[str, Any]]:
    """The lines of a `metrics.jsonl`; none if there is no such file."""
    file = Path(file)
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
