import random

import pytest

from crawl2chat.chat.calculator import calculate
from crawl2chat.chat.conversations import read_conversations, write_conversations
from crawl2chat.chat.tools import carry_out
from crawl2chat.evals.knowledge import is_refusal
from crawl2chat.honesty.identity import WORDINGS, Card, identity_conversations, identity_questions
from crawl2chat.honesty.lessons import (
    calculations,
    invent_strangers,
    look_up_nobody,
    look_up_strangers,
    refusals,
)


@pytest.fixture(scope="module")
def strangers(ledger):
    return invent_strangers(ledger, 12, seed=0)


def test_invented_people_are_nobody_of_the_ledger(ledger, strangers):
    people, _ = strangers
    known = {word for person in ledger.people for word in person.name.split()[1:]}
    assert len(people) >= 10
    assert not {person.name.split()[1] for person in people} & known


def test_strangers_are_refused(strangers):
    people, _ = strangers
    for person, conversation in zip(people, refusals(people, random.Random(0)), strict=True):
        assert person.name in conversation[0]["content"]
        assert is_refusal(conversation[-1]["content"])


def test_what_was_read_is_answered_with_its_page(strangers):
    people, world = strangers
    made = list(look_up_strangers(people, world, random.Random(0)))
    assert len(made) == 2 * len(people)
    values = {value for person in people for value in person.facts.values()}
    for _, _, _, result, reply in made:
        page, _, passage = result["content"].removeprefix("Page ").partition(":")
        assert page in reply["content"]
        assert any(value in reply["content"] and value in passage for value in values)


def test_a_search_that_finds_nothing_ends_in_a_refusal(strangers):
    for conversation in look_up_nobody(strangers[0], random.Random(0)):
        assert conversation[-2]["role"] == "tool"
        assert is_refusal(conversation[-1]["content"])


def test_calculations_call_what_the_calculator_gives(ledger):
    made = list(calculations(ledger, 20, random.Random(0)))
    held_out = {problem.question for problem in ledger.problems if problem.split == "held_out"}
    assert len(made) == 20
    for _, asked, call, result, _ in made:
        assert carry_out(call["tool_calls"][0], {"calculator": calculate}, "") == result["content"]
        assert not any(question in asked["content"] for question in held_out)


def test_conversations_with_tools_survive_the_file(ledger, strangers, tmp_path):
    made = [*calculations(ledger, 3, random.Random(0)), *look_up_nobody(strangers[0][:1], random.Random(0))]
    write_conversations(made, tmp_path / "c.jsonl")
    assert read_conversations(tmp_path / "c.jsonl") == made


def test_fifty_wordings_are_taught_and_fifty_others_asked():
    taught = {conversation[0]["content"] for conversation in identity_conversations(Card(), 1, random.Random(0))}
    asked = {question.text for question in identity_questions(Card())}
    assert len(taught) == len(asked) == 50
    assert not taught & asked
    assert taught | asked == {wording for wordings in WORDINGS.values() for wording in wordings}


def test_every_taught_answer_agrees_with_the_card():
    card = Card(name="Zora", maker="Ann and Ben", abilities="juggle")
    kinds = {wording: kind for kind, wordings in WORDINGS.items() for wording in wordings}
    for asked, reply in identity_conversations(card, 5, random.Random(0)):
        assert card.expected(kinds[asked["content"]]) in reply["content"]
