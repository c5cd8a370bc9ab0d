"""What the stage `base` reads of a run, and on which runs it gives up or measures less."""

import json

import pytest
from models import random_model

from crawl2chat.evals.base import model_under_test
from crawl2chat.evals.base.model_under_test import ModelUnderTest
from crawl2chat.evals.base.settings import BaseSettings
from crawl2chat.evals.base.stage import measure_base
from crawl2chat.stages.files import StageError, write_json
from crawl2chat.stages.stage import Manifest, hash_path
from crawl2chat.tokenizer.tokenize import tokenize
from crawl2chat.train.pretrain import save_stage_model


def pretrained(tokenizer, run, held_out):
    """A run over 40 documents of a web that nobody has a ledger of; the model has random weights."""
    (run / "refine").mkdir(parents=True)
    rows = [{"id": f"d{i}", "text": f"The miller's daughter counted {i} mills and 3 bridges."} for i in range(40)]
    (run / "refine" / "documents.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    save_stage_model(random_model("tied", tokenizer.vocab_size), tokenizer, run / "pretrain")
    settings = {"held_out": held_out, "seed": 5}
    tokenize(run / "refine", run / "pretrain" / "model", run / "pretrain" / "tokens", **settings)
    manifest = Manifest("pretrain", settings, {"refine": hash_path(run / "refine")}, {}, {}, {}, "", 1.0, {})
    write_json(run / "pretrain" / "manifest.json", vars(manifest))
    return run


def places(run):
    return [run / name for name in ("crawl", "refine", "pretrain", "base")]


def test_held_out_documents_come_with_their_texts_and_no_more_than_are_measured(tokenizer, tmp_path, monkeypatch):
    run = pretrained(tokenizer, tmp_path / "run", held_out=0.3)
    whole = ModelUnderTest.load(*places(run), BaseSettings())
    texts = [document.text for document in whole.documents]
    assert len(texts) > 5
    assert [tokenizer.decode(ids[1:].tolist()) for ids in (whole.held_out[i] for i in range(len(texts)))] == texts
    monkeypatch.setattr(model_under_test, "MAX_HELD_OUT_TOKENS", len(whole.held_out[0]) + len(whole.held_out[1]))
    some = ModelUnderTest.load(*places(run), BaseSettings())
    assert [document.text for document in some.documents] == texts[:2]
    monkeypatch.setattr(model_under_test, "MAX_HELD_OUT_TOKENS", 1)  # one document always
    assert len(ModelUnderTest.load(*places(run), BaseSettings()).documents) == 1


def test_copies_are_looked_for_in_as_much_text_as_the_settings_say(tokenizer, tmp_path):
    run = pretrained(tokenizer, tmp_path / "run", held_out=0.3)
    subject = ModelUnderTest.load(*places(run), BaseSettings())
    assert len(subject.searched) == len(subject.training)
    some = ModelUnderTest.load(*places(run), BaseSettings(searched_tokens=len(subject.training[0]) + 1))
    assert len(some.searched) == 1
    assert len(some.training) == len(subject.training)


def test_documents_made_anew_since_are_told(tokenizer, tmp_path):
    run = pretrained(tokenizer, tmp_path / "run", held_out=0.3)
    (run / "refine" / "more.jsonl").write_text('{"id": "a", "text": "Another."}\n')
    with pytest.raises(StageError, match="is not what .* was trained on"):
        ModelUnderTest.load(*places(run), BaseSettings())


def test_where_nothing_was_held_out_the_rest_is_measured(tokenizer, tmp_path):
    run = pretrained(tokenizer, tmp_path / "run", held_out=1e-9)
    (run / "base").mkdir()
    figures = measure_base(*places(run), BaseSettings(questions=4, samples=2))
    names = {figure.name.partition("/")[0] for figure in figures}
    assert "tokens_of" in names
    assert not names & {"bits_per_byte", "distinct_1"}
