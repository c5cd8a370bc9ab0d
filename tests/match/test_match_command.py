"""`crawl2chat match` shows what of a text was copied, and from where."""

import io
import json

import pytest
from models import random_model

from crawl2chat.cli.main import main
from crawl2chat.match.sources import documents_of
from crawl2chat.stages.files import StageError, write_json
from crawl2chat.stages.stage import Manifest, hash_path
from crawl2chat.tokenizer.tokenize import held_out_documents
from crawl2chat.train.pretrain import save_stage_model

OLD = "When the tired bridge forgot the river, eleven grey lanterns burned behind the mill."


def write_documents(folder, *texts):
    folder.mkdir(parents=True, exist_ok=True)
    rows = [{"id": f"d{i}", "text": text, "url": f"http://host/{i}"} for i, text in enumerate(texts)]
    (folder / "documents.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture
def run(tokenizer, tmp_path):
    """A run whose base model has random weights, and was trained on some of 40 documents."""
    run = tmp_path / "run"
    refined = write_documents(run / "refine", *(f"{OLD} It was day {i}." for i in range(40)))
    save_stage_model(random_model("tied", tokenizer.vocab_size), tokenizer, run / "pretrain")
    settings = {"held_out": 0.3, "seed": 5}
    manifest = Manifest("pretrain", settings, {"refine": hash_path(refined)}, {}, {}, {}, "", 1.0, {})
    write_json(run / "pretrain" / "manifest.json", vars(manifest))
    return run


def test_a_copied_stretch_is_marked_with_its_length_its_copies_and_where_it_stands(tmp_path, capsys):
    write_documents(
        tmp_path, "Nothing.", f"A sign. {OLD}", f"{OLD} Yes.", "Every mill stands beside a river, they say, too."
    )
    text = f"It said:\n{OLD}\nEvery mill stands beside a river, they say."
    assert main(["match", str(tmp_path), text, "Something else."]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "It said:",
        f"[1: {OLD}]",
        "[2: Every mill stands beside a river, they say].",
        "   1  14 words, 2 times, first in d1 http://host/1",
        "   2  8 words, once, first in d3 http://host/3",
        "91.7 % of 24 words are in matches of at least 8 words",
        "Something else.",
        "2 words are too few for a match of at least 8 words (--min-words)",
    ]


def test_a_text_from_stdin_and_another_least_length(tmp_path, capsys, monkeypatch):
    write_documents(tmp_path, OLD)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"the tired bridge, forgot the river\n")))
    assert main(["match", str(tmp_path), "-", "--min-words", "3"]) == 0
    assert capsys.readouterr().out.startswith("[1: the tired bridge], [2: forgot the river]\n")


def test_a_single_file_will_do(tmp_path, capsys):
    write_documents(tmp_path, OLD)
    assert main(["match", str(tmp_path / "documents.jsonl"), OLD]) == 0
    assert "100.0 % of 14 words" in capsys.readouterr().out


def test_of_a_run_those_documents_are_looked_at_that_its_model_was_trained_on(run):
    held_out = {document.id for document in held_out_documents(run / "refine", held_out=0.3, seed=5)}
    trained_on = {document.id for document in documents_of(run)}
    assert 0 < len(held_out) < 40
    assert trained_on == {f"d{i}" for i in range(40)} - held_out
    assert len(list(documents_of(run / "refine"))) == 40


def test_documents_made_anew_since_are_not_what_the_model_learned_from(run):
    write_documents(run / "refine", "Others.")
    with pytest.raises(StageError, match="others than its base model was trained on"):
        documents_of(run)


def test_what_a_model_writes_is_looked_for(run, capsys):
    assert main(["match", str(run), "When the", "--generate", "2", "--max-tokens", "5"]) == 0
    out = capsys.readouterr().out
    assert out.count("When the") == 2
    assert out.count("too few for a match of at least 8 words") == 2


def test_without_a_text_or_a_place_the_command_says_so(tmp_path, capsys):
    write_documents(tmp_path, OLD)
    assert main(["match", str(tmp_path)]) == 1
    assert "give a TEXT to look for, - for stdin, or --generate N" in capsys.readouterr().err
    assert main(["match", str(tmp_path / "none"), "a"]) == 1
    assert "no documents here" in capsys.readouterr().err
    assert main(["match", str(tmp_path), "a", "--generate", "1"]) == 1
    assert "has no finished model of the stage base" in capsys.readouterr().err
