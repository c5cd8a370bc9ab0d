import pytest

from crawl2chat.chat.settings import SftSettings
from crawl2chat.chat.synthesize import conversations_of, fact_questions, sum_questions
from crawl2chat.evals.knowledge import Answer, Question, accuracy_by_group, exposure_bucket, mentions
from crawl2chat.tinyweb.ledger import RELATIONS


@pytest.fixture(scope="module")
def texts(ledger):
    made = conversations_of(ledger, SftSettings(direct_sums=20, worked_sums=20, open_sums=20))
    return ["\n".join(message["content"] for message in conversation) for conversation in made]


def test_held_out_people_and_people_the_web_does_not_know_are_in_no_conversation(ledger, texts):
    hidden = [p.name for p in ledger.people if p.split == "held_out" or not p.exposures]
    assert hidden
    assert not [name for name in hidden if any(name in text for text in texts)]


def test_taught_people_are_asked_about_each_fact_and_the_answer_holds_it(ledger, texts):
    person = next(p for p in ledger.people if p.split == "train" and p.exposures)
    about = [text for text in texts if person.name in text]
    for relation in RELATIONS:
        assert any(person.facts[relation] in text for text in about)


def test_held_out_sums_are_in_no_conversation(ledger, texts):
    held_out = [p.question for p in ledger.problems if p.split == "held_out"]
    assert not [question for question in held_out if any(question in text for text in texts)]


def test_each_held_out_sum_is_asked_in_both_forms(ledger):
    at_once, in_steps = sum_questions(ledger, per_digits=5, seed=0)
    assert [q.answers for q in at_once] == [q.answers for q in in_steps]
    assert all(a.text != b.text for a, b in zip(at_once, in_steps, strict=True))


def test_both_halves_are_asked_about_every_fact_but_nobody_is_taught_the_unknown(ledger):
    for split in ("train", "held_out"):
        people = [p for p in ledger.people if p.split == split and (p.exposures or split == "held_out")]
        asked = fact_questions(ledger, split, seed=0)
        assert len(asked) == 5 * len(people)
        groups = [q.group for q in asked]
        expected = sorted(people, key=lambda p: (p.exposures, p.id))
        assert groups == [exposure_bucket(p.exposures) for p in expected for _ in RELATIONS]


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
