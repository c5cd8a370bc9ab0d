import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawl2chat.evals.knowledge import Question, is_refusal
from crawl2chat.generate import Completion
from crawl2chat.honesty.lessons import FOUND_NOTHING, REFUSALS
from crawl2chat.honesty.probe import auroc, knowledge, known_values, probe


class Scripted:
    """An engine that gives prepared answers, in the order of the prompts."""

    def __init__(self, tokenizer, answers):
        self.tokenizer, self.answers = tokenizer, answers

    def generate(self, prompts, sampling):
        assert len(prompts) == len(self.answers)
        return [Completion(text=answer) for answer in self.answers]


def first_word(answer):
    return answer.split()[0]


QUESTION = Question("Where?", ("Telm",), "1")


def test_a_fact_is_judged_over_all_its_answers(tokenizer):
    said = ["Telm it is.", "Bree maybe.", "Telm, I think.", "Telm again."]
    (found,) = probe(Scripted(tokenizer, said), [[QUESTION, QUESTION]], first_word, samples=2, temperature=1, seed=0)
    assert found.right_share == 0.75
    assert found.agreement == 0.5  # "Telm" and "Telm," are two clusters to this judge
    assert found.said == "Telm it is."
    assert found.said_right


@pytest.mark.parametrize(("right", "expected"), [(1.0, "known"), (0.6, "known"), (0.4, "maybe"), (0.2, "unknown")])
def test_classes_by_the_share_of_right_answers(tokenizer, right, expected):
    said = ["Telm"] * round(right * 5) + ["Bree"] * (5 - round(right * 5))
    (found,) = probe(Scripted(tokenizer, said), [[QUESTION]], first_word, samples=5, temperature=1, seed=0)
    assert knowledge(found, known_from=0.6, unknown_to=0.2) == expected


def test_answers_that_name_the_same_mean_the_same(ledger):
    meaning = known_values(ledger)
    person = ledger.people[0]
    town, trade = person.facts["birthplace"], person.facts["trade"]
    assert meaning(f"She was born in {town}.") == meaning(f"{person.name} comes from {town}!")
    assert meaning(f"She was born in {town}.") != meaning(f"She is a {trade}.")
    assert meaning("I do not know.") == meaning("I have no information about her.")


def test_all_taught_refusals_are_recognised():
    assert all(is_refusal(text) for text in (*REFUSALS, *FOUND_NOTHING))
    assert not is_refusal("Zoë is known as a baker.")


def test_auroc_by_hand():
    assert auroc([0.9, 0.8, 0.3, 0.1], [True, False, True, False]) == 0.75
    assert auroc([0.5, 0.5], [True, False]) == 0.5
    assert math.isnan(auroc([0.5], [True]))


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=20))
def test_auroc_of_turned_scores_is_turned(pairs):
    scores, right = [s for s, _ in pairs], [r for _, r in pairs]
    if len(set(right)) == 2:
        assert auroc(scores, right) == pytest.approx(1 - auroc([-s for s in scores], right))
