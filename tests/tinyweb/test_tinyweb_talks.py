"""Conversations of several questions: whom a follow-up is about, and that the answer is that person's."""

import random
import re

import pytest

from crawl2chat.chat.asking import exchange
from crawl2chat.tinyweb.ledger import RELATIONS
from crawl2chat.tinyweb.talks import MOST_TURNS, SURE, make_talks
from crawl2chat.tinyweb.wording import follow_ups

OTHERS = [[exchange("What is 2+2?", "The answer is 4.")], [], [exchange("A story, please.", "There was a goat.")]]


@pytest.fixture(scope="module")
def people(ledger):
    return [person for person in ledger.people if person.split == "train" and person.exposures]


@pytest.fixture(scope="module")
def talks(people):
    return list(make_talks(people, OTHERS, 300, random.Random(0)))


def turns(talk):
    return list(zip(talk[::2], talk[1::2], strict=True))


def test_talks_take_turns_and_have_two_to_five_questions(talks):
    assert {len(turns(talk)) for talk in talks} == set(range(2, MOST_TURNS + 1))
    for talk in talks:
        assert all((q["role"], a["role"]) == ("user", "assistant") for q, a in turns(talk))


def test_each_answer_is_true_of_the_person_named_last(talks, people):
    kinds = dict.fromkeys(("follow-up", "correction", "sure", "other"), 0)
    for talk in talks:
        person = None
        for question, reply in turns(talk):
            asked, said = question["content"], reply["content"]
            if [question, reply] in [pair for kind in OTHERS for pair in kind]:
                kinds["other"] += 1
                continue
            named = [p for p in people if p.name in asked]
            person = named[0] if len(named) == 1 else person
            if len(named) == 2:  # "Not Ann Low, I meant Bo Lind."
                person = max(named, key=lambda p: asked.index(p.name))
            assert any(value in said for value in person.facts.values()), (talk, person.name)
            assert named or asked in SURE or person.name not in said
            kinds["follow-up"] += not named and "meant" not in asked and asked not in SURE
            kinds["correction"] += "meant" in asked
            kinds["sure"] += asked in SURE
    assert all(count > 20 for count in kinds.values()), kinds


def test_whether_it_is_sure_is_answered_with_the_same_fact(talks):
    for talk in talks:
        for (_, before), (question, reply) in zip(turns(talk), turns(talk)[1:], strict=False):
            if question["content"] in SURE:
                assert reply["content"].startswith("Yes")
                assert reply["content"].endswith(before["content"])


def test_no_follow_up_names_the_person(people):
    for person in people[:5]:
        wrong = {"she": r"\b(he|his)\b", "he": r"\b(she|her)\b"}[person.pronoun]
        for relation in RELATIONS:
            for wording in follow_ups(person, relation):
                assert person.name.split()[0] not in wording
                assert not re.search(wrong, wording, re.IGNORECASE)


def test_a_web_of_nobody_has_no_talks():
    assert list(make_talks([], OTHERS, 5, random.Random(0))) == []
