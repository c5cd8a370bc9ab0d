import json
from types import SimpleNamespace

import pytest

from crawl2chat.chat.held_out import answer_pairs, compare_answers, pairs_of, shared_words
from crawl2chat.chat.settings import SftSettings
from crawl2chat.chat.sft import _repeat
from crawl2chat.stages.settings import RecipeError, load_settings

E04, E11 = "Error E04: the sensor is wet. Dry it.", "Error E11: the motor is too hot. Let it cool."


def pair(question, answer):
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


class Scripted:
    """An engine that answers from a table of questions."""

    def __init__(self, answers, tokenizer):
        self.answers, self.tokenizer, self.context = answers, tokenizer, 100

    def generate(self, prompts, sampling):
        assert sampling.temperature == 0
        texts = [self.tokenizer.decode(prompt) for prompt in prompts]
        found = [next(a for q, a in self.answers.items() if f"{q}<|im_end|>" in text) for text in texts]
        return [SimpleNamespace(text=answer) for answer in found]


def test_an_answer_that_is_another_questions_is_found(tmp_path, tokenizer):
    held_out = pairs_of([pair("What is E04?", E04), pair("What is E11?", E11), pair("x" * 400, "Long.")], 9, seed=0)
    taught = pairs_of([pair("And 3 + 4?", "It takes a step. The answer is 7.")], 9, seed=0)
    before = Scripted({"What is E04?": "No idea.", "What is E11?": E11}, tokenizer)
    after = Scripted({"What is E04?": E11, "What is E11?": f" {E11}\n", "And 3 + 4?": "Well, 7 it is."}, tokenizer)
    figures = {f.name: f for f in compare_answers(answer_pairs(before, held_out), after, held_out, taught, tmp_path)}
    assert figures["held_out_answers_before/word_for_word"].value == pytest.approx(1 / 3)
    assert figures["held_out_answers_after/word_for_word"].value == pytest.approx(1 / 3)
    assert figures["held_out_answers_before/of_another_question"].value == 0
    assert figures["held_out_answers_after/of_another_question"].value == pytest.approx(1 / 3)
    assert figures["taught_answers/word_for_word"].value == 0
    assert figures["taught_answers/key_part"].value == 1
    rows = [json.loads(line) for line in (tmp_path / "held_out_answers.jsonl").read_text().splitlines()]
    assert [row["split"] for row in rows] == ["held_out"] * 3 + ["taught"]
    assert (rows[0]["before"], rows[0]["answer"], rows[0]["closer_to"]) == ("No idea.", E11, E11)
    assert (rows[1]["word_for_word"], rows[1]["closer_to"]) == (True, None)
    assert rows[2]["answer"] == ""  # its question leaves no room


def test_only_texts_that_end_a_conversation_are_compared():
    call = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": {}}}]}
    usable = [*pair("a", "b"), *pair("c", "d")]
    others = [pair("a", "b")[:1], [*pair("a", "b")[:1], call], pair("a", " "), pair("a", "b")[1:]]
    others.append([*pair("a", "b")[:1], {**pair("a", "b")[1], "weight": 0}])
    (found,) = pairs_of([*others, usable], 10, seed=0)
    assert (found.before, found.question, found.reference) == (usable[:3], "c", "d")


def test_shared_words_are_f1_over_words():
    assert shared_words("The cat sat.", "the cat SAT") == 1
    assert shared_words("a a b", "a c") == pytest.approx(2 * 1 / 5)
    assert shared_words("", "a") == 0


def test_a_mixture_reads_files_as_often_as_it_says():
    settings = load_settings(SftSettings, None, ["--sft.mixture", "my chats=1.jsonl=0.5"], table="sft")
    assert [(str(file), times) for file, times in settings.mixed_in()] == [("my chats=1.jsonl", 0.5)]
    with pytest.raises(RecipeError, match=r"a\.jsonl: expected FILE=NUMBER"):
        load_settings(SftSettings, None, ["--sft.mixture", "a.jsonl"], table="sft")
    rows = [pair(str(i), "x") for i in range(10)]
    repeated = [messages[0]["content"] for messages in _repeat(rows, 2.5, "seed")]
    assert len(repeated) == 25
    assert sorted({repeated.count(str(i)) for i in range(10)}) == [2, 3]
    assert _repeat(rows, 0.3, "a") == _repeat(rows, 0.3, "a") != _repeat(rows, 0.3, "b")
