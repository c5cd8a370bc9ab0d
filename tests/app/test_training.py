"""What the page Training asks of the server: curves of this run and its neighbours, while they are written too."""

import json
import os

import numpy as np
import pytest
from training_files import BEGINNINGS, STEPS, decode, loss, write_pretraining, write_reinforcement

from crawl2chat.serve.app import metrics_file, training


@pytest.fixture
def trained(serve, tmp_path):
    """A run that was pretrained and is being reinforced, and two next to it of which one was pretrained."""
    run = tmp_path / "laptop"
    write_pretraining(run / "pretrain")
    (run / "pretrain" / "manifest.json").write_text("{}")
    write_reinforcement(run / "reinforce")
    write_reinforcement(run / "reinforce" / "control", shift=-0.2)
    write_pretraining(run / "replaced" / "pretrain-2026-01-01", seed=3)
    write_pretraining(tmp_path / "seed2" / "pretrain", seed=1)
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("not a run")
    served = serve(run)
    served.folder = run
    return served


def ask(served, *trainings, **more):
    answer = served.http.post("/app/training/curves", json={"trainings": trainings, **more})
    assert answer.status_code == 200, answer.text
    if answer.headers["content-type"] == "application/json":
        return answer.json(), {}
    return decode(answer.content)


def test_all_trainings_of_the_run_and_of_its_neighbours_are_listed(trained):
    found = trained.http.get("/app/training/list").json()["trainings"]
    assert [one["id"] for one in found] == [
        "pretrain", "reinforce", "reinforce/control", "replaced/pretrain-2026-01-01", "seed2:pretrain"
    ]  # fmt: skip
    assert [one["title"] for one in found][2:4] == ["reinforce, control: random rewards", "earlier pretrain-2026-01-01"]
    assert [one["finished"] for one in found] == [True, False, False, False, False]
    assert [one["own"] for one in found] == [True] * 4 + [False]
    assert all(0 <= one["age"] < 600 for one in found)


def test_curves_have_every_value_and_say_what_was_skipped_and_measured(trained):
    header, arrays = ask(trained, "pretrain")
    assert header["shown"] == ["loss", "bits_per_byte", "grad_norm"]
    np.testing.assert_array_equal(arrays["x"], range(1, STEPS + 1))
    losses = np.array([loss(step, 0) for step in range(1, STEPS + 1)], np.float32)
    for part in ("low", "high", "smooth"):
        np.testing.assert_array_equal(arrays[f"0/loss/{part}"], losses)
    measured = ~np.isnan(arrays["0/bits_per_byte/smooth"])
    assert arrays["x"][measured].tolist() == [20, 40, 60]
    assert arrays["0/skipped"].tolist() == [30]
    (state,) = header["trainings"]
    assert state["skipped"] == [{"step": 30, "reason": "the loss of 9 is a spike, above 5"}]
    assert (state["step"], state["axes"], header["share"]) == (STEPS, ["step", "tokens", "seconds", "flop"], 1)
    assert [field["name"] for field in state["fields"] if field["evaluation"]] == ["bits_per_byte"]


@pytest.mark.parametrize(("by", "last"), [("tokens", 60_000), ("seconds", 15), ("flop", 1.2e11)])
def test_curves_go_by_what_the_steps_cost(trained, by, last):
    _, arrays = ask(trained, "pretrain", x=by)
    assert arrays["x"][-1] == pytest.approx(last)
    assert arrays["0/loss/smooth"][-1] == np.float32(loss(STEPS, 0))


def test_runs_are_compared_on_the_same_columns_with_their_spread(trained):
    header, arrays = ask(trained, "pretrain", "seed2:pretrain", fields=["loss"], smooth=8, spread=True, columns=20)
    assert [one["run"] for one in header["trainings"]] == ["laptop", "seed2"]
    ours, theirs = (arrays[f"{i}/loss/smooth"] for i in range(2))
    assert len(arrays["x"]) == len(ours) == len(theirs) == 20
    np.testing.assert_allclose(arrays["spread/loss/mean"], (ours + theirs) / 2, rtol=1e-6)
    np.testing.assert_array_equal(arrays["spread/loss/least"], np.minimum(ours, theirs))
    np.testing.assert_array_equal(arrays["spread/loss/greatest"], np.maximum(ours, theirs))
    assert "spread/loss/mean" not in ask(trained, "pretrain", spread=True)[1]


def test_a_part_of_a_curve_is_smoothed_as_in_the_whole(trained):
    whole = ask(trained, "pretrain", fields=["loss"], smooth=16)[1]
    part = ask(trained, "pretrain", fields=["loss"], smooth=16, begin=41, end=50)[1]
    assert part["x"].tolist() == list(range(41, 51))
    np.testing.assert_array_equal(part["0/loss/smooth"], whole["0/loss/smooth"][40:50])


def test_while_a_trainer_writes_only_news_are_sent_and_nothing_is_touched(trained):
    folder = trained.folder / "reinforce"
    before = {path: path.stat().st_mtime_ns for path in trained.folder.rglob("*")}
    header, _ = ask(trained, "reinforce")
    again, _ = ask(trained, "reinforce", known=header["version"])
    assert again["unchanged"]
    with open(folder / "metrics.jsonl", "a") as metrics:
        metrics.write('{"step": 9, "reward": 0.9, "sec')
        metrics.flush()
        assert ask(trained, "reinforce", known=header["version"])[0]["unchanged"]
        metrics.write('onds": 1.0}\n')
    news, arrays = ask(trained, "reinforce", known=header["version"])
    assert news["version"] != header["version"]
    assert arrays["x"][-1] == 9
    after = {path: path.stat().st_mtime_ns for path in trained.folder.rglob("*")}
    assert {path for path in after if after[path] != before.get(path)} == {folder / "metrics.jsonl"}


def test_a_resumed_training_that_dropped_steps_is_shown_as_it_is_now(trained):
    file = trained.folder / "reinforce" / "metrics.jsonl"
    assert len(ask(trained, "reinforce", smooth=4)[1]["x"]) == 8
    kept = [line | {"reward": 5.0} for line in map(json.loads, file.read_text().splitlines())][:4]
    (file.parent / "new").write_text("".join(json.dumps(line) + "\n" for line in kept))
    os.replace(file.parent / "new", file)
    _, arrays = ask(trained, "reinforce", smooth=4)
    assert arrays["0/reward/smooth"].tolist() == [5] * 4


def test_of_a_long_file_the_first_answer_is_small_and_covers_all_of_it(trained, monkeypatch):
    monkeypatch.setattr(metrics_file, "BLOCK", 1 << 16)
    monkeypatch.setattr(metrics_file, "LONG_REST", 1 << 16)
    monkeypatch.setattr(training, "READING", 0.0)
    line = '{{"step": {0}, "loss": {1}, "grad_norm": 0.123456789, "lr_scale": 1.0, "seconds": 0.25}}\n'
    with open(trained.folder / "pretrain" / "metrics.jsonl", "w") as metrics:
        metrics.writelines(line.format(i, 1 + i / 1e5) for i in range(1, 100_001))
    answer = trained.http.post("/app/training/curves", json={"trainings": ["pretrain"], "columns": 500, "smooth": 16})
    header, arrays = decode(answer.content)
    assert len(answer.content) < 50_000
    assert header["share"] < 0.05
    raw, smooth = arrays["0/loss/high"], arrays["0/loss/smooth"]
    assert np.mean(~np.isnan(raw)) > 0.6  # a few lines from everywhere
    np.testing.assert_allclose(raw[~np.isnan(raw)], 1 + arrays["x"][~np.isnan(raw)] / 1e5, atol=0.01)
    assert np.isnan(smooth[40:]).all()  # what is smoothed is smoothed over all values
    while header["share"] < 1:
        header, arrays = ask(trained, "pretrain", columns=500, smooth=16)
    assert not np.isnan(arrays["0/loss/smooth"]).any()


def test_a_checkpoint_has_what_was_measured_and_written_then(trained):
    def at(index, training="pretrain"):
        return trained.http.post("/app/training/checkpoint", json={"training": training, "index": index}).json()

    last = at(-1)
    assert (last["count"], last["index"], last["step"]) == (3, 2, 60)
    assert last == at(2)
    first = at(0)
    assert first["values"] == [
        {"name": "bits_per_byte", "title": "held-out text, bits per byte", "value": pytest.approx(1.8)}
    ]
    assert first["samples"] == [{"prompt": prompt, "text": " after 20"} for prompt in BEGINNINGS]
    assert at(-1, "reinforce")["count"] == 0


@pytest.mark.parametrize("id", ["sft", "../seed2/pretrain", "seed2:../laptop/pretrain", "/etc", "nowhere:pretrain"])
def test_no_other_file_can_be_asked_for(trained, id):
    answer = trained.http.post("/app/training/curves", json={"trainings": [id]})
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "no_such_training"


def test_a_training_that_is_gone_is_said_to_be(trained):
    ask(trained, "reinforce/control")
    (trained.folder / "reinforce" / "control" / "metrics.jsonl").unlink()
    answer = trained.http.post("/app/training/curves", json={"trainings": ["reinforce/control"]})
    assert answer.status_code == 404
    assert "is gone" in answer.json()["error"]["message"]
    ids = [one["id"] for one in trained.http.get("/app/training/list").json()["trainings"]]
    assert "reinforce/control" not in ids


def test_files_that_were_read_are_forgotten_when_they_take_too_much_memory(trained, monkeypatch):
    monkeypatch.setattr(training, "MOST_NUMBERS", 1000)
    for _ in range(2):
        for name in ("pretrain", "seed2:pretrain", "reinforce"):
            header, _ = ask(trained, name)
            assert header["share"] == 1


def test_a_single_model_shows_its_own_training_and_no_neighbours(serve, tmp_path):
    write_pretraining(tmp_path / "mine")
    write_pretraining(tmp_path / "other")
    served = serve(tmp_path / "mine", is_run=False)
    found = served.http.get("/app/training/list").json()["trainings"]
    assert [one["id"] for one in found] == ["mine"]
    assert len(ask(served, "mine")[1]["x"]) == STEPS
