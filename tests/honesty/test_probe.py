import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawl2chat.evals.knowledge import Question, is_refusal
from crawl2chat.generate import Completion
from crawl2chat.honesty.lessons import FOUND_NOTHING, NOT_SAID, REFUSALS
from crawl2chat.honesty.probe import auroc, cluster, knowledge, probe


class Scripted:
    """An engine that gives prepared answers, in the order of the prompts."""

    def __init__(self, tokenizer, answers):
        self.tokenizer, self.answers = tokenizer, answers

    def generate(self, prompts, sampling):
        assert len(prompts) == len(self.answers)
        return [Completion(text=answer) for answer in self.answers]


QUESTION = Question("Where?", ("Telm",), "1")


def test_a_fact_is_judged_over_all_its_answers(tokenizer):
    said = ["Telm it is.", "Bree maybe.", "Telm, I think.", "Telm again."]
    asked, wordings = [[QUESTION, QUESTION]], [["Where do you think?"]]
    (found,) = probe(Scripted(tokenizer, said), asked, wordings, samples=2, temperature=1, seed=0)
    assert found.right_share == 0.75
    assert found.agreement == 0.75
    assert found.said == "Telm it is."
    assert found.said_right


@pytest.mark.parametrize(("right", "expected"), [(1.0, "known"), (0.6, "known"), (0.4, "maybe"), (0.2, "unknown")])
def test_classes_by_the_share_of_right_answers(tokenizer, right, expected):
    said = ["Telm"] * round(right * 5) + ["Bree"] * (5 - round(right * 5))
    (found,) = probe(Scripted(tokenizer, said), [[QUESTION]], [[QUESTION.text]], samples=5, temperature=1, seed=0)
    assert knowledge(found, known_from=0.6, unknown_to=0.2) == expected


BORN = ("Where was Zoe Vulbar born?", "What is the birthplace of Zoe Vulbar?", "Which town does Zoe Vulbar come from?")


def test_answers_in_other_words_say_the_same():
    said = ["She was born in Telm.", "Zoe Vulbar comes from Telm!", "The birthplace of Zoe Vulbar is Telm.", "telm"]
    assert cluster(said, BORN) == [0] * 4
    assert cluster([*said, "Zoe Vulbar comes from Bree.", "She first saw daylight in Telm."], BORN) == [
        0,
        0,
        0,
        0,
        1,
        0,
    ]


def test_free_text_is_told_apart_by_what_it_says():
    wordings = ["What does E04 mean?", "What is the meaning of the code E04?"]
    said = [
        "E04 means that the water pressure is too low.",
        "The code E04 means low water pressure.",
        "Low pressure.",
        "E04 means a blocked flue.",
        "It means that the flue is blocked.",
    ]
    one, two, three, four, five = cluster(said, wordings)
    assert one == two == three != four == five


def test_refusals_say_the_same_and_nothing_else_does():
    said = ["I do not know.", "I have no information about her.", "Telm.", "Zoe Vulbar.", "Zoe was born."]
    assert cluster(said, BORN) == [0, 0, 1, 2, 2]


@given(
    st.lists(st.sampled_from(["Telm.", "In Telm.", "Bree.", "No idea.", "Zoe.", "Old Telm."]), min_size=1, max_size=8)
)
def test_equal_answers_always_share_a_cluster(said):
    numbers = cluster(said, BORN)
    assert all(numbers[said.index(text)] == number for text, number in zip(said, numbers, strict=True))


def test_all_taught_refusals_are_recognised():
    assert all(is_refusal(text) for text in (*REFUSALS, *FOUND_NOTHING, *NOT_SAID))
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
