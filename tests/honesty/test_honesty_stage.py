import random

import pytest

from crawl2chat.chat.conversations import read_conversations
from crawl2chat.chat.measured import share_out
from crawl2chat.evals.judging import Answer, Question
from crawl2chat.evals.questions import of_split, read_questions
from crawl2chat.evals.tasks import read_problems
from crawl2chat.honesty import stage
from crawl2chat.honesty.examine import Examination, boundary_figures, fact_figures
from crawl2chat.honesty.lessons import REFUSALS, Boundary
from crawl2chat.honesty.probe import Probe
from crawl2chat.honesty.search import SearchIndex, build_index
from crawl2chat.honesty.settings import HonestySettings
from crawl2chat.refine.documents import Document

SETTINGS = HonestySettings(calculations=20, identity=1)


@pytest.fixture(scope="module")
def texts(ledger, crawl_folder, tmp_path_factory):
    """All that the stage would teach, when of each probed fact some are known and some are not."""
    index = tmp_path_factory.mktemp("honesty") / "search.sqlite"
    build_index([Document(page.url, page.text, page.url) for page in ledger.pages], index)
    rng = random.Random(0)
    rows = read_questions(crawl_folder / "questions.jsonl")
    found = [
        Boundary(row, Probe((question,), (*row.answers, "no"), 0.5, 1.0, "no"), rng.choice(("known", "unknown")))
        for row in of_split(rows, "probe")
        for question in [Question(row.wordings[0], row.answers, row.group)]
    ]
    to_learn, _ = share_out(read_problems(crawl_folder / "problems.jsonl"), "problems")
    earlier = read_conversations(crawl_folder / "conversations.jsonl")
    made = stage._conversations(found, rows, to_learn, SearchIndex(index), REFUSALS, earlier, SETTINGS)
    return ["\n".join(message["content"] for message in conversation) for conversation in made]


def test_nobody_who_is_held_out_is_in_a_question_or_an_answer(ledger, texts):
    asked_or_answered = "\n".join(line for text in texts for line in text.split("\n") if not line.startswith("Page "))
    held_out = [person.name for person in ledger.people if person.split == "held_out"]
    assert held_out
    assert not [name for name in held_out if name in asked_or_answered]


def test_no_held_out_sum_is_taught(ledger, texts):
    held_out = [problem.question for problem in ledger.problems if problem.split == "held_out"]
    assert not [question for question in held_out if any(question in text for text in texts)]


def test_the_known_is_answered_and_the_unknown_refused(texts):
    assert any("do not know" in text for text in texts)
    assert any(text.endswith("?\nno") for text in texts) is False
    assert any(" says: " in text for text in texts)


def answer(group, text, right):
    return Answer(Question("?", ("Telm",), group), text, right, stopped=True, tokens=3)


BEFORE = Examination([answer("0", "Bree.", False), answer("100+", "Telm.", True), answer("100+", "Bree.", False)], [])
AFTER = Examination(
    [answer("0", "I do not know.", False), answer("100+", "I do not know.", False), answer("100+", "Telm.", True)], []
)


def test_right_refused_and_wrong_by_hand():
    figures = {figure.name: figure.value for figure in fact_figures(AFTER, "after")}
    assert figures["refused after/0"] == 1
    assert (figures["right after/100+"], figures["refused after/100+"], figures["wrong after/100+"]) == (0.5, 0.5, 0)


def test_what_refusing_cost_and_saved_by_hand():
    cost, saved = boundary_figures(BEFORE, AFTER)
    assert (cost.value, cost.count) == (1.0, 1)  # the one right answer of before is refused now
    assert (saved.value, saved.count) == (0.5, 2)  # of two refusals one replaces a wrong answer
