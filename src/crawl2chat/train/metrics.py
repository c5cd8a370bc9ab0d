"""`metrics.jsonl`: what is watched while a model trains, one line per step; and the same in trackio or wandb."""

import contextlib
import importlib
import json
import math
import resource
import statistics
import sys
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch

from crawl2chat.stages.figures import Figure
from crawl2chat.stages.files import AnyPath, StageError, read_json, write_json, write_jsonl
from crawl2chat.stages.settings import Settings
from crawl2chat.stages.stage import TRACKED
from crawl2chat.train.settings import Track

PROJECT = "crawl2chat"  # of the tracker


class Tracker(Protocol):
    def log(self, line: dict[str, Any]) -> None: ...


class Metrics:
    """`metrics.jsonl`: one line per step (and per evaluation), appended as they come; a tracker gets them too.

    JSON has no NaN or infinity: such a value is left out, and the step's `skipped` names it.
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
        """The lines of the steps that a resumed run has behind it; reports it if they have been lost."""
        lines = [line for line in read_metrics(self.file) if line["step"] <= step]
        if step and not any(line["step"] == step for line in lines):
            print(
                f"{self.file}: lacks step {step}, of the checkpoint; spikes are judged afresh from here",
                file=sys.stderr,
            )
        return lines

    def truncate_after(self, step: int) -> list[dict[str, Any]]:
        """Drop the lines of steps that a resumed run will do again, which are returned, and one cut short by a kill."""
        lines = read_metrics(self.file)
        write_jsonl(self.file, (line for line in lines if line["step"] <= step))
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


def throughput(tokens: int, seconds: float, device: str, flops_per_token: float | None) -> dict[str, float | None]:
    """How fast a step of this many tokens was, in tokens/s and model FLOP/s, and the memory it took so far, in MB."""
    speed = tokens / seconds
    return {
        "seconds": round(seconds, 4),
        "tokens_per_second": round(speed),
        "gflops_per_second": None if flops_per_token is None else round(speed * flops_per_token / 1e9, 2),
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


@contextlib.contextmanager
def tracked(
    metrics: Metrics, track: Track, label: str, settings: Settings, again: Sequence[dict[str, Any]]
) -> Iterator[None]:
    """Send `metrics` to a tracker as well while the block runs; with "none", to none.

    again: lines that a resumed run has dropped and will write once more. It goes on in the tracked run that it began,
    whose name is kept next to the metrics. Raises StageError when the tracker isn't installed or can't begin;
    one that fails later is given up with a word.
    """
    if track == "none":
        yield
        return
    tracker = _Tracker(track, metrics.file, label, settings, again)
    metrics.tracker = tracker
    try:
        yield
    finally:
        metrics.tracker = None
        tracker.finish()


class _Tracker:
    def __init__(
        self, track: str, metrics: Path, label: str, settings: Settings, again: Sequence[dict[str, Any]]
    ) -> None:
        self.track, self.label, self.failed = track, label, False
        file = metrics.with_name(TRACKED)
        names: dict[str, str] = read_json(file) if file.exists() else {}
        begun = track in names
        name = names.setdefault(track, f"{metrics.parent.resolve().parent.name}-{label}-{uuid.uuid4().hex[:6]}")
        self.shown = {_key(line) for line in again} if begun else set()
        self.run = self._begin(name, settings)
        if not begun:
            write_json(file, names)
            for line in read_metrics(metrics):  # of a run that went on without a tracker till now
                self.log(line)

    def _begin(self, name: str, settings: Settings) -> Any:
        instead = f"or {self.label}.track = none"
        try:
            module = importlib.import_module(self.track)
        except ImportError as error:
            raise StageError(
                f"{self.label}.track = {self.track}: it can't be imported ({error}); pip install "
                f"'crawl2chat[{self.track}]', {instead}"
            ) from error
        # wandb finds a run again by its id, trackio by its name
        found_by = {"id": name} if self.track == "wandb" else {}
        try:
            with contextlib.redirect_stdout(sys.stderr):  # stdout is for figures
                return module.init(
                    project=PROJECT, name=name, resume="allow", config=settings.model_dump(mode="json"), **found_by
                )
        except Exception as error:  # whatever its network, login or files may raise
            raise StageError(f"{self.label}.track = {self.track}: it can't begin a run ({error}); {instead}") from error

    def log(self, line: dict[str, Any]) -> None:
        if not self.failed and _key(line) not in self.shown:
            with self._giving_up():
                self.run.log({name: value for name, value in line.items() if name != "step"}, step=line["step"])

    def finish(self) -> None:
        with self._giving_up(), contextlib.redirect_stdout(sys.stderr):
            self.run.finish()

    @contextlib.contextmanager
    def _giving_up(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # a tracker must not end what it watches
            if not self.failed:
                print(
                    f"{self.label}: {self.track} fails ({error}) and is given up; {self.label} and its metrics.jsonl "
                    "go on",
                    file=sys.stderr,
                )
            self.failed = True


def _key(line: dict[str, Any]) -> tuple[Any, ...]:
    """A step has a line of its own and perhaps one of an evaluation, which hold different fields."""
    return (line["step"], *line)
