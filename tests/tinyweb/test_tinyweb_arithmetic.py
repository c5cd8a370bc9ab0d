"""Worked steps are right, and end in the answer that the direct form gives."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawl2chat.tinyweb.arithmetic import direct_answer, worked_steps
from crawl2chat.tinyweb.ledger import Problem

numbers = st.integers(0, 9999)


def problem(left: int, operator: str, right: int) -> Problem:
    return Problem((left, right), operator, len(str(max(left, right))), "train", "worked")


def check(steps: str, wanted: Problem) -> None:
    written, carried = "", 0
    for term, total, so_far, carry in re.findall(r"give ([\d+-]+)=(\d+), so write (\d+) and \w+ (\d)\.", steps):
        numbers_in_term = [int(number) for number in re.findall(r"\d+", term)]
        sign = 1 if wanted.operator == "+" else -1
        assert numbers_in_term[0] + sign * sum(numbers_in_term[1:]) == int(total)
        if written:
            assert numbers_in_term[2] == carried
        assert so_far == f"{int(total) % 10}{written}"
        written, carried = so_far, int(carry)
    if last := re.search(r"The carry gives 1, so write (\d+)\.", steps):
        assert last[1] == f"1{written}"
        written = last[1]
    else:
        assert wanted.operator == "-" or carried == 0
    assert int(written) == wanted.answer
    assert steps.endswith(direct_answer(wanted))


@given(numbers, numbers)
def test_steps_of_additions_are_right(left, right):
    wanted = problem(left, "+", right)
    assert wanted.answer == left + right
    check(worked_steps(wanted), wanted)


@given(numbers, numbers)
def test_steps_of_subtractions_are_right(left, right):
    wanted = problem(max(left, right), "-", min(left, right))
    assert wanted.answer == abs(left - right)
    check(worked_steps(wanted), wanted)


def test_the_form_of_the_steps_is_what_later_stages_train_on():
    assert worked_steps(problem(347, "+", 86)) == (
        "The ones give 7+6=13, so write 3 and carry 1. The tens give 4+8+1=13, so write 33 and carry 1. "
        "The hundreds give 3+0+1=4, so write 433 and carry 0. The answer is 433."
    )
    assert worked_steps(problem(52, "-", 37)) == (
        "The ones give 12-7=5, so write 5 and borrow 1. The tens give 5-3-1=1, so write 15 and borrow 0. "
        "The answer is 15."
    )


def test_problems_that_the_steps_can_not_express_are_refused():
    with pytest.raises(ValueError, match="What is 3-5"):
        worked_steps(problem(3, "-", 5))


def test_the_web_shows_each_train_problem_in_its_form(ledger):
    text = "\n".join(page.text for page in ledger.pages if page.kind == "arithmetic")
    for shown in (p for p in ledger.problems if p.split == "train"):
        answer = direct_answer(shown) if shown.form == "direct" else f"Let us go step by step. {worked_steps(shown)}"
        assert f"{shown.question} {answer}" in text
