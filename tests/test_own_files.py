"""A user's own pages and files go the way of the made-up web: which stages run, what is left out, what is read."""

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file
from warcs import page_record, prose, write_warc

from crawl2chat.cli.main import main
from crawl2chat.stages.files import StageError, hash_json, write_json
from crawl2chat.stages.pipeline import Recipe, announce_left_out, check_files, plan_steps, run_pipeline
from crawl2chat.stages.settings import RecipeError, load_settings
from crawl2chat.stages.stage import MANIFEST, METRICS, Manifest, is_current, read_manifest, sha256
from crawl2chat.train.metrics import read_metrics

OWN = """
[crawl]
source = "warc"
[refine]
workers = 1
[tokenizer]
vocab_size = 600
[pretrain]
depth = 1
width = 32
head_dim = 16
seq_len = 256
batch_tokens = 512
micro_batch_tokens = 512
tokens = 8_000
compile = "off"
[sft]
epochs = 2
precision = "fp32"
seq_len = 256
batch_tokens = 512
micro_batch_tokens = 512
compile = "off"
[honesty]
epochs = 1
precision = "fp32"
seq_len = 256
batch_tokens = 512
micro_batch_tokens = 512
compile = "off"
wordings = 1
samples = 2
calculations = 5
identity = 1
[reinforce]
steps = 2
prompts = 2
answers = 2
max_tokens = 16
measured = 4
samples = 2
[prefer]
ranked_prompts = 6
ranked_answers = 2
steps = 2
prompts = 2
answers = 2
max_tokens = 16
compared = 4
best_of = 2
"""
FILES = ("conversations", "questions", "problems", "prompts")


def rows_of(kind):
    if kind == "conversations":
        return [
            {"messages": [{"role": "user", "content": f"Who is {n}?"}, {"role": "assistant", "content": f"{n} is 1."}]}
            for n in range(30)
        ]
    if kind == "questions":
        splits = ("train", "probe", "held_out")
        rows = [
            {
                "wordings": [f"Who is {n}?", f"Tell me who {n} is."],
                "answers": ["1"],
                "group": "n",
                "split": splits[n % 3],
            }
            for n in range(12)
        ]
        sourced = {
            "wordings": ["What is on page 1?"],
            "answers": ["the"],
            "split": "train",
            "source": "The page is the 1.",
        }
        return [*rows, sourced, {"wordings": ["Who is nobody?"], "answers": [], "group": "none", "split": "held_out"}]
    if kind == "problems":
        return [{"question": f"What is {n}+1?", "answer": str(n + 1)} for n in range(20)]
    return [{"prompt": f"Write a verse about {n}.", "group": str(n), "split": "train" if n < 12 else "held_out"}
            for n in range(15)]  # fmt: skip


def write_own(folder):
    """Write a recipe, a WARC and files of everything; returns flags that name them, by kind."""
    write_warc(folder / "my.warc.gz", [page_record(i, prose(i)) for i in range(40)])
    for kind in FILES:
        lines = [json.dumps(row) for row in rows_of(kind)]
        (folder / f"{kind}.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "own.toml").write_text(OWN)
    return {kind: ["--" + kind, str(folder / f"{kind}.jsonl")] for kind in FILES} | {
        "crawl": ["--crawl.warc", str(folder / "my.warc.gz")]
    }


@pytest.fixture
def own(tmp_path):
    return write_own(tmp_path)


def flags_of(folder):
    return [flag for kind in FILES for flag in ("--" + kind, str(folder / f"{kind}.jsonl"))] + [
        "--crawl.warc", str(folder / "my.warc.gz")
    ]  # fmt: skip


def recipe(tmp_path, own, *kinds) -> Recipe:
    flags = [flag for kind in ("crawl", *kinds) for flag in own[kind]]
    return load_settings(Recipe, tmp_path / "own.toml", flags)


def names(steps):
    return [step.stage.name for step in steps]


def test_a_stage_without_its_file_is_left_out_with_a_line_and_the_chain_goes_on(tmp_path, own):
    cases = {
        (): (["base"], "sft (needs --conversations FILE), honesty (needs --questions FILE), reinforce"),
        ("conversations",): (["base", "sft"], "honesty (needs --questions FILE)"),
        ("conversations", "problems"): (["base", "sft", "reinforce"], "prefer (needs --prompts FILE)"),
        FILES: (["base", "sft", "honesty", "reinforce", "prefer"], ""),
    }
    for kinds, (stages, line) in cases.items():
        wanted = recipe(tmp_path, own, *kinds)
        assert names(plan_steps(wanted, tmp_path / "run"))[4:] == stages
        left_out = list(announce_left_out(wanted))
        assert line in left_out[0] if line else left_out == []
        assert len(left_out) <= 1


def test_a_file_that_no_stage_of_the_run_reads_is_named(tmp_path, own):
    flags = [*own["crawl"], *own["conversations"], *own["problems"], "--until", "pretrain"]
    ends = load_settings(Recipe, tmp_path / "own.toml", flags)
    (line,) = announce_left_out(ends)
    assert "ends with pretrain (--until): conversations = " in line
    assert "problems = " in line
    assert "prompts" not in line


def test_a_stage_goes_on_with_the_model_of_the_last_stage_that_runs(tmp_path, own):
    steps = plan_steps(recipe(tmp_path, own, "conversations", "problems", "prompts"), tmp_path / "run")
    inputs = {step.stage.name: step.stage.inputs for step in steps}
    assert inputs["reinforce"] == ("problems", "sft")
    assert inputs["prefer"] == ("prompts", "reinforce")


def test_the_made_up_web_brings_all_files_and_a_named_one_replaces_its_own(tmp_path, own):
    steps = {step.stage.name: step.inputs for step in plan_steps(Recipe(), tmp_path / "run")}
    assert steps["sft"]["conversations"] == tmp_path / "run" / "crawl" / "conversations.jsonl"
    assert {"questions", "problems"} <= steps["sft"].keys()
    assert steps["honesty"]["refusals.txt"] == tmp_path / "run" / "crawl" / "refusals.txt"
    assert not list(announce_left_out(Recipe()))
    mine = Recipe(conversations=own["conversations"][1])
    (sft,) = [step for step in plan_steps(mine, tmp_path / "run") if step.stage.name == "sft"]
    assert list(sft.inputs) == ["conversations", "pretrain"]  # the web's questions don't go with my conversations


def test_a_broken_taste_ends_a_run_before_any_work(tmp_path, own, capsys):
    (tmp_path / "taste.json").write_text('{"liked": 3}')
    flags = [flag for part in own.values() for flag in part]
    assert main(["run", str(tmp_path / "own.toml"), "--out", str(tmp_path / "run"), *flags]) == 1
    assert "taste.json: found liked" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_task_with_problems_of_its_own_stands_in_for_the_file_of_problems(tmp_path, own, capsys):
    mine = tmp_path / "mine.py"
    mine.write_text('problems = [{"question": f"{n}+1?", "answer": n + 1} for n in range(20)]\n')
    flags = [*own["crawl"], *own["conversations"], "--reinforce.task", str(mine)]
    steps = {s.stage.name: s for s in plan_steps(load_settings(Recipe, tmp_path / "own.toml", flags), tmp_path / "run")}
    assert list(steps)[-2:] == ["sft", "reinforce"]
    assert steps["reinforce"].inputs["problems"] == mine
    assert "problems" not in steps["sft"].inputs
    check_files(load_settings(Recipe, tmp_path / "own.toml", flags))
    mine.write_text("def reward(problem, answer):\n    return 1.0\n")
    assert main(["run", str(tmp_path / "own.toml"), "--out", str(tmp_path / "run"), *flags]) == 1
    assert "defines a reward but no problems; name a file of problems, too" in capsys.readouterr().err


@pytest.mark.parametrize("kind", FILES)
def test_a_bad_file_ends_a_run_before_any_work(tmp_path, own, kind, capsys):
    (tmp_path / f"{kind}.jsonl").write_text('{"neither": "this nor that"}\n')
    flags = [flag for part in own.values() for flag in part]
    assert main(["run", str(tmp_path / "own.toml"), "--out", str(tmp_path / "run"), *flags]) == 1
    assert f"{kind}.jsonl" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("kind", "rows", "said"),
    [
        (
            "questions",
            [{"wordings": ["Who?"], "answers": ["1"], "split": "train"}],
            'no question of the split "held_out"',
        ),
        ("problems", [{"question": "1+1?", "answer": "2"}], "1 problems to learn from and 0 to measure with"),
        ("prompts", [{"prompt": "Write a verse."}], "0 prompts to rank and 1 to measure on"),
    ],
)  # fmt: skip
def test_a_file_with_nothing_to_measure_with_ends_a_run_before_any_work(tmp_path, own, kind, rows, said, capsys):
    (tmp_path / f"{kind}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    flags = [flag for part in own.values() for flag in part]
    assert main(["run", str(tmp_path / "own.toml"), "--out", str(tmp_path / "run"), *flags]) == 1
    assert said in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_task_that_fails_ends_a_run_before_any_work(tmp_path, capsys):
    (tmp_path / "mine.py").write_text("import not_there\n")
    task = f"{tmp_path / 'mine.py'}"
    assert main(["run", "laptop", "--out", str(tmp_path / "run"), "--reinforce.task", task]) == 1
    assert "no module named 'not_there'" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("stage", ["sft", "honesty", "reinforce", "prefer"])
def test_a_bad_file_leaves_an_earlier_result_of_a_stages_own_command(tmp_path, stage, capsys):
    bad, model, out = tmp_path / "bad.jsonl", tmp_path / "model", tmp_path / "out"
    bad.write_text('{"neither": "this nor that"}\n')
    for folder in (model, out):
        folder.mkdir()
    write_json(out / MANIFEST, vars(Manifest(stage, {}, {}, {}, {}, {}, "2026-01-01T00:00:00", 1.0, {})))
    assert main([stage, str(bad), str(model), "--out", str(out)]) == 1
    assert "bad.jsonl" in capsys.readouterr().err
    assert read_manifest(out)


def test_a_folder_in_place_of_a_file_is_named_with_the_file_in_it(tmp_path, capsys):
    (tmp_path / "crawl").mkdir()
    (tmp_path / "model").mkdir()
    (tmp_path / "crawl" / "conversations.jsonl").write_text("")
    assert main(["sft", str(tmp_path / "crawl"), str(tmp_path / "model"), "--out", str(tmp_path / "out")]) == 1
    assert f"is a folder; expected a file, such as {tmp_path / 'crawl/conversations.jsonl'}" in capsys.readouterr().err


def test_only_stages_that_are_taken_must_fit_the_context(tmp_path, own):
    flags = [*own["crawl"], "--pretrain.seq_len", "128"]
    assert load_settings(Recipe, tmp_path / "own.toml", flags).pretrain.seq_len == 128
    too_long = load_settings(Recipe, tmp_path / "own.toml", [*flags, *own["conversations"]])
    with pytest.raises(StageError, match=r"sft\.seq_len = 256 is more than the model's context"):
        list(run_pipeline(too_long, tmp_path / "run"))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(StageError, match=r"absent\.jsonl"):
        check_files(Recipe(questions=str(tmp_path / "absent.jsonl")))


@pytest.mark.parametrize(
    ("flag", "now"),
    [
        ("sft.wordings", "crawl.tinyweb.taught.wordings"),
        ("sft.worked_share", "crawl.tinyweb.taught.worked_share"),
        ("honesty.strangers", "crawl.tinyweb.strangers"),
        ("honesty.looked_up", "crawl.tinyweb.looked_up"),
    ],
)
def test_a_setting_that_moved_names_its_new_place(flag, now):
    with pytest.raises(RecipeError, match=f"{flag}: no such setting any more; it is {now} now"):
        load_settings(Recipe, None, [f"--{flag}", "3"])


def test_a_stage_is_stale_when_the_file_that_it_read_in_the_crawl_has_changed(tmp_path):
    (tmp_path / "crawl").mkdir()
    (tmp_path / "sft").mkdir()
    file = tmp_path / "crawl" / "questions.jsonl"
    file.write_text("one\n")
    inputs = {"crawl/questions.jsonl": sha256(file), "conversations": hash_json("from elsewhere")}
    write_json(tmp_path / "sft" / MANIFEST, vars(Manifest("sft", {}, inputs, {}, {}, {}, "", 1.0, {})))
    manifest = read_manifest(tmp_path / "sft")
    assert is_current(tmp_path, manifest)
    file.write_text("two\n")
    assert not is_current(tmp_path, manifest)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A folder with files of one's own and their whole run, and what it printed to stderr."""
    folder = tmp_path_factory.mktemp("whole")
    write_own(folder)
    with contextlib.redirect_stderr(io.StringIO()) as said:
        assert main(["run", str(folder / "own.toml"), "--out", str(folder / "run"), *flags_of(folder)]) == 0
    return folder, said.getvalue()


@pytest.mark.slow
def test_own_pages_and_files_go_through_every_stage(whole, tmp_path, capsys):
    made, said = whole
    assert "left out" not in said
    out, flags = made / "run", flags_of(made)
    run = ["run", str(made / "own.toml"), "--out", str(out), *flags]
    figures = {stage: read_manifest(out / stage).figures for stage in ("sft", "honesty", "reinforce", "prefer")}
    assert {"held_out_loss", "held_out_loss_before", "facts_taught/n", "facts_held_out/n"} <= figures["sft"].keys()
    metrics = [json.loads(line) for line in (out / "sft" / "metrics.jsonl").read_text().splitlines()]
    assert any("held_out_loss" in line for line in metrics)
    assert {"checkup/right on questions", "checkup/wrong on questions without an answer"} <= figures["honesty"].keys()
    for stage in ("reinforce", "prefer"):  # what honesty taught is measured again, from files that were carried
        assert {name for name in figures[stage] if name.startswith("checkup/")} == {
            name for name in figures["honesty"] if name.startswith("checkup/")
        }
        assert (out / stage / "questions.jsonl").read_bytes() == (out / "honesty" / "questions.jsonl").read_bytes()
    held_out = [row["wordings"] for row in rows_of("questions") if row["split"] == "held_out"]
    taught = (out / "honesty" / "conversations.jsonl").read_text() + (out / "sft" / "conversations.jsonl").read_text()
    replayed = {row["messages"][0]["content"] for row in rows_of("conversations")}
    assert not [w for wordings in held_out for w in wordings if w not in replayed and w in taught]
    assert main(run) == 0
    assert capsys.readouterr().out.count("unchanged") == 9
    more = tmp_path / "questions.jsonl"
    added = json.dumps({"wordings": ["Who else?"], "answers": [], "split": "train"}) + "\n"
    more.write_text((made / more.name).read_text() + added)
    changed = [step.stage.name
               for step in plan_steps(load_settings(Recipe, made / "own.toml", [*flags, "--questions", str(more)]), out)
               if step.changed]  # fmt: skip
    assert changed == ["sft", "honesty", "reinforce", "prefer"]


def torchrun(*arguments):
    """What two ranks printed to stderr, and the exit status."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "-m", "crawl2chat", *arguments]
    ended = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True,
                           timeout=900)  # fmt: skip
    return ended.stderr, ended.returncode


def learned(stage):
    """The steps of a stage, and its models' weights."""
    steps = [line for line in read_metrics(stage / METRICS) if "grad_norm" in line]
    return steps, [load_file(stage / file) for file in ("model/model.safetensors", "reward_model/model.safetensors")
                   if (stage / file).exists()]  # fmt: skip


@pytest.mark.slow
def test_two_ranks_learn_in_every_stage_what_one_does(whole, tmp_path):
    made, _ = whole
    shutil.copytree(made / "run", tmp_path / "run")
    stages = ("sft", "honesty", "reinforce", "prefer")
    for stage in stages:
        shutil.rmtree(tmp_path / "run" / stage)
    said, status = torchrun("run", str(made / "own.toml"), "--out", str(tmp_path / "run"), *flags_of(made))
    assert status == 0, said
    for stage in stages:
        ours, theirs = learned(tmp_path / "run" / stage), learned(made / "run" / stage)
        measured = ["loss", "reward", "answer_tokens", "entropy", "replay_loss"]
        for line, expected in zip(ours[0], theirs[0], strict=True):
            for name in expected.keys() & set(measured):
                assert line[name] == pytest.approx(expected[name], rel=1e-4, abs=1e-6), (stage, line["step"], name)
        assert len(ours[1]) == len(theirs[1]) == 1 + (stage == "prefer")
        for mine, other in zip(ours[1], theirs[1], strict=True):
            for name, weight in other.items():
                torch.testing.assert_close(mine[name], weight, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_a_reward_that_fails_ends_all_ranks_with_one_message(whole, tmp_path):
    made, _ = whole
    (tmp_path / "mine.py").write_text(
        "calls = []\ndef reward(problem, answer):\n    calls.append(1)\n    return 1.0 if len(calls) < 4 else 1 / 0\n"
    )
    command = ["reinforce", str(made / "problems.jsonl"), str(made / "run" / "sft"), "--out", str(tmp_path / "out")]
    small = "--reinforce.steps 2 --reinforce.prompts 2 --reinforce.answers 2 --reinforce.max_tokens 8".split()
    said, status = torchrun(*command, *small, "--reinforce.task", str(tmp_path / "mine.py"))
    assert status != 0
    assert said.count("division by zero") == 1
    assert "lost another process" not in said
