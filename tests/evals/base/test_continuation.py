import json

import pytest
from subjects import make_subject

from crawl2chat.evals.base.continuation import distinct, jackknife, measure_continuation, ngrams, similarity

TEXTS = [
    f"The miller's daughter went down to the river at dawn on day {i}; nobody had told her that the bridge was gone. "
    "In 1842 they counted 17 mills, 3 bridges and one inn. By 1850 there were 23 mills."
    for i in range(6)
]


def grams(n, *texts):
    return [ngrams(text.split(), n) for text in texts]


def test_distinct_is_types_over_tokens_of_all_texts():
    assert distinct(grams(1, "a b a", "b c")) == 3 / 5
    assert distinct(grams(2, "a b a", "a b")) == 2 / 3
    assert distinct(grams(3, "a b", "")) == 0


def test_similarity_is_the_mean_over_pairs_of_what_stands_in_the_other():
    texts = grams(2, "a b c", "a b d e", "x y")  # in the other: 1/2, 0; 1/3, 0; 0, 0
    assert similarity(texts) == pytest.approx((1 / 2 + 1 / 3) / 6)
    assert similarity(grams(1, "a b", "a b", "")) == 1
    assert similarity(grams(1, "a b")) == 0


def test_the_jackknife_of_a_mean_is_the_interval_of_the_mean():
    texts = grams(1, "a", "b", "c d", "e f", "g g g g")
    figure = jackknife("half_the_long", texts, lambda some: sum(len(text) > 1 for text in some) / len(some) / 2 + 0.2)
    variance = (3 * 0.4**2 + 2 * 0.6**2) / 4 / 5
    assert figure.value == 0.5
    assert figure.interval[0] == pytest.approx(0.5 - 2.78 * variance**0.5 / 2)  # Student's t of 4 degrees of freedom


def test_every_setting_has_its_figures_and_rows_and_they_are_the_same_again(tokenizer, tmp_path):
    subject = make_subject(tokenizer, tmp_path, texts=TEXTS[:2], held_out=TEXTS[2:], samples=4)
    figures = {figure.name: figure for figure in measure_continuation(subject)}
    settings = [f"temperature_{t}" for t in ("0", "0.5", "0.8", "1", "1.2")] + [
        f"top_p_{p}" for p in ("0.5", "0.8", "0.95")
    ]
    for setting in settings:
        for figure in ("distinct_1", "distinct_2", "distinct_3", "self_similarity", "verbatim", "ended"):
            assert 0 <= figures[f"{figure}/{setting}"].value <= 1
    assert figures["verbatim/held_out"].value > 0.5  # those texts differ from the training texts by a number
    assert figures["distinct_1/temperature_0"].value < figures["distinct_1/temperature_1.2"].value
    written = (subject.out / "continuations.jsonl").read_text()
    rows = [json.loads(line) for line in written.splitlines()]
    assert len(rows) == 9 * 4
    held_out = next(row for row in rows if row["setting"] == "held_out")
    (match,) = held_out["matches"][:1]
    assert any(held_out["text"][match["begin"] : match["end"]] in text for text in TEXTS[:2])
    assert {figure.name: figure for figure in measure_continuation(subject)} == figures
    assert (subject.out / "continuations.jsonl").read_text() == written


def test_a_prompt_is_a_document_but_for_its_last_tokens_as_far_as_the_context_has_room(tokenizer, tmp_path):
    subject = make_subject(tokenizer, tmp_path, texts=TEXTS[:1], held_out=TEXTS[1:3], samples=2)
    measure_continuation(subject)
    first, second = (json.loads(line) for line in (subject.out / "continuations.jsonl").read_text().splitlines()[:2])
    assert first["prompt"] == ""
    assert TEXTS[1].startswith(first["text"])
    assert second["prompt"]
    assert second["prompt"] + second["text"] in TEXTS[2]


def test_no_document_is_taken_twice_where_few_were_held_out(tokenizer, tmp_path):
    """What people wrote would look as if it repeated itself."""
    held_out = ["One mill stood by the river at dawn.", "Nobody knew who had built it, nor when."]
    subject = make_subject(tokenizer, tmp_path, held_out=held_out, samples=8)
    figures = {figure.name: figure for figure in measure_continuation(subject)}
    assert figures["self_similarity/held_out"].value == 0
    assert figures["self_similarity/held_out"].count == figures["distinct_3/temperature_1"].count == 2
    alone = make_subject(tokenizer, tmp_path / "alone", held_out=held_out[:1], samples=8)
    assert measure_continuation(alone) == []
