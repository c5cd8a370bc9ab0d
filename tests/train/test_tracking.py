import json
import sys
from types import SimpleNamespace

import pytest

from crawl2chat.stages.files import StageError
from crawl2chat.stages.stage import METRICS, TRACKED
from crawl2chat.train.metrics import Metrics, read_metrics, tracked
from crawl2chat.train.settings import TrainSettings

SETTINGS = TrainSettings(seq_len=8)


class FakeTracker:
    """A module with wandb's API that keeps what it is told; fails when asked to."""

    def __init__(self) -> None:
        self.begun, self.points, self.finished, self.fails = [], [], 0, False

    def init(self, **arguments):
        self.begun.append(arguments)
        return SimpleNamespace(log=self.log, finish=self.finish)

    def log(self, values, step):
        if self.fails:
            raise ConnectionError("no route to host")
        self.points.append((step, values))

    def finish(self):
        self.finished += 1


@pytest.fixture(params=["trackio", "wandb"])
def tracker(request, monkeypatch):
    fake = FakeTracker()
    monkeypatch.setitem(sys.modules, request.param, fake)
    fake.name = request.param
    return fake


def watch(out, track, steps, *, first=0, killed=False):
    """Train for show: a line a step, an evaluation every second one."""
    out.mkdir(exist_ok=True, parents=True)
    metrics = Metrics(out / METRICS)
    again = metrics.truncate_after(first)
    with tracked(metrics, track, "pretrain", SETTINGS, again):
        for step in range(first + 1, steps + 1):
            metrics.write(step=step, loss=1 / step)
            if step % 2 == 0 and not (killed and step == steps):
                metrics.write(step=step, bits_per_byte=2 / step)


def test_a_tracker_is_shown_what_metrics_jsonl_holds(tmp_path, tracker):
    watch(tmp_path / "laptop" / "pretrain", tracker.name, 4)
    lines = read_metrics(tmp_path / "laptop" / "pretrain" / METRICS)
    assert [{"step": step, **values} for step, values in tracker.points] == lines
    (begun,) = tracker.begun
    assert begun["project"] == "crawl2chat"
    assert begun["name"].startswith("laptop-pretrain-")
    assert begun["config"]["seq_len"] == 8
    assert tracker.finished == 1


def test_a_resumed_run_goes_on_in_its_tracked_run_without_showing_a_step_twice(tmp_path, tracker):
    watch(tmp_path, tracker.name, 4, killed=True)  # between a step and its evaluation
    watch(tmp_path, tracker.name, 6, first=2)  # from a checkpoint
    one, other = tracker.begun
    assert one["name"] == other["name"]
    assert one["resume"] == other["resume"] == "allow"
    assert ("id" in one) == (tracker.name == "wandb")  # each finds a run again in its own way
    assert [{"step": step, **values} for step, values in tracker.points] == read_metrics(tmp_path / METRICS)


def test_a_run_that_is_tracked_from_the_middle_on_shows_its_beginning_too(tmp_path, tracker):
    watch(tmp_path, "none", 3)
    assert not tracker.begun
    watch(tmp_path, tracker.name, 5, first=2)
    assert [{"step": step, **values} for step, values in tracker.points] == read_metrics(tmp_path / METRICS)


def test_another_run_in_another_folder_is_another_tracked_run(tmp_path, tracker):
    for name in ("one", "other"):
        watch(tmp_path / name / "pretrain", tracker.name, 2)
    assert len({begun["name"] for begun in tracker.begun}) == 2


def test_a_tracker_that_fails_in_the_middle_is_given_up_with_one_word_and_training_goes_on(tmp_path, tracker, capsys):
    metrics = Metrics(tmp_path / METRICS)
    with tracked(metrics, tracker.name, "pretrain", SETTINGS, []):
        metrics.write(step=1, loss=1.0)
        tracker.fails = True
        metrics.write(step=2, loss=1.0)
        metrics.write(step=3, loss=1.0)
    assert len(read_metrics(tmp_path / METRICS)) == 3
    assert capsys.readouterr().err.count(f"{tracker.name} fails (no route to host) and is given up") == 1


def test_a_tracker_that_is_not_installed_is_told_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "trackio", None)
    with pytest.raises(
        StageError, match=r"pretrain\.track = trackio: .* pip install 'crawl2chat\[trackio\]', or pretr"
    ):
        watch(tmp_path, "trackio", 1)


def test_a_tracker_that_cannot_begin_is_told_before_any_work(tmp_path, tracker):
    def refused(**arguments):
        raise ConnectionError("no API key configured")

    tracker.init = refused
    with pytest.raises(StageError, match=r"it can't begin a run \(no API key configured\); or pretrain\.track = none"):
        watch(tmp_path, tracker.name, 1)
    assert not (tmp_path / TRACKED).exists()


def test_trackio_itself_keeps_the_points_and_resumes(tmp_path):
    pytest.importorskip("trackio")
    watch(tmp_path / "run" / "pretrain", "trackio", 3)
    watch(tmp_path / "run" / "pretrain", "trackio", 5, first=2)
    from trackio.sqlite_storage import SQLiteStorage

    name = json.loads((tmp_path / "run" / "pretrain" / TRACKED).read_text())["trackio"]
    points = SQLiteStorage.get_logs("crawl2chat", name)
    assert [(p["step"], p["loss"]) for p in points if "loss" in p] == [(step, 1 / step) for step in range(1, 6)]
