import json
from typing import Any

import pytest
import torch
from asked_server import Reply, says, serving
from models import random_model

from crawl2chat.cli.main import main
from crawl2chat.generate import Engine, Sampling
from crawl2chat.generate.chat_models import LocalModel, choice_ids, named_choice
from crawl2chat.rl.preferences.judge import compare, judge_answers, score
from crawl2chat.rl.preferences.preference_files import read_judgements
from crawl2chat.rl.preferences.store import Prompt
from crawl2chat.tokenizer import Message


class Scripted:
    """A judge that says what a function of the question makes it say."""

    name = "scripted"

    def __init__(self, weigh) -> None:
        self.weigh_one = weigh

    def answer(self, conversations, sampling):
        raise AssertionError("a judge weighs")

    def weigh(self, conversations, choices):
        return [self.weigh_one(messages[-1]["content"]) for messages in conversations]


def shown(question: str) -> tuple[str, str]:
    one, other = question.partition("Answer A:\n")[2].split("\n\nAnswer B:\n")
    return one, other.partition("\n</data>")[0]


def longer_is_better(question: str) -> list[float]:
    one, other = shown(question)
    return [0.9, 0.1] if len(one) > len(other) else [0.2, 0.8]


HELLO = Prompt("Say hello.")


def test_two_answers_are_shown_in_both_orders_and_tied_unless_both_say_the_same():
    pairs = [(HELLO, "a long answer", "short"), (HELLO, "x", "longer")]
    assert [c.points for c in compare(Scripted(longer_is_better), pairs)] == [1, 0]
    first = compare(Scripted(lambda question: [0.7, 0.3]), pairs)
    assert [(c.agrees, c.points) for c in first] == [(False, 0.5)] * 2


def rows(tmp_path, *values: dict[str, Any]):
    file = tmp_path / "answers.jsonl"
    file.write_text("".join(json.dumps(value) + "\n" for value in values))
    return file


def test_answers_are_ranked_by_their_comparisons_and_figures_say_how_far_to_trust_them(tmp_path):
    from crawl2chat.rl.preferences.judge import read_answers

    asked = read_answers(
        rows(
            tmp_path,
            {"prompt": "Say hello.", "answers": ["hi", "hello there", "good morning to you"]},
            {"prompt": "Say bye.", "chosen": "goodbye", "rejected": "bye"},
            {"prompt": "Say yes.", "chosen": "y", "rejected": "yes"},
        )
    )
    judged, figures = judge_answers(Scripted(longer_is_better), asked)
    assert [ranking.best_first for ranking in judged] == [((2,), (1,), (0,)), ((0,), (1,)), ((1,), (0,))]
    assert {ranking.annotator for ranking in judged} == {"judge scripted"}
    values = {figure.name: (figure.value, figure.count) for figure in figures}
    assert values["both_orders_agree"] == (1, 5)
    assert values["orders_as_given"] == (0.5, 2)
    silent, figures = judge_answers(Scripted(lambda question: None), asked)
    assert {ranking.verdict for ranking in silent} == {"skipped"}
    assert {figure.name: figure.value for figure in figures}["without_judgement"] == 1


def test_a_score_is_the_expected_rating(tmp_path):
    assert score(Scripted(lambda question: [0, 0, 0.5, 0, 0.5]), [(HELLO, "hi")]) == [4.0]
    assert str(score(Scripted(lambda question: None), [(HELLO, "hi")])) == "[nan]"


@pytest.mark.parametrize(
    ("text", "choice"),
    [("B", "B"), ("**A**", "A"), ("A is bad, so B.", "B"), ("Neither.", None), ("AB", None), ("", None)],
)
def test_the_choice_of_a_server_is_the_one_named_last(text, choice):
    assert named_choice(text, ("A", "B")) == choice


@pytest.mark.parametrize(("text", "choice"), [("Score: 4/5", "4"), ("4.5", None), ("3, then 2.", "2"), ("14", None)])
def test_a_rating_is_a_whole_number(text, choice):
    assert named_choice(text, "12345") == choice


def test_a_local_model_weighs_by_its_own_next_token(tokenizer):
    model = random_model("tied", tokenizer.vocab_size)
    messages = [Message(role="user", content="Which?")]
    prompt, ids = choice_ids(tokenizer, messages, ("A", "B"))
    expected = model.logits(model.features(torch.tensor([prompt]))[:, -1])[0, ids].softmax(-1)
    [weights] = LocalModel(Engine(model, tokenizer), "m").weigh([messages], ("A", "B"))
    assert weights == pytest.approx(expected.tolist(), abs=1e-5)


def test_a_local_model_answers_alike_whatever_else_is_asked_and_nothing_where_a_question_is_too_long(tokenizer):
    model = LocalModel(Engine(random_model("tied", tokenizer.vocab_size), tokenizer), "m")
    questions = [[Message(role="user", content=text)] for text in ("In 1842", "seventeen mills " * 40, "a bridge")]
    sampling = Sampling(temperature=1, max_tokens=6)
    one, too_long, other = model.answer(questions, sampling)
    assert too_long is None
    assert [one] == model.answer(questions[:1], sampling)
    assert [other] == model.answer(questions[2:], sampling)


def test_the_command_writes_rankings_that_prefer_reads_and_asks_nothing_twice(tmp_path, capsys):
    file = rows(tmp_path, *({"prompt": f"Say {n}.", "answers": ["no", "a longer answer"]} for n in range(6)))

    def reply(body: dict[str, Any]) -> Reply:
        return says("A" if longer_is_better(body["messages"][-1]["content"])[0] > 0.5 else "I say B.")

    out = tmp_path / "judged.jsonl"
    with serving(reply) as server:
        command = ["judge-answers", str(file), "--url", server.url, "--model", "m", "--out", str(out)]
        assert main(command) == 0
        assert len(server.asked) == 12
        assert main(command) == 0
        assert len(server.asked) == 12
    assert "both orders agree" in capsys.readouterr().out
    judged = read_judgements(out, "nobody")
    assert [ranking.best_first for ranking in judged] == [((1,), (0,))] * 6
    assert main(["judge-answers", str(file), "--out", str(out)]) == 1
    assert "give either --with PATH, or --url URL and --model NAME" in capsys.readouterr().err
