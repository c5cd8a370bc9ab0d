"""Facts are stated and asked in many ways, and answers hold the value."""

import random

import pytest

from crawl2chat.tinyweb.ledger import RELATIONS
from crawl2chat.tinyweb.wording import NOUN_PHRASES, OPENERS, VERBS, answer, questions


@pytest.mark.parametrize("relation", RELATIONS)
def test_a_relation_has_many_distinct_wordings(relation):
    assert len({*VERBS[relation]}) >= 12
    assert len({*VERBS[relation], *NOUN_PHRASES[relation], *OPENERS[relation]}) >= 20
    assert all("{v}" in text or "{a}" in text or "{A}" in text for text in (*VERBS[relation], *OPENERS[relation]))


@pytest.mark.parametrize("relation", RELATIONS)
def test_a_relation_is_asked_in_at_least_eight_ways(relation):
    assert len(set(questions(relation))) >= 8
    assert all("{name}" in question and question.endswith("?") for question in questions(relation))


def test_an_answer_holds_the_value_verbatim(ledger):
    rng = random.Random(0)
    for person in ledger.people:
        for relation in RELATIONS:
            sentence = answer(person, relation, rng)
            assert person.facts[relation] in sentence
            assert sentence.endswith(".")
