"""The page Training: the curves of this run's trainings and of the runs next to it, also while they are written."""

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, FiniteFloat
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from crawl2chat.serve.api.requests import Strict
from crawl2chat.serve.app.context import AppContext
from crawl2chat.serve.app.curves import Curve, Grid, Smoothing, grid, reduce, spread
from crawl2chat.serve.app.metrics_file import MetricsFile, Numbers
from crawl2chat.serve.errors import ApiError
from crawl2chat.serve.http import get, post, tensors
from crawl2chat.stages.stage import MANIFEST, METRICS, REPLACED, SAMPLES_DURING
from crawl2chat.train.metrics import read_metrics

READING = 0.4  # seconds that one request may read on; a long file takes several
MOST_NUMBERS = 100_000_000  # of all files together, some 500 MB; those used longest ago are read again when needed
MOST_RUNS = 500  # folders next to the run that are looked into
MOST_MARKS = 200  # skipped steps that are drawn
TOLD = 50  # skipped steps of which the reason is told
SHOWN = 4  # fields that are drawn unless others are asked for
FIRST = (
    "loss", "reward", "proxy", "bits_per_byte", "held_out_loss", "held_out_greedy", "held_out_gold", "win_rate",
    "answer_tokens", "entropy", "sqrt_kl", "grad_norm", "tokens_per_second",
)  # fmt: skip
TITLES = {
    "loss": "loss on the training text, nats per token",
    "held_out_loss": "loss on held-out text, nats per token",
    "bits_per_byte": "held-out text, bits per byte",
    "grad_norm": "length of the gradient",
    "lr_scale": "learning rate, as a share of its setting",
    "tokens": "tokens learned from",
    "epoch": "times through the data",
    "tokens_per_second": "speed, tokens per second",
    "sampled_per_second": "speed of drawing answers, tokens per second",
    "gflops_per_second": "speed, GFLOP per second",
    "seconds": "seconds per step",
    "memory_mb": "memory used at most so far, MB",
    "induction": "attention of the strongest copying head",
    "copied": "repeated tokens predicted right, share",
    "reward": "mean reward",
    "held_out_greedy": "held-out problems solved, share",
    "answer_tokens": "length of answers, tokens",
    "entropy": "how undecided the model is, nats per token",
    "zero_variance": "groups whose answers are all rewarded alike, share",
    "cut_short": "answers cut off at the greatest length, share",
    "calls": "calls of tools per answer",
    "logprob_gap": "difference between sampler and trainer, nats per token",
    "logprob_gap_max": "greatest difference between sampler and trainer, nats",
    "replay_loss": "loss on earlier conversations, nats per token",
    "kl": "divergence from the start, nats per answer",
    "sqrt_kl": "distance from the start, √KL",
    "proxy": "reward by the reward model",
    "held_out_proxy": "reward by the reward model, held-out prompts",
    "held_out_gold": "taste of the annotator, held-out prompts",
    "win_rate": "comparisons with the start that are won, share",
    "clipped": "tokens whose ratio is clipped, share",
}

Name = Annotated[str, Field(max_length=300)]


class CurvesRequest(Strict):
    trainings: Annotated[list[Name], Field(min_length=1, max_length=12)]
    fields: Annotated[list[Name], Field(max_length=24)] = Field([])  # none: the most telling ones
    x: Literal["step", "tokens", "seconds", "flop"] = "step"
    log_x: bool = False
    log_y: bool = False
    smooth: Annotated[int, Field(ge=1, le=1_000_000)] = 1  # over how many values
    begin: FiniteFloat | None = None  # of what is shown of x
    end: FiniteFloat | None = None
    columns: Annotated[int, Field(ge=10, le=2000)] = 600
    spread: bool = False
    known: Annotated[str, Field(max_length=2000)] | None = None  # the version that the page has


class CheckpointRequest(Strict):
    training: Name
    index: Annotated[int, Field(ge=-1, lt=1 << 31)] = -1  # of the evaluation; −1: the last one


@dataclass(frozen=True)
class Training:
    """A folder with a `metrics.jsonl`. id: its path in this run, or behind the name of another run and a colon."""

    id: str
    folder: Path
    run: str
    own: bool

    @property
    def place(self) -> str:
        """Its path in its run."""
        return self.id if self.own else self.id.partition(":")[2]

    @property
    def file(self) -> Path:
        return self.folder / METRICS

    def describe(self) -> dict[str, Any]:
        written = os.stat(self.file).st_mtime
        stage = self.folder if (self.folder / MANIFEST).exists() else self.folder.parent
        return {
            "id": self.id, "run": self.run, "own": self.own, "place": self.place, "title": _title(self.place),
            "age": max(0.0, round(time.time() - written, 1)), "finished": (stage / MANIFEST).exists(),
        }  # fmt: skip


def _title(place: str) -> str:
    stage, *rest = place.split("/")
    if stage == REPLACED:
        return f"earlier {' '.join(rest)}"
    names = {"control": "control: random rewards", "reward_model_run": "reward model"}
    return ", ".join([stage, *(names.get(name, name) for name in rest)])


class TrainingPage:
    """Files are read when a page asks, in a thread; what was read is kept, and the next request reads on from there."""

    def __init__(self, context: AppContext) -> None:
        self.context = context
        self._known: dict[str, Training] = {}
        self._files: OrderedDict[str, MetricsFile] = OrderedDict()
        self._smooth: dict[tuple[str, str, int, bool], tuple[str, Smoothing]] = {}
        self._lock = threading.Lock()

    @get("/app/training/list")
    def trainings(self, request: Request) -> dict[str, Any]:
        """All trainings of this run, in the order of its stages, and of the runs next to it."""
        self._scan()
        found = []
        for training in self._known.values():
            try:
                found.append(training.describe())
            except OSError:  # moved away meanwhile
                continue
        return {"trainings": found}

    @post("/app/training/curves", CurvesRequest)
    def curves(self, request: Request, body: CurvesRequest) -> Response:
        """Binary; or `unchanged` where the page has all of it. `share`: of the files that has been read so far."""
        with self._lock:
            trainings = [self._find(id) for id in dict.fromkeys(body.trainings)]
            until = time.monotonic() + READING  # each reads at least a little
            files = [self._read(training, until - time.monotonic()) for training in trainings]
            version = " ".join(file.version for file in files)
            state = {
                "version": version, "share": min(file.share for file in files),
                "trainings": [self._state(*pair) for pair in zip(trainings, files, strict=True)],
            }  # fmt: skip
            if body.known == version and state["share"] == 1:
                return JSONResponse({"unchanged": True, **state})
            return self._draw(body, trainings, files, state)

    @post("/app/training/checkpoint", CheckpointRequest)
    def checkpoint(self, request: Request, body: CheckpointRequest) -> dict[str, Any]:
        """What was measured at an evaluation, and what the model wrote then where the stage keeps that."""
        with self._lock:
            training = self._find(body.training)
            file = self._read(training, READING)
            lines = file.evaluations.values
            if not len(lines):
                return {"count": 0, "share": file.share}
            index = min(body.index, len(lines) - 1) if body.index >= 0 else len(lines) - 1
            line = int(lines[index])
            step = int(file.axes["step"].values[line])
            values = {}
            for name, field in file.fields.items():
                at = np.searchsorted(field.lines.values, line)
                if at < len(field.lines) and field.lines.values[at] == line:
                    values[name] = float(field.values.values[at])
        rows = read_metrics(training.folder / SAMPLES_DURING)  # small: three lines per evaluation
        samples = [
            {"prompt": str(row.get("prompt", "")), "text": str(row.get("continuation", ""))}
            for row in rows
            if isinstance(row, dict) and row.get("step") == step
        ]
        told = [{"name": name, "title": TITLES.get(name, name), "value": value} for name, value in values.items()]
        return {
            "count": len(lines),
            "index": index,
            "step": step,
            "values": told,
            "samples": samples,
            "share": file.share,
        }

    # what these share

    def _scan(self) -> None:
        found = {}
        for folder in _trainings_of(self.context.folder):
            id = training_id(self.context, folder)
            found[id] = Training(id, folder, self.context.folder.resolve().name, own=True)
        for run in self._neighbours():
            for folder in _trainings_of(run):
                id = f"{run.name}:{folder.relative_to(run).as_posix()}"
                found[id] = Training(id, folder, run.name, own=False)
        self._known = found

    def _neighbours(self) -> Iterator[Path]:
        """Folders next to this run, as it was named: of a link those next to the link."""
        if self.context.run is None:
            return
        here = Path(os.path.abspath(self.context.run))
        try:
            with os.scandir(here.parent) as entries:
                names = sorted(e.name for e in entries if e.is_dir() and e.name != here.name and e.name[0] != ".")
        except OSError:
            return
        yield from (here.parent / name for name in names[:MOST_RUNS])

    def _find(self, id: str) -> Training:
        if id not in self._known:
            self._scan()
        if id not in self._known:
            raise ApiError(404, f"there is no training {id[:100]!r} here", code="no_such_training")
        return self._known[id]

    def _read(self, training: Training, seconds: float) -> MetricsFile:
        file = self._files.setdefault(training.id, MetricsFile(training.file))
        self._files.move_to_end(training.id)
        try:
            file.read(seconds)
        except OSError as error:
            del self._files[training.id]
            raise ApiError(404, f"{training.id}: its {METRICS} is gone", code="no_such_training") from error
        while len(self._files) > 1 and sum(one.size for one in self._files.values()) > MOST_NUMBERS:
            dropped, _ = self._files.popitem(last=False)
            self._smooth = {key: value for key, value in self._smooth.items() if key[0] != dropped}
        return file

    def _state(self, training: Training, file: MetricsFile) -> dict[str, Any]:
        fields = [
            {"name": name, "title": TITLES.get(name, name.replace("_", " ")), "evaluation": field.of_evaluations}
            for name, field in file.fields.items()
        ]
        axes = [name for name, axis in file.axes.items() if axis.last > 0]
        skipped = [{"step": int(file.axes["step"].values[i]), "reason": why} for i, why in file.reasons[-TOLD:]]
        return training.describe() | {
            "step": int(file.axes["step"].last), "fields": fields, "axes": axes, "n_skipped": len(file.skipped),
            "skipped": skipped,
        }  # fmt: skip

    def _draw(
        self, body: CurvesRequest, trainings: Sequence[Training], files: Sequence[MetricsFile], state: dict[str, Any]
    ) -> Response:
        there = dict.fromkeys(name for file in files for name in file.fields)
        best = [name for name in FIRST if name in there][:SHOWN] or list(there)[:SHOWN]
        fields = [name for name in body.fields if name in there] or best
        series = {
            (i, name): _series(file, name, body.x)
            for i, file in enumerate(files) for name in fields if name in file.fields
        }  # fmt: skip
        on = grid([x for x, _, _ in series.values()], body.columns, body.begin, body.end, body.log_x)
        arrays: dict[str, Numbers] = {"x": on.x}
        curves: dict[tuple[int, str], Curve] = {}
        for (i, name), (x, values, n) in series.items():
            curves[i, name] = reduce(on, x, values, self._smoothed(trainings[i], files[i], name, body)[:n])
            for part in ("low", "high", "smooth"):
                arrays[f"{i}/{name}/{part}"] = getattr(curves[i, name], part)
        if body.spread and len(on.x):
            for name in fields:
                if len(several := [curve for (_, field), curve in curves.items() if field == name]) > 1:
                    parts = zip(("mean", "least", "greatest"), spread(on, several), strict=True)
                    arrays |= {f"spread/{name}/{part}": line for part, line in parts}
        for i, file in enumerate(files):
            arrays[f"{i}/skipped"] = _marks(file, body.x, on)
        return tensors({**state, "shown": fields}, arrays)

    def _smoothed(self, training: Training, file: MetricsFile, name: str, body: CurvesRequest) -> Numbers:
        """Of all values that have been read; kept, so that a curve that grows costs only what is new."""
        values = file.fields[name].values.values
        if body.smooth == 1 or file.fields[name].of_evaluations:  # which are few
            return values
        key = training.id, name, body.smooth, body.log_y
        begun = file.version.partition(".")[0]
        kept = self._smooth.get(key)
        if kept is None or kept[0] != begun or len(kept[1].smoothed) > len(values):
            others = [one for one in self._smooth if one[:2] == key[:2]]
            for one in others:  # of a field one smoothing is kept
                del self._smooth[one]
            kept = self._smooth[key] = begun, Smoothing(body.smooth, body.log_y)
        return kept[1].follow(values)


def training_id(context: AppContext, folder: Path) -> str:
    """What one of the run's own trainings is called: its path in the run, or the run's name if that is the folder."""
    place = folder.relative_to(context.folder).as_posix()
    return context.folder.resolve().name if place == "." else place


def _trainings_of(run: Path) -> Iterator[Path]:
    """Folders with metrics: the run's own, its stages', and those within stages, in the order of their writing."""
    found = [file.parent for pattern in (METRICS, f"*/{METRICS}", f"*/*/{METRICS}") for file in run.glob(pattern)]
    order = ("pretrain", "sft", "honesty", "reinforce", "prefer")

    def place(folder: Path) -> tuple[int, str]:
        stage = folder.relative_to(run).as_posix()
        first = stage.split("/")[0]
        return (order.index(first) if first in order else len(order) + (first == REPLACED), stage)

    yield from sorted(found, key=place)


def _series(file: MetricsFile, name: str, axis: str) -> tuple[Numbers, Numbers, int]:
    """x and values of a field, with a few from what is not read yet, and how many of them are read."""
    field = file.fields[name]
    x, values = file.axes[axis].values[field.lines.values], field.values.values
    axes, more = file.glimpses(name)
    if axis in axes and len(more):
        return np.append(x, axes[axis]), np.append(values, more.astype(np.float32)), len(values)
    return x, values, len(values)


def _marks(file: MetricsFile, axis: str, on: Grid) -> Numbers:
    """Where steps were skipped: at most so many places, spread evenly."""
    x = file.axes[axis].values[file.skipped.values]
    if len(on.x):
        x = x[(x >= on.edges[0]) & (x <= on.edges[-1])]
    return np.unique(x)[:: max(1, -(-len(x) // MOST_MARKS))]
