"""The whole way on a small world: it ends, is skipped when done, and survives being killed."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from crawl2chat.report import write_report
from crawl2chat.stages.stage import read_manifest

pytestmark = pytest.mark.slow

SMALL = """
[crawl.tinyweb]
people = 20
passages_per_level = 1
passage_levels = 4
glossaries = 10
word_games = 10
phrase_books = 4
interviews = 6
stories = 20
verses = 9
worked_sums = 60
direct_sums = 60
held_out_sums = 30
junk_pages = 30
personal_pages = 5
strangers = 10
looked_up = 10

[refine]
workers = 2

[tokenizer]
vocab_size = 600

[pretrain]
depth = 1
width = 32
head_dim = 16
seq_len = 128
batch_tokens = 512
micro_batch_tokens = 512
tokens = 30_000
checkpoint_every = 5
evaluate_every = 20
compile = "off"

[sft]
epochs = 1
seq_len = 128
batch_tokens = 1024
micro_batch_tokens = 1024
checkpoint_every = 5
compile = "off"

[honesty]
epochs = 0.5
seq_len = 128
batch_tokens = 1024
micro_batch_tokens = 1024
checkpoint_every = 5
compile = "off"
wordings = 1
samples = 2
calculations = 10
identity = 1

[reinforce]
steps = 4
prompts = 2
answers = 2
max_tokens = 24
measured = 4
samples = 2
checkpoint_every = 1
evaluate_every = 2

[prefer]
ranked_prompts = 6
ranked_answers = 2
steps = 4
prompts = 2
answers = 2
max_tokens = 24
compared = 4
best_of = 2
checkpoint_every = 1
evaluate_every = 2
"""
STAGES = ["crawl", "refine", "tokenizer", "pretrain", "base", "sft", "honesty", "reinforce", "prefer"]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    file = tmp_path_factory.mktemp("recipe") / "small.toml"
    file.write_text(SMALL)
    return file


def command(recipe: Path, out: Path, *flags: str) -> list[str]:
    return [sys.executable, "-m", "crawl2chat", "run", str(recipe), "--out", str(out), *flags]


def run(recipe: Path, out: Path, *flags: str) -> str:
    done = subprocess.run(command(recipe, out, *flags), capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    return done.stdout


def hashes(out: Path) -> dict[str, str]:
    manifests = {folder.name: read_manifest(folder) for folder in sorted(out.iterdir()) if folder.is_dir()}
    return {name: manifest.hash for name, manifest in manifests.items() if manifest}


@pytest.fixture(scope="module")
def undisturbed(recipe, tmp_path_factory):
    out = tmp_path_factory.mktemp("undisturbed") / "run"
    return out, run(recipe, out)


def test_every_stage_leaves_its_figures_and_the_report_holds_them(undisturbed):
    out, shown = undisturbed
    assert set(hashes(out)) == set(STAGES)
    figures = json.loads((out / "sft" / "manifest.json").read_text())["figures"]
    held_out = [figure for name, figure in figures.items() if name.startswith("facts_held_out/")]
    assert sum(figure["count"] for figure in held_out) > 0
    assert all(figure["unit"] == "share" and len(figure["interval"]) == 2 for figure in held_out)
    report = (out / "report.html").read_text()
    assert "held out bits per byte" in shown
    assert "held out bits per byte" in report
    assert report.count("<svg") >= 10
    assert "What each stage kept" in report
    assert "The same questions to every model" in report
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", report), "the page loads something from elsewhere"


def test_a_finished_run_is_skipped_and_only_what_changed_is_done_again(recipe, undisturbed):
    out, _ = undisturbed
    before = {name: (out / name / "manifest.json").stat().st_mtime_ns for name in hashes(out)}
    assert run(recipe, out).count("unchanged") == len(STAGES)
    run(recipe, out, "--prefer.noise", "2.5")
    after = {name: (out / name / "manifest.json").stat().st_mtime_ns for name in hashes(out)}
    assert {name for name in before if before[name] != after[name]} == {"prefer"}
    run(recipe, out)  # as the other tests expect it


def test_the_report_is_a_function_of_the_run(undisturbed):
    out, _ = undisturbed
    before = (out / "report.html").read_bytes()
    assert write_report(out).read_bytes() == before


def run_before(stage: str, undisturbed: Path, out: Path) -> None:
    """A copy of the run as it was before the stage."""
    shutil.copytree(undisturbed, out)
    for later in STAGES[STAGES.index(stage) :]:
        shutil.rmtree(out / later)


@pytest.mark.parametrize(
    ("stage", "sign"),
    [
        ("refine", "refine/shards/00000"),
        ("pretrain", "pretrain/checkpoints"),
        ("honesty", "honesty/search.sqlite"),
        ("honesty", "honesty/checkpoints"),
        ("honesty", "honesty/model"),
        ("reinforce", "reinforce/checkpoints"),
        ("reinforce", "reinforce/control/checkpoints"),
        ("prefer", "prefer/checks"),
        ("prefer", "prefer/checkpoints"),
    ],
)
def test_a_run_killed_in_a_stage_ends_with_the_hashes_of_an_undisturbed_one(recipe, undisturbed, tmp_path, stage, sign):
    out = tmp_path / "run"
    run_before(stage, undisturbed[0], out)
    process = subprocess.Popen(command(recipe, out), stderr=subprocess.PIPE, start_new_session=True)
    deadline = time.monotonic() + 900
    while not (out / sign).exists():
        assert process.poll() is None, process.stderr.read().decode()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert read_manifest(out / stage) is None, "killed too late to test anything"
    run(recipe, out)
    assert hashes(out) == hashes(undisturbed[0])


# Run by the command's first process: sends it the signal when it opens or renames a file of this name.
AT_FILE = """
import os, signal, sys

name, number = os.environ.pop("SIGNAL_AT_FILE", None), os.environ.pop("SIGNAL", None)

def hook(event, arguments):
    global name
    if name and event in ("open", "os.rename") and any(name in str(path) for path in arguments[:2]):
        name = None
        signal.raise_signal(int(number))

sys.addaudithook(hook)
"""
# Where a stage begins, is in the middle of its work, takes its last step, and ends.
MOMENTS = {
    "crawl": ["crawl/.started.json", "crawl/ledger/people", "part-00000.warc", "crawl/manifest.json"],
    "refine": ["refine/.started.json", "refine/shards/00000", "refine/funnel.json", "refine/manifest.json"],
    "tokenizer": ["tokenizer/.started.json", "tokenizer.json", "tokenizer/manifest.json"],
    "pretrain": [
        "pretrain/.started.json", "pretrain/tokens", "pretrain/checkpoints/step-00000010",
        "pretrain/checkpoints/step-00000059", "pretrain/samples.jsonl", "pretrain/manifest.json",
    ],
    "base": ["base/.started.json", "base/recitation.jsonl", "base/manifest.json"],
    "sft": ["sft/.started.json", "sft/checkpoints/step-00000005", "sft/answers.jsonl", "sft/manifest.json"],
    "honesty": [
        "honesty/.started.json", "honesty/search.sqlite", "honesty/probes.jsonl", "honesty/checkpoints/step-00000005",
        "honesty/manifest.json",
    ],
    "reinforce": [
        "reinforce/.started.json", "reinforce/checkpoints/step-00000001", "reinforce/checkpoints/step-00000004",
        "reinforce/control/checkpoints/step-00000004", "reinforce/manifest.json",
    ],
    "prefer": [
        "prefer/.started.json", "prefer/rankings.sqlite", "prefer/reward_model", "prefer/checkpoints/step-00000002",
        "prefer/checkpoints/step-00000004", "prefer/manifest.json",
    ],
}  # fmt: skip


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_interrupted_at_any_moment_says_so_in_one_line_and_goes_on(recipe, undisturbed, tmp_path, stage):
    """One signal after the other, each a little later in the stage; the last call finishes it."""
    out = tmp_path / "run"
    run_before(stage, undisturbed[0], out)
    (tmp_path / "sitecustomize.py").write_text(AT_FILE)
    for i, moment in enumerate(MOMENTS[stage]):
        number = (signal.SIGINT, signal.SIGTERM)[i % 2]
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, sys.path)]),
            "SIGNAL_AT_FILE": moment,
            "SIGNAL": str(int(number)),
        }
        process = subprocess.Popen(
            command(recipe, out, "--until", stage), env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, start_new_session=True,
        )  # fmt: skip
        _, told = process.communicate(timeout=900)
        assert process.returncode == 128 + number, (moment, told)
        assert told.splitlines()[-1] == "interrupted; the same command goes on from here", (moment, told)
        assert "Traceback" not in told
        assert "Exception ignored" not in told
        assert read_manifest(out / stage) is None
        wait_until_gone(process.pid)
    run(recipe, out, "--until", stage)
    assert hashes(out)[stage] == hashes(undisturbed[0])[stage]


def wait_until_gone(group: int) -> None:
    """Until no process of the group is left."""
    deadline = time.monotonic() + 300
    with contextlib.suppress(ProcessLookupError):
        while True:
            os.killpg(group, 0)
            assert time.monotonic() < deadline, "a process was left"
            time.sleep(0.02)


def test_another_seed_is_another_world_and_the_way_still_works(recipe, undisturbed, tmp_path):
    out = tmp_path / "run"
    run(recipe, out, "--crawl.seed", "7")
    assert len(hashes(out)) == len(STAGES)
    ours, theirs = ((folder / "crawl" / "ledger" / "people.jsonl").read_text() for folder in (out, undisturbed[0]))
    names = [{json.loads(line)["name"] for line in text.splitlines()} for text in (ours, theirs)]
    assert not names[0] & names[1]
