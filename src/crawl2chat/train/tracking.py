"""The lines of `metrics.jsonl` in trackio or wandb as well, for those who watch many runs side by side."""

import contextlib
import importlib
import json
import sys
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from crawl2chat.stages.files import StageError, write_json
from crawl2chat.stages.settings import Settings
from crawl2chat.stages.stage import TRACKED
from crawl2chat.train.metrics import Metrics, read_metrics
from crawl2chat.train.settings import Track

PROJECT = "crawl2chat"

Line = dict[str, Any]


@contextlib.contextmanager
def tracked(metrics: Metrics, track: Track, label: str, settings: Settings, again: Sequence[Line]) -> Iterator[None]:
    """Show `metrics` in a tracker while the block runs; with "none", in none.

    `again`: lines that a resumed run has forgotten and will write once more. It goes on in the tracked run that it
    began, whose name is kept beside the metrics. Raises StageError when the tracker isn't installed or can't begin;
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
    def __init__(self, track: str, metrics: Path, label: str, settings: Settings, again: Sequence[Line]) -> None:
        self.track, self.label, self.failed = track, label, False
        file = metrics.with_name(TRACKED)
        names: dict[str, str] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
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

    def log(self, line: Line) -> None:
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


def _key(line: Line) -> tuple[Any, ...]:
    """A step has a line of its own and perhaps one of an evaluation, which hold different fields."""
    return (line["step"], *line)
