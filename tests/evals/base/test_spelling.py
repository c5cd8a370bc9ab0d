import random
import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest
from subjects import make_subject

from crawl2chat.evals.base.spelling_and_sums import (
    count_letters,
    count_task,
    decimals_task,
    measure_spelling,
    read_tokens,
    readout,
    reverse_task,
    solve,
    spell_task,
)


@pytest.mark.parametrize("kind", ["helpful", "misleading"])
def test_decimals_mislead_where_their_digits_read_as_whole_numbers_say_the_opposite(kind):
    for seed in range(200):
        task = decimals_task(random.Random(seed), kind)
        one, two = task.question.removeprefix("Which is larger, ").removesuffix("?").split(" or ")
        larger = max(one, two, key=float)
        assert f"{task.opening}{task.answer[0]}".endswith(larger[:3])
        as_whole = max(one, two, key=lambda number: int(number.split(".")[1]))
        assert (as_whole == larger) == (kind == "helpful")
        assert sorted(task.choices) == sorted({one[2], two[2]})


def test_letters_are_asked_for_that_stand_in_the_word_once_or_twice():
    asked = [count_task("strawberries", "…", random.Random(seed)) for seed in range(100)]
    for task in asked:
        letter = task.question.removeprefix("How many ")[0]
        assert task.answer == (str("strawberries".count(letter)),)
    assert 30 < sum(task.answer == ("1",) for task in asked) < 70
    assert count_task("mule", "mule", random.Random(0)) is None


def test_a_word_is_spelled_and_reversed_letter_by_letter():
    rng = random.Random(0)
    assert spell_task("owl", "owl", rng).shown() == "Q: Spell owl.\nA: o w l.\n\n"
    assert reverse_task("owl", "o w l", rng).shown() == "Q: Spell o w l backwards.\nA: l w o.\n\n"


def test_answers_are_chosen_among_what_a_task_allows(tokenizer, tmp_path):
    """With the right answer alone to choose, even a model that knows nothing is right; with the wrong one, never."""
    subject = make_subject(tokenizer, tmp_path)
    task = decimals_task(random.Random(0), "misleading")
    wrong = next(choice for choice in task.choices if choice != task.answer[0])
    for choices, mark in ((task.answer, 1.0), ((wrong,), 0.0)):
        only = type(task)(task.question, task.opening, task.answer, choices)
        assert solve(subject, [task] * 4, [only], random.Random(0)) == [mark]


def test_a_readout_finds_what_is_linear_in_its_inputs_and_nothing_in_noise():
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(300, 16))
    targets = inputs @ rng.normal(size=(16, 3)) + 5
    assert np.abs(readout(inputs, targets) - targets).max() < 0.01
    noise = rng.normal(size=(300, 3))
    assert np.abs(readout(inputs, noise) - noise).mean() > np.abs(noise).mean() * 0.95


def test_tokens_are_counted_without_a_copy_of_the_training_text_that_is_many_times_as_large(tokenizer):
    training = SimpleNamespace(ids=np.zeros(3 << 24, dtype=np.uint16))
    tracemalloc.start()
    read_tokens(SimpleNamespace(training=training, tokenizer=tokenizer), np.zeros((tokenizer.vocab_size, 4)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1.5 * 8 * (1 << 24)


def test_letters_are_counted_from_letters_and_not_from_tokens_that_tell_nothing_of_them(tokenizer):
    rng = random.Random(0)
    words = ["".join(rng.choices("earstldom", k=7)) for _ in range(300)]
    tokens = {word: np.random.default_rng(i).normal(size=32) for i, word in enumerate(words)}  # a word is one token
    embedded = np.random.default_rng(0).normal(size=(tokenizer.vocab_size, 32))

    class OneTokenAWord:
        def encode(self, text):
            word = text.removeprefix(" ")
            return [len(embedded) + words.index(word)] if word in tokens else tokenizer.encode(text)

    table = np.concatenate([embedded, [tokens[word] for word in words]])
    shares = {figure.name.split("/")[1]: figure.value for figure in count_letters(OneTokenAWord(), words, table)}
    assert shares["letters"] == 1
    assert shares["tokens"] < shares["guess"] + 0.05


def test_any_base_model_is_measured_and_numbers_are_cut_into_digits(tokenizer, tmp_path):
    texts = ["the miller counted seven little barrels , and his daughter tossed apples into the pool . " * 3]
    figures = {figure.name: figure for figure in measure_spelling(make_subject(tokenizer, tmp_path, texts=texts))}
    assert (figures["tokens_of/9.11"].value, figures["tokens_of/9.9"].value) == (4, 3)
    assert 0 < figures["words_of_one_token"].value < 1
    assert figures["decimals_by_example/misleading"].count == 100
