import re

import pytest

from crawl2chat.honesty.invented import BEGINNINGS, ENDINGS, GIVEN, NOUNS, WORDINGS, invented_questions


def test_names_that_are_taught_and_names_that_are_measured_share_no_part():
    for taught, measured in (GIVEN, BEGINNINGS, ENDINGS, NOUNS):
        assert not set(taught) & set(measured)
    rows = invented_questions(200, 200, seed=1)
    capitals = {
        split: {word for row in rows if row.split == split for word in re.findall(r"[A-Z]\w{3,}", row.wordings[0])}
        for split in ("train", "held_out")
    }
    of_wordings = {word for ways in WORDINGS.values() for way in ways for word in re.findall(r"[A-Z]\w{3,}", way)}
    assert capitals["train"] & capitals["held_out"] <= of_wordings


def test_the_first_measured_question_is_the_lectures_and_no_name_comes_twice():
    rows = invented_questions(100, 100, seed=0)
    assert next(row.wordings[0] for row in rows if row.split == "held_out") == "Who is Orson Kovats?"
    assert len(rows) == 200 == len({row.wordings for row in rows})
    assert {row.group for row in rows if row.split == "held_out"} == set(WORDINGS)
    assert not any(row.answers for row in rows)


def test_half_of_the_wordings_are_only_measured():
    taught = {row.wordings[0].split()[0] + row.group for row in invented_questions(400, 0, seed=0)}
    assert "Summarise" + "invented books" not in taught
    assert invented_questions(0, 0, seed=0) == []


def test_more_than_there_are_names_is_refused():
    with pytest.raises(ValueError, match="names for fewer"):
        invented_questions(4 * 121, 0, seed=0)
