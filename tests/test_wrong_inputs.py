"""What would end a run late is noticed before any work: nothing has been written when the error comes."""

import json

import pytest
from warcs import page_record

from crawl2chat.cli.main import main
from crawl2chat.rl.preferences.store import RankingStore

PAIRS = {"prompt": "Write a verse.", "chosen": "A bee.", "rejected": "No."}


def refused(tmp_path, capsys, *flags: str) -> str:
    """The one error of a run with these flags, which must not have begun to work."""
    assert main(["run", "--out", str(tmp_path / "run"), *flags]) == 1
    assert not (tmp_path / "run").exists()
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (json.dumps({"question": "?", "answer": "!"}).encode(), 'line 1: expected "prompt" (a text) or "messages"'),
        (b'["a", "b"]', 'line 1: expected an object, not ["a", "b"]'),
        (b"prompt,chosen,rejected\n", "it begins with 'prompt,chosen,rejected'"),
        (b"\x89PNG\r\n\x1a\n\xff", "is an image"),
    ],
)
def test_a_file_that_is_neither_a_store_of_rankings_nor_one_of_pairs(tmp_path, capsys, content, found):
    file = tmp_path / "rankings"
    file.write_bytes(content)
    error = refused(tmp_path, capsys, "--prefer.rankings", str(file))
    assert found in error
    assert "expected a store of rankings that `crawl2chat rank` wrote, or JSON lines of pairs" in error
    assert file.read_bytes() == content


def test_a_store_with_too_few_rankings(tmp_path, capsys):
    store = tmp_path / "rankings.sqlite"
    RankingStore(store)
    assert "at least 5 prompts must be ranked" in refused(tmp_path, capsys, "--prefer.rankings", str(store))


@pytest.mark.parametrize("content", [json.dumps(PAIRS), f"\ufeff{json.dumps(PAIRS)}", " \n"])
def test_a_file_of_too_few_pairs(tmp_path, capsys, content):
    file = tmp_path / "pairs.jsonl"
    file.write_text(content, encoding="utf-8")
    assert "at least 5 prompts must be ranked" in refused(tmp_path, capsys, "--prefer.rankings", str(file))


@pytest.mark.parametrize("stage", ["pretrain", "sft", "honesty", "reinforce", "prefer"])
def test_a_tracker_that_is_not_installed(tmp_path, capsys, monkeypatch, stage):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    error = refused(tmp_path, capsys, f"--{stage}.track", "wandb")
    assert f"{stage}.track = wandb: not installed; pip install 'crawl2chat[wandb]'" in error


@pytest.mark.parametrize("stage", ["pretrain", "sft", "honesty", "reinforce", "prefer"])
def test_a_gpu_that_is_not_there(tmp_path, capsys, monkeypatch, stage):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert "no CUDA GPU" in refused(tmp_path, capsys, f"--{stage}.device", "cuda")


def test_files_of_refine_that_can_not_be_used(tmp_path, capsys):
    (tmp_path / "questions.jsonl").write_text("not JSON\n")
    (tmp_path / "classifier").mkdir()
    for setting, value, found in (
        ("decontaminate.against", json.dumps([str(tmp_path / "questions.jsonl")]), "questions.jsonl"),
        ("classifier.model", str(tmp_path / "classifier"), "no classifier here"),
        ("languages", '["klingon"]', "klingon"),
    ):
        assert found in refused(tmp_path, capsys, f"--refine.{setting}", value)


def test_a_stage_by_itself_notices_it_too(tmp_path, capsys, monkeypatch):
    (tmp_path / "a.txt").write_text("A text.")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    command = ["pretrain", str(tmp_path), str(tmp_path), "--out", str(tmp_path / "out"), "--pretrain.track", "trackio"]
    assert main(command) == 1
    assert "pretrain.track = trackio: not installed" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["run", "crawl"])
def test_an_earlier_crawl_stays_when_an_address_can_not_be_reached(tmp_path, capsys, command):
    (tmp_path / "a.warc").write_bytes(page_record(1))
    out = tmp_path / "run" / "crawl" if command == "crawl" else tmp_path / "run"
    flags = [command, "--out", str(out), "--crawl.source", "warc", *(["--until", "crawl"] if command == "run" else [])]
    assert main([*flags, "--crawl.warc", str(tmp_path / "a.warc")]) == 0
    before = {file: file.read_bytes() for file in (tmp_path / "run" / "crawl").iterdir()}
    capsys.readouterr()
    for wrong, found in (("http://127.0.0.1:9/x.warc.gz", "127.0.0.1:9"), (str(tmp_path / "b.warc"), "a PDF")):
        (tmp_path / "b.warc").write_bytes(b"%PDF-1.7 no archive of the web")
        assert main([*flags, "--crawl.warc", wrong]) == 1
        assert found in capsys.readouterr().err
        assert {file: file.read_bytes() for file in (tmp_path / "run" / "crawl").iterdir()} == before


def test_conversations_are_looked_for_below_the_home_folder(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "chats.jsonl").write_text("{}\n")
    assert str(tmp_path / "chats.jsonl") in refused(tmp_path, capsys, "--conversations", "~/chats.jsonl")
