import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors import SafetensorError

from crawl2chat.stages.files import StageError
from crawl2chat.train import checkpoint
from crawl2chat.train.checkpoint import Checkpoints


def tensors(value: float) -> dict[str, torch.Tensor]:
    return {"model.a": torch.full((5, 3), value), "momentum.a": torch.full((5, 3), -value), "model.b": torch.ones(7)}


def save(folder, *steps):
    with Checkpoints(folder) as checkpoints:
        for step in steps:
            checkpoints.save(step, tensors(step), {"seen": step})


def load(folder):
    """Step, state and first number of the newest checkpoint."""
    found, filled = tensors(0.0), tensors(0.0)
    loaded = Checkpoints(folder).load(filled)
    if loaded is None:
        assert all(torch.equal(filled[name], found[name]) for name in found)
        return None
    step, state = loaded
    assert all(torch.equal(filled[name], tensors(step)[name]) for name in filled)
    return step, state


def file_of(folder, step):
    (file,) = (folder / f"step-{step:08d}").iterdir()
    return file


def test_what_was_saved_last_is_loaded(tmp_path):
    assert load(tmp_path) is None
    save(tmp_path, 1, 2)
    assert load(tmp_path) == (2, {"seen": 2})


def test_what_changes_after_saving_is_not_saved(tmp_path):
    changing = tensors(1.0)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, changing, {"seen": 1})
        for tensor in changing.values():
            tensor.fill_(9.0)
    assert load(tmp_path) == (1, {"seen": 1})


@pytest.mark.parametrize("keep", [1, 3])
def test_the_last_few_are_kept(tmp_path, keep):
    with Checkpoints(tmp_path, keep) as checkpoints:
        for step in range(1, 6):
            checkpoints.save(step, tensors(step), {})
    assert [folder.name for folder in sorted(tmp_path.iterdir())] == [f"step-{s:08d}" for s in range(6 - keep, 6)]


def flip_bit(file, place):
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda file: os.truncate(file, file.stat().st_size // 2), "damaged (1 of its files"),
        (lambda file: os.truncate(file, 0), "damaged (1 of its files"),
        (lambda file: flip_bit(file, 3), "damaged (1 of its files"),
        (lambda file: flip_bit(file, -2), "damaged (1 of its files"),  # a number of a tensor
        (lambda file: file.rename(file.with_name("rank-0-of-1-0123456789abcdef.safetensors")), "damaged (1 of its"),
        (
            lambda file: file.rename(file.with_name("rank-0-of-2-" + file.name.split("-")[-1])),
            "the file of rank 1 of 2",
        ),
        (lambda file: file.unlink(), "not complete"),
    ],
)
def test_a_damaged_checkpoint_is_passed_over_with_a_word(tmp_path, capsys, damage, words):
    save(tmp_path, 1, 2)
    damage(file_of(tmp_path, 2))
    assert load(tmp_path) == (1, {"seen": 1})
    said = capsys.readouterr().err
    assert words in said
    assert "step-00000002" in said
    assert "going back to the checkpoint before it" in said


def test_with_all_damaged_the_run_begins_anew_with_a_word(tmp_path, capsys):
    save(tmp_path, 1)
    flip_bit(file_of(tmp_path, 1), -1)
    assert load(tmp_path) is None
    assert "starting from the beginning" in capsys.readouterr().err


def test_the_last_whole_one_outlives_later_ones_that_are_not(tmp_path):
    save(tmp_path, 1)
    for step in (2, 3):  # as if other ranks had died while they wrote
        save(tmp_path, step)
        file = file_of(tmp_path, step)
        file.rename(file.with_name(file.name.replace("of-1", "of-2")))
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        checkpoints._remove_old()
    assert load(tmp_path) == (1, {"seen": 1})


def test_an_error_of_writing_reaches_the_trainer(tmp_path):
    (tmp_path / "step-00000001").write_text("in the way")
    with pytest.raises(StageError, match=r"step-00000001: the checkpoint can't be written"), Checkpoints(tmp_path) as c:
        c.save(1, tensors(1.0), {})


def test_a_full_disk_is_named_as_such(tmp_path, monkeypatch):
    def full(*given, **options):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(OSError, match=r"No space left on device: .*step-00000001"), Checkpoints(tmp_path) as c:
        c.save(1, tensors(1.0), {})


def test_a_checkpoint_of_another_model_is_an_error(tmp_path):
    save(tmp_path, 1)
    for name, other in [("model.a", torch.ones(5, 4)), ("model.b", torch.ones(8)), ("model.c", torch.ones(2))]:
        with pytest.raises(StageError, match=rf"another model or optimiser \({name} differs\)"):
            Checkpoints(tmp_path).load(tensors(0.0) | {name: other})


def test_writing_takes_at_most_two_percent_of_the_time(tmp_path, monkeypatch):
    now = 1000.0
    monkeypatch.setattr(checkpoint.time, "monotonic", lambda: now)
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.due()
    checkpoints.save(1, tensors(1.0), {})
    checkpoints.wait()
    checkpoints._seconds = 2.0  # as if it had taken so long
    assert not checkpoints.due()
    now += 99
    assert not checkpoints.due()
    now += 2
    assert checkpoints.due()
    checkpoints._seconds = 1000.0
    assert not checkpoints.due()
    now += checkpoint.LONGEST_PAUSE
    assert checkpoints.due()


WRITER = """
import sys, torch
from pathlib import Path
from crawl2chat.train.checkpoint import Checkpoints
state = {"model.a": torch.zeros(1000, 2000)}
with Checkpoints(Path(sys.argv[1])) as checkpoints:
    for step in range(1, 10000):
        state["model.a"].fill_(step)
        checkpoints.save(step, state, {"seen": step})
        print(step, flush=True)
"""


def test_killed_while_it_writes_the_one_before_is_there(tmp_path):
    for wait in (0.02, 0.05, 0.11):
        folder = tmp_path / str(wait)
        with subprocess.Popen([sys.executable, "-c", WRITER, folder], stdout=subprocess.PIPE, text=True) as process:
            for _ in range(5):
                said = int(process.stdout.readline())
            time.sleep(wait)
            process.send_signal(signal.SIGKILL)
            said = max([said, *map(int, process.stdout.read().split())])
        state = {"model.a": torch.zeros(1000, 2000)}
        step, content = Checkpoints(folder).load(state)
        assert step in (said - 1, said)  # saving waits for the one before
        assert content == {"seen": step}
        assert (state["model.a"] == step).all()
        shutil.rmtree(folder)
