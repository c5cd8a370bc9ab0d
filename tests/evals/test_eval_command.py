import json
import shutil
import sys

import pytest

from crawl2chat.cli.main import main
from crawl2chat.model import ModelConfig, Transformer, save_model
from crawl2chat.stages.files import write_json
from crawl2chat.stages.stage import MANIFEST, hash_path

FIELDS = ("stage", "settings", "inputs", "outputs", "figures", "code", "started", "seconds", "machine")


@pytest.fixture(scope="module")
def exported(tokenizer, tmp_path_factory):
    """A model as anybody's folder."""
    model = Transformer(ModelConfig(tokenizer.vocab_size, 32, 64, 1, 2, 2, 16, max_position_embeddings=128))
    model.init_weights(0)
    folder = tmp_path_factory.mktemp("model")
    save_model(model, folder, stop_ids=sorted(tokenizer.stop_ids), pad_id=tokenizer.end_of_text)
    tokenizer.save(folder)
    return folder


@pytest.fixture
def run(exported, tmp_path):
    """A run with a base and a chat model."""
    for stage in ("pretrain", "sft"):
        shutil.copytree(exported, tmp_path / "run" / stage)
        empty = {name: {} for name in FIELDS[1:6]} | {"started": "", "seconds": 1.0, "machine": {}}
        write_json(tmp_path / "run" / stage / MANIFEST, {"stage": stage, **empty, "outputs": {"x": stage}})
    return tmp_path / "run"


@pytest.fixture
def core(tmp_path):
    folder = tmp_path / "core"
    folder.mkdir()
    listed = {"shots": 0, "type": "schema", "delimiter": " ", "random_baseline_percent": 50.0}
    tasks = [{"task": name, "file": f"{name}.jsonl", **listed} for name in ("here", "gone")]
    (folder / "core.json").write_text(json.dumps(tasks))
    row = {"context_options": ["The mill", "The bridge"], "continuation": "was gone.", "gold": 0}
    (folder / "here.jsonl").write_text(json.dumps(row) + "\n")
    return folder


@pytest.fixture
def gsm8k(tmp_path):
    file = tmp_path / "gsm8k.jsonl"
    file.write_text('{"question": "How many?", "answer": "#### 7"}\n' * 3)
    return file


def test_core_is_kept_in_the_run_with_all_that_it_depends_on(run, core, capsys):
    assert main(["eval", str(run), "--suite", "core", "--stage", "base", "--data", str(core), "--limit", "5"]) == 0
    kept = json.loads((run / "evals" / "core-base.json").read_text())
    assert (kept["suite"], kept["model"], kept["absent_tasks"]) == ("core", "base", ["gone"])
    assert kept["model_hash"] == hash_path(run / "pretrain")
    assert kept["data_sha256"] == hash_path(core)
    assert kept["settings"] == {"data": str(core), "limit": 5}
    assert kept["figures"]["core_tasks_present"]["value"] == 1
    printed = capsys.readouterr().out
    assert "CORE over the tasks present; not there: gone" in printed
    assert "1 of 2" in printed


def test_what_a_chat_model_answered_is_kept_beside_its_figures(run, gsm8k):
    arguments = ["--data", str(gsm8k), "--limit", "2", "--samples", "3", "--max-tokens", "4"]
    assert main(["eval", str(run), "--suite", "gsm8k", *arguments]) == 0
    kept = json.loads((run / "evals" / "gsm8k-sft.json").read_text())
    assert kept["settings"] == {
        "data": str(gsm8k), "limit": 2, "samples": 3, "temperature": 0.8, "max_tokens": 4,
    }  # fmt: skip
    assert set(kept["figures"]) >= {"gsm8k_pass_at_1", "gsm8k_pass_at_3", "gsm8k_questions_too_long"}
    answers = (run / "evals" / "gsm8k-sft.answers.jsonl").read_text().splitlines()
    assert len(answers) == 6
    assert json.loads(answers[0])["expected"] == "7"


def test_the_same_command_measures_the_same(run, gsm8k):
    figures = []
    for _ in range(2):
        arguments = ["--data", str(gsm8k), "--samples", "2", "--max-tokens", "6"]
        assert main(["eval", str(run), "--suite", "gsm8k", *arguments]) == 0
        figures.append((run / "evals" / "gsm8k-sft.answers.jsonl").read_text())
    assert figures[0] == figures[1]


def test_a_model_from_elsewhere_is_measured_and_kept_where_one_says(exported, core, tmp_path, capsys):
    before = hash_path(exported)
    assert main(["eval", str(exported), "--suite", "core", "--data", str(core)]) == 0
    assert "give --out FILE" in capsys.readouterr().err
    assert hash_path(exported) == before
    out = tmp_path / "there" / "core.json"
    assert main(["eval", str(exported), "--suite", "core", "--data", str(core), "--out", str(out)]) == 0
    assert json.loads(out.read_text())["model"] == exported.name


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--suite", "core"], "needs --data"),
        (["--suite", "lm-eval"], "needs --tasks"),
        (["--suite", "core", "--data", "x", "--tasks", "y"], "takes no --tasks"),
        (["--suite", "lm-eval", "--tasks", "x", "--max-tokens", "3"], "takes no --max-tokens"),
        (["--suite", "core", "--data", "nowhere"], "there is no such folder"),
        (["--suite", "arc", "--data", "x.jsonl", "--stage", "base"], "holds a base model"),
        (["--suite", "arc", "--data", "nowhere.jsonl"], "there is no such file"),
        (["--suite", "base", "--stage", "sft"], "takes no other --stage"),
        (["--suite", "base", "--limit", "3"], "takes no --limit"),
        (["--suite", "base"], "does not exist; make it first"),
        (["--suite", "gsm8k", "--data", "GSM", "--samples", "2", "--temperature", "0"], "all samples are the same"),
    ],
)
def test_what_can_not_be_measured_is_said(run, gsm8k, arguments, message, capsys):
    arguments = [str(gsm8k) if argument == "GSM" else argument for argument in arguments]
    assert main(["eval", str(run), *arguments]) == 1
    assert message in capsys.readouterr().err


def test_a_folder_is_not_replaced_by_the_figures(exported, core, tmp_path, capsys):
    (tmp_path / "results" / "of-others").mkdir(parents=True)
    arguments = ["--data", str(core), "--out", str(tmp_path / "results")]
    assert main(["eval", str(exported), "--suite", "core", *arguments]) == 1
    assert "there is a folder of this name; name a file" in capsys.readouterr().err
    assert (tmp_path / "results" / "of-others").is_dir()


def test_a_model_from_elsewhere_has_no_stage_base_to_make_again(exported, capsys):
    assert main(["eval", str(exported), "--suite", "base", "--force"]) == 1
    assert "runs that pretrained their base model" in capsys.readouterr().err


def test_without_the_harness_it_says_how_to_get_it(run, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    assert main(["eval", str(run), "--suite", "lm-eval", "--tasks", "arc_easy"]) == 1
    assert "crawl2chat[lm-eval]" in capsys.readouterr().err
