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

[base]
questions = 24
samples = 4
archive_bytes = 2_000

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
    assert "bits per byte of held-out text" in report
    assert report.count("<svg") >= 10
    assert report.index("What this run measured") < report.index('id="question"') < report.index('id="crawl"')
    assert "What each stage kept" in report
    question = report[report.index('id="question"') : report.index("more questions")]
    ways = ("goes on with the text", "a helper answers", "(sft)", "honesty<", "honesty, with tools", "(prefer)")
    assert [way for way in ways if way not in question] == []
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", report), "the page loads something from elsewhere"


def test_a_finished_run_is_skipped_and_only_what_changed_is_done_again(recipe, undisturbed, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(undisturbed[0], out)
    before = {name: (out / name / "manifest.json").stat().st_mtime_ns for name in hashes(out)}
    assert run(recipe, out).count("unchanged") == len(STAGES)
    run(recipe, out, "--prefer.noise", "2.5")
    after = {name: (out / name / "manifest.json").stat().st_mtime_ns for name in hashes(out)}
    assert {name for name in before if before[name] != after[name]} == {"prefer"}


def test_the_report_is_a_function_of_the_run(undisturbed):
    out, _ = undisturbed
    before = (out / "report.html").read_bytes()
    assert write_report(out).read_bytes() == before


def run_before(stage: str, undisturbed: Path, out: Path) -> None:
    """A copy of the run as it was before the stage."""
    shutil.copytree(undisturbed, out)
    for later in STAGES[STAGES.index(stage) :]:
        shutil.rmtree(out / later)


# Run by the command's first process: sends the signal when it opens or renames a file of this name.
AT_FILE = """
import os, signal, sys

name, number = os.environ.pop("SIGNAL_AT_FILE", None), int(os.environ.pop("SIGNAL", 0))

def hook(event, arguments):
    global name
    if name and event in ("open", "os.rename") and any(name in str(path) for path in arguments[:2]):
        name = None
        if number == signal.SIGKILL:
            os.killpg(0, number)
        signal.raise_signal(number)

sys.addaudithook(hook)
"""
INT, TERM, KILL = signal.SIGINT, signal.SIGTERM, signal.SIGKILL
# Where a stage begins, is in the middle of its work, takes its last step, and ends. The same lines begin and end all
# stages, so that this is tried in the first, a middle one and the last.
MOMENTS = {
    "crawl": [
        ("crawl/.started.json", INT), ("crawl/ledger/people", TERM), ("part-00000.warc", KILL),
        ("crawl/manifest.json", INT),
    ],
    "refine": [("refine/shards/00000", INT), ("refine/shards/00000", KILL), ("refine/funnel.json", TERM)],
    "tokenizer": [("tokenizer.json", INT)],
    "pretrain": [
        ("pretrain/.started.json", INT), ("pretrain/tokens", TERM), ("pretrain/checkpoints/step-00000010", KILL),
        ("pretrain/checkpoints/step-00000059", INT), ("pretrain/samples.jsonl", TERM), ("pretrain/manifest.json", INT),
    ],
    "base": [("base/recitation.jsonl", INT)],
    "sft": [("sft/checkpoints/step-00000005", TERM), ("sft/answers.jsonl", INT)],
    "honesty": [
        ("honesty/search.sqlite", KILL), ("honesty/probes.jsonl", TERM), ("honesty/checkpoints/step-00000005", INT),
        ("honesty/checkpoints/step-00000010", KILL), ("honesty/model", KILL),
    ],
    "reinforce": [
        ("reinforce/checkpoints/step-00000001", INT), ("reinforce/checkpoints/step-00000002", KILL),
        ("reinforce/checkpoints/step-00000004", TERM), ("reinforce/control/checkpoints/step-00000001", KILL),
        ("reinforce/control/checkpoints/step-00000004", INT),
    ],
    "prefer": [
        ("prefer/.started.json", INT), ("prefer/rankings.sqlite", TERM), ("prefer/reward_model", INT),
        ("prefer/checks", KILL), ("prefer/checkpoints/step-00000002", TERM), ("prefer/checkpoints/step-00000003", KILL),
        ("prefer/checkpoints/step-00000004", INT), ("prefer/manifest.json", TERM),
    ],
}  # fmt: skip


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_interrupted_or_killed_at_any_moment_goes_on_to_the_same_hash(recipe, undisturbed, tmp_path, stage):
    """One signal after the other, each a little later in the stage; the last call finishes it."""
    out = tmp_path / "run"
    run_before(stage, undisturbed[0], out)
    (tmp_path / "sitecustomize.py").write_text(AT_FILE)
    for moment, number in MOMENTS[stage]:
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
        if number == KILL:
            assert process.returncode == -number, (moment, told)
        else:
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
    run(recipe, out, "--crawl.seed", "7", "--until", "sft")
    assert len(hashes(out)) == STAGES.index("sft") + 1
    ours, theirs = ((folder / "crawl" / "ledger" / "people.jsonl").read_text() for folder in (out, undisturbed[0]))
    names = [{json.loads(line)["name"] for line in text.splitlines()} for text in (ours, theirs)]
    assert not names[0] & names[1]
