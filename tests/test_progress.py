import pytest
from models import random_model

from crawl2chat.generate import Engine, Sampling, engine
from crawl2chat.stages.progress import Progress


def test_what_ends_soon_shows_nothing(capsys):
    with Progress("read", 2, "page", after=60) as progress:
        progress.update(2)
    assert capsys.readouterr().err == ""


def test_of_two_within_each_other_only_the_outer_one_is_shown(capsys):
    with Progress("outer", 1, "step") as outer:
        with Progress("inner", 1, "answer") as inner:
            inner.update(1)
        outer.update(1)
    with Progress("next", 1, "step") as later:
        later.update(1)
    assert [line.split()[0] for line in capsys.readouterr().err.splitlines()] == ["outer", "next"]


def test_a_failure_within_does_not_hide_those_that_come_after(capsys):
    with pytest.raises(ValueError, match="broken"), Progress("first", 1):
        raise ValueError("broken")
    with Progress("second", 1) as progress:
        progress.update(1)
    assert capsys.readouterr().err.startswith("second")


def test_many_answers_show_how_far_they_are(capsys, monkeypatch, tokenizer):
    monkeypatch.setattr(engine, "SOON", 1e-9)
    asked = Engine(random_model("tied", tokenizer.vocab_size), tokenizer)
    completions = asked.generate(["a", "b", "c"], Sampling(max_tokens=4), label="ask")
    tokens = sum(len(completion.ids) for completion in completions)
    assert f"ask  answer 3/3  {tokens} tokens" in capsys.readouterr().err
