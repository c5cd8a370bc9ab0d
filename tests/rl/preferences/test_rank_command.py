"""`crawl2chat rank`: with prompts of one's own, and files in place of ranking."""

import json

import pytest

from crawl2chat.cli.main import main
from crawl2chat.rl.preferences.store import Answer, RankingStore
from crawl2chat.train.pretrain import save_stage_model


def run(*arguments):
    return main(["rank", *map(str, arguments)])


def test_prompts_of_ones_own_are_ranked_with_any_model(model, tokenizer, tmp_path, monkeypatch, capsys):
    save_stage_model(model, tokenizer, tmp_path / "tiny")
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"prompt": "One?"}\n{"messages": [{"role": "user", "content": "Two?"}]}\n')
    said = iter(["1=2", "b"])
    monkeypatch.setattr("crawl2chat.chat.line_input.LineInput.line", lambda self, prompt: next(said))
    assert run(tmp_path / "tiny" / "model", "--prompts", prompts, "--annotator", "anna") == 0
    first, second = RankingStore.read(tmp_path / "tiny" / "model" / "rankings.sqlite").judgements()
    assert (first.prompt, first.best_first, second.prompt, second.verdict) == ("One?", ((0, 1),), "Two?", "all_bad")
    assert {answer.author for answer in first.answers} == {"model"}
    assert "1 rankings stored" in capsys.readouterr().out


def test_rankings_go_out_and_in_as_files_and_agreement_is_printed(tmp_path, capsys):
    store = RankingStore(tmp_path / "rankings.sqlite")
    answers = [Answer(text, True, "m", "sft") for text in "abc"]
    for name, order in (("anna", [0, 1, 2]), ("bert", [0, 2, 1])):
        store.add("One?", answers, order, name, seconds=2.0)
    lists, pairs = tmp_path / "lists.jsonl", tmp_path / "pairs.jsonl"
    assert run(tmp_path, "--export", lists, "--export-pairs", pairs) == 0
    assert len(lists.read_text().splitlines()) == 2
    assert len(pairs.read_text().splitlines()) == 6
    other = tmp_path / "other"
    other.mkdir()
    assert run(other, "--import", lists, "--export", "-") == 0
    told = capsys.readouterr()
    assert told.out == lists.read_text()
    assert "2 judgements added" in told.err
    assert run(other, "--import", lists, "--agreement") == 0
    told = capsys.readouterr()
    assert "0 judgements added" in told.err
    assert "anna and bert: same order 66.7 %" in told.out
    assert "of 3 pairs in 1 prompts, Kendall's tau-b 0.3333" in told.out


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--export", "out.jsonl"], "rankings.sqlite: no such file; rank first"),
        (["--import", "missing.jsonl"], "missing.jsonl: can't be read"),
        (["--import", "bad.jsonl"], "bad.jsonl: line 1: answers: expected a list of 2 to 9"),
        (["--prompts", "bad.jsonl", "--answers", "12"], "k = 12: must be from 2 to 9"),
        ([], "no such file; expected a file of prompts"),
    ],
)
def test_what_can_not_be_done_is_said_in_one_line(model, tokenizer, tmp_path, monkeypatch, capsys, arguments, word):
    save_stage_model(model, tokenizer, tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.jsonl").write_text(json.dumps({"prompt": "One?", "answers": 3}) + "\n")
    assert run(".", *arguments) == 1
    error = capsys.readouterr().err
    assert word in error
    assert "Traceback" not in error
