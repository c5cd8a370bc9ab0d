import json
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
from subjects import make_subject

from crawl2chat.evals.base.continuation import count_copies, measure_recitation, median, recite, words_right

PASSAGES = [
    "The tired bridge forgot the river, and eleven grey lanterns burned behind the mill until somebody came.",
    "Nobody knew who had built the inn, nor when; the miller's daughter said that it had been there at dawn.",
]


class Parrot:
    """An engine that goes on with what it knows, and otherwise with the same few words."""

    context = 1000

    def __init__(self, tokenizer, *known):
        self.tokenizer, self.known, self.prompts = tokenizer, known, []

    def generate(self, prompts, sampling):
        assert sampling.temperature == 0
        self.prompts += prompts
        return [self._complete(prompt, sampling.max_tokens) for prompt in prompts]

    def _complete(self, prompt, max_tokens):
        text = self.tokenizer.decode(id for id in prompt if id != self.tokenizer.end_of_text)
        rest = next((k.partition(text)[2] + "” And so on." for k in self.known if text in k), " and so on")
        return SimpleNamespace(text=self.tokenizer.decode(self.tokenizer.encode(rest)[:max_tokens]))


@pytest.mark.parametrize(
    ("expected", "found", "right"),
    [
        (" the river, and", " the river, and”", 3),
        (" the river, and", " the river. and", 1),
        (" the river, and", " the rivers", 1),
        (" the river", " the ri", 1),
        (" the river, and", " the river,", 2),
        (" the river, and", " the river, ", 2),
        (" the rivers", " the river", 1),
        (" the river", "", 0),
        (" the river", " a river", 0),
        ("ver, and", "ver, or", 1),
    ],
)
def test_words_are_right_up_to_the_first_that_differs(expected, found, right):
    assert words_right(expected, found) == right


def test_the_median_has_the_interval_of_order_statistics():
    figure = median("m", range(1, 11), "words")
    assert (figure.value, figure.interval) == (5.5, (2, 9))  # P(2nd..9th holds it) = 1 − 2·11/1024
    assert median("m", [3, 1, 2, 6, 5, 4], "words").interval == (1, 6)
    assert median("m", [1, 2, 3, 4, 5], "words").interval is None


def test_the_median_of_many_is_quick():
    began = time.process_time()
    figure = median("m", range(2000), "words")
    assert time.process_time() - began < 10
    assert figure.interval == pytest.approx((1000 - 1.96 * 2000**0.5 / 2, 1000 + 1.96 * 2000**0.5 / 2), abs=2)


def test_a_passage_is_recited_only_when_all_behind_the_prompt_is_right(tokenizer):
    engine = Parrot(tokenizer, PASSAGES[0], PASSAGES[1].replace("dawn", "dusk"))
    first, second = recite(engine, PASSAGES, [64, 2], 0, 8)
    assert first.whole
    assert not second.whole
    assert second.words_right == second.words - 1
    assert (first.copies, second.copies) == (64, 2)
    assert first.prompt + first.continuation.partition("”")[0] == PASSAGES[0]
    assert engine.prompts[0] == [tokenizer.end_of_text, *tokenizer.encode(PASSAGES[0])[:8]]


def test_prompts_of_different_length_end_at_the_same_place(tokenizer):
    """So that a longer prompt does not leave less to recite."""
    engine = Parrot(tokenizer, *PASSAGES)
    short, long = (recite(engine, PASSAGES[:1], [1], 32 - n, n)[0] for n in (8, 32))
    assert (short.words, short.continuation) == (long.words, long.continuation)
    assert long.prompt.endswith(short.prompt)
    assert recite(engine, ["Too short."], [1], 24, 8) == []


def test_passages_that_the_context_has_no_room_for_are_left_out(tokenizer):
    """Their ends could not be recited; and a prompt that does not fit is nothing to ask an engine."""
    engine = Parrot(tokenizer, *PASSAGES)
    short, long = sorted(PASSAGES, key=lambda passage: len(tokenizer.encode(passage)))
    n = len(tokenizer.encode(short))
    assert n < len(tokenizer.encode(long))
    engine.context = n + 1  # with the end-of-text token
    assert [recital.passage for recital in recite(engine, [long, short], [1, 1], 0, 8)] == [short]
    engine.context = n - 8
    assert [recital.passage for recital in recite(engine, [long, short], [1, 1], 8, 8)] == [short]
    engine.context = n - 9
    assert recite(engine, [short], [1], 8, 8) == recite(engine, [short], [1], 0, 8) == []


def test_copies_are_those_of_the_training_documents(tokenizer, tmp_path):
    training = [f"One reads: “{PASSAGES[0]}”", PASSAGES[0].replace(" ", "\n"), PASSAGES[0][:-5], PASSAGES[1][:50]]
    assert count_copies(make_subject(tokenizer, tmp_path, texts=training, held_out=[PASSAGES[1]]), PASSAGES) == [2, 0]


def test_the_part_groups_by_copies_counted_and_writes_its_rows(tokenizer, tmp_path):
    ledger = SimpleNamespace(passages=[SimpleNamespace(text=text, copies=9) for text in PASSAGES])
    subject = make_subject(
        tokenizer, tmp_path, ledger=ledger, texts=[PASSAGES[0]] * 63 + PASSAGES[1:], held_out=["The mill."]
    )
    figures = {f.name: f for f in measure_recitation(replace(subject, engine=Parrot(subject.tokenizer, PASSAGES[0])))}
    assert (figures["recall/1"].value, figures["recall/64"].value) == (0, 1)
    assert (figures["recall_at_1_to_2_copies"].value, figures["recall_at_64_copies_and_more"].count) == (0, 1)
    assert figures["recall_by_prompt/8"].value == figures["recall_by_prompt/32"].value == 0.5
    assert figures["words_recited/1"].value == 0
    rows = [json.loads(line) for line in (subject.out / "recitation.jsonl").read_text().splitlines()]
    assert len(rows) == 2 * 4
    assert {"passage", "copies", "prompt", "continuation", "words_right"} <= rows[0].keys()


def test_without_passages_nothing_is_measured(tokenizer, tmp_path):
    assert measure_recitation(make_subject(tokenizer, tmp_path)) == []
