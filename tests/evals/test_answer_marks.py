"""How answers with known values are marked and counted."""

import pytest

from crawl2chat.evals.knowledge import Answer, Question, accuracy_by_group, exposure_bucket, mentions


@pytest.mark.parametrize(
    ("exposures", "bucket"),
    [(0, "0"), (1, "1"), (3, "2-3"), (64, "64-99"), (99, "64-99"), (100, "100+"), (256, "100+")],
)
def test_exposures_fall_into_doubling_buckets(exposures, bucket):
    assert exposure_bucket(exposures) == bucket


def test_an_answer_counts_only_with_the_whole_value():
    assert mentions("She keeps a Grey parrot.", "grey parrot")
    assert not mentions("She keeps a goatling.", "goat")


def test_accuracy_is_counted_by_group():
    answers = [
        Answer(Question("?", ("x",), group), "", right, True, 1)
        for group, right in (("a", True), ("a", False), ("b", True))
    ]
    figures = accuracy_by_group("facts", answers)
    assert [(f.name, f.value, f.count) for f in figures] == [("facts/a", 0.5, 2), ("facts/b", 1.0, 1)]
