"""Conversations of several questions: what is taught in them, and how a model is led through them."""

import random

import pytest

from crawl2chat.chat.asking import exchange
from crawl2chat.chat.tools import offer
from crawl2chat.evals.judging import Question, is_refusal
from crawl2chat.evals.questions import QuestionRow
from crawl2chat.evals.tasks import Problem
from crawl2chat.generate import Completion
from crawl2chat.honesty.lessons import REFUSALS, Boundary, teach_the_unanswerable
from crawl2chat.honesty.probe import Probe
from crawl2chat.honesty.search import SearchIndex, build_index
from crawl2chat.honesty.talks import asked_again, changes_of_subject, follow_ups, hold, joined, talks_of_subjects
from crawl2chat.refine.documents import Document


def row(subject, what, answer, split="held_out"):
    return QuestionRow(
        (f"What is the {what} of {subject}?",), (answer,), "g", split, subject=subject, follow_ups=(f"And the {what}?",)
    )


ROWS = [
    row("Ann Low", "town", "Aby"),
    row("Ann Low", "trade", "baker"),
    row("Bo Lind", "town", "Bree"),
    row("Bo Lind", "trade", "smith"),
]


class Parrot:
    """Stands in for an engine: answers with the first of its `facts` whose key is in the prompt."""

    context = 1000

    def __init__(self, tokenizer, facts):
        self.tokenizer, self.facts = tokenizer, facts

    def generate(self, prompts, sampling):
        texts = [self.tokenizer.decode(prompt) for prompt in prompts]
        said = [next((value for key, value in self.facts.items() if key in text), "I see.") for text in texts]
        return [Completion(ids=[1], text=text, finish_reason="stop") for text in said]


def test_a_follow_up_comes_after_another_question_about_its_subject():
    scripts = follow_ups(ROWS, 0)
    assert [script.turns[-1] for script in scripts] == [f"And the {what}?" for what in ("town", "trade")] * 2
    for script, fact in zip(scripts, ROWS, strict=True):
        assert fact.subject in script.turns[0]
        assert script.turns[0] not in fact.wordings
        assert script.question.answers == fact.answers


def test_after_a_change_of_subject_the_first_one_is_asked_about_again():
    problem = Problem("What is 2+2?", ("4",), "sum")
    for script, fact in zip(changes_of_subject(ROWS, [problem], 0), ROWS, strict=True):
        first, between, other, last = script.turns
        assert fact.subject in first
        assert between == problem.text
        assert fact.subject not in other
        assert last in fact.wordings


def test_rows_without_a_subject_or_follow_ups_are_not_measured_in_conversations():
    plain = [QuestionRow(("Where?",), ("Aby",), "g", "held_out"), QuestionRow(("When?",), ("1842",), "g", "held_out")]
    assert follow_ups(plain, 0) == changes_of_subject(plain, [], 0) == asked_again(plain, 0) == []


def test_a_conversation_is_held_with_the_models_own_answers_and_the_last_one_is_judged(tokenizer):
    engine = Parrot(tokenizer, {"Aby.<|im_end|>": "Yes. Aby.", "town of Ann": "Aby.", "town of Bo": "Oslo."})
    answers = hold(engine, asked_again([ROWS[0], ROWS[2]], 0))
    assert [(answer.text, answer.right) for answer in answers] == [("Yes. Aby.", True), ("Oslo.", False)]


def test_a_conversation_that_does_not_fit_is_not_right(tokenizer):
    engine = Parrot(tokenizer, {"town": "Aby."})
    engine.context = 5
    (answer,) = hold(engine, asked_again(ROWS[:1], 0))
    assert (answer.text, answer.right) == ("", False)


def lesson(n, tools=False):
    return [*([offer(("search",))] if tools else []), *exchange(f"q{n}", f"a{n}")]


def test_lessons_are_joined_with_their_like_and_none_is_lost():
    lessons = [lesson(n, tools=n % 2 == 0) for n in range(40)]
    made = joined(lessons, 1.0, lambda talk: len(talk) < 8, random.Random(0))
    contents = [m["content"] for talk in made for m in talk if m["role"] != "system"]
    assert sorted(contents) == sorted(f"{side}{n}" for n in range(40) for side in "qa")
    assert len(made) < 25
    for talk in made:
        assert len(talk) < 8
        tools = talk[0]["role"] == "system"
        assert [m["role"] for m in talk].count("system") == tools
        assert {int(m["content"][1:]) % 2 for m in talk if m["role"] == "user"} == {0 if tools else 1}
    assert joined(lessons, 0.0, lambda talk: True, random.Random(0)) == lessons


def boundary(fact, knowledge):
    asked = tuple(Question(wording, fact.answers, "g") for wording in fact.wordings)
    said = (f"It is {fact.answers[0]}.", "Who knows?")
    return Boundary(fact, Probe(asked, said, 0.5, 0.5, said[0]), knowledge)


@pytest.mark.parametrize("knowledge", ["known", "unknown"])
def test_a_subjects_facts_are_one_conversation_named_once(knowledge, tmp_path):
    page = Document("1", "Ann Low is a baker who was born in Aby.", "http://a.example")
    build_index([page], tmp_path / "index.sqlite")
    found = [boundary(fact, knowledge) for fact in ROWS[:2]] + [boundary(ROWS[2], knowledge)]
    made = list(talks_of_subjects(found, SearchIndex(tmp_path / "index.sqlite"), REFUSALS, random.Random(0)))
    plain, with_tools = made  # of Bo Lind there is one fact alone
    assert sum("Ann Low" in m["content"] for m in plain if m["role"] == "user") == 1
    assert all(is_refusal(m["content"]) == (knowledge == "unknown") for m in plain[1::2])
    assert with_tools[0]["role"] == "system"
    assert [m["role"] for m in with_tools].count("tool") == (knowledge == "unknown")
    assert {"Aby", "baker"} <= set(" ".join(m["content"] for m in with_tools).replace(".", " ").split())


def test_a_follow_up_about_somebody_unknown_is_refused_as_well():
    rows = [row(f"No {n}", "town", "x", "train") for n in range(4)]
    rows = [QuestionRow(r.wordings, (), "nobody", "train", subject=r.subject, follow_ups=r.follow_ups) for r in rows]
    talks = [t for t in teach_the_unanswerable(rows, None, REFUSALS, random.Random(0)) if len(t) == 4]
    assert len(talks) == 2
    assert all(is_refusal(m["content"]) for talk in talks for m in talk[1::2])
    assert all(talk[2]["content"] == "And the town?" for talk in talks)
