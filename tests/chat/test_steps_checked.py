"""Where a worked answer first goes wrong."""

import pytest
from effort import assert_linear

from crawl2chat.chat.steps import first_fault
from crawl2chat.chat.tools import call
from crawl2chat.tinyweb.arithmetic import Problem, worked_steps
from crawl2chat.tokenizer import Message

ASKED = "What is 347+86? Work step by step."
WORKED = (
    "The ones give 7+6=13, so write 3 and carry 1. The tens give 4+8+1=13, so write 33 and carry 1. "
    "The hundreds give 3+0+1=4, so write 433 and carry 0. The answer is 433."
)


def fault(text, *, question=ASKED, answers=("433",), right=False, calls=()):
    """The kind, the words that are pointed at, and what is said."""
    found = first_fault(question, answers, text, right, calls)
    return found and (found.kind, text[slice(*found.place)] if found.place else None, found.says)


@pytest.mark.parametrize(
    ("was", "now", "kind", "place", "says"),
    [
        ("7+6=13", "7+6=14", "equation", "7+6=14", "7+6 is 13, not 14"),
        ("write 33 and", "write 43 and", "digit", "43", "it should write 33, not 43"),
        ("33 and carry 1", "33 and carry 0", "digit", "0", "it should carry 1, not 0"),
        ("7+6=13", "8+5=13", "other", "8+5", "another problem: here 347+86 has 7 and 6"),
        ("The ones", "374+86. The ones", "other", "374+86", "it works on 374+86, not on 347+86"),
        ("4+8+1=13, so write 33", "4+8=12, so write 23", "digit", "4+8", "the 1 that was carried"),
        ("is 433.", "is 423.", "result", "23", "no step is false, but the answer is 423, wrong from its second digit"),
        ("is 433.", "is 43.", "result", "3", "the answer is 43, too short"),
    ],
)
def test_the_first_wrong_place_of_a_worked_sum(was, now, kind, place, says):
    found = fault(WORKED.replace(was, now))
    assert found[:2] == (kind, place)
    assert says in found[2]


@pytest.mark.parametrize("operator", ["+", "-"])
def test_no_fault_is_found_in_any_sum_that_is_worked_rightly(operator):
    """Whoever calls it wrong, nothing before the answer is pointed at."""
    for left, right in ((5, 7), (52, 37), (100, 1), (999, 1), (347, 86), (86, 347), (960, 475), (10, 10)):
        if operator == "-" and left < right:
            continue
        problem = Problem((left, right), operator, 3, "held_out", None)
        text, answers = worked_steps(problem), (str(problem.answer),)
        assert first_fault(problem.question, answers, text, True) is None
        found = first_fault(problem.question, answers, text, False)
        assert (found.kind, found.place[0]) == ("result", text.index("answer is") + len("answer is ")), text


@pytest.mark.parametrize(
    ("text", "place", "says"),
    [
        ("3 × 4 = 12, then 12 − 5 = 8.", "12 − 5 = 8", "12 − 5 is 7, not 8"),
        ("2*3+4 = 6+4 = 11", "6+4 = 11", "6+4 is 10, not 11"),
        ("Seven times: 7 times 8 is 54.", "7 times 8 is 54", "7 times 8 is 56, not 54"),
        ("It costs $13 - $4 = $8 more.", "$13 - $4 = $8", "is 9, not $8"),
        ("(3 + 4) * 2 = 15", "(3 + 4) * 2 = 15", "is 14, not 15"),
        ("1,200 + 34 = 1,244", "1,200 + 34 = 1,244", "is 1234, not 1,244"),
        ("47 = 40 + 8 as everybody knows", "47 = 40 + 8", "40 + 8 is 48, not 47"),
    ],
)
def test_equations_in_other_ways_of_writing(text, place, says):
    found = fault(text, question="How much?", answers=("1",))
    assert found[:2] == ("equation", place)
    assert says in found[2]


def test_what_only_looks_like_an_equation_is_passed_over():
    text = "y + 2 = 10, 1/4 = 25%, 10/3 = 3.33, at 10:15 + 1 = 9:99, 2x = 7, 5 is 6, v3+4=9, 3^2 + 1 = 4"
    assert fault(text, question="How much?", answers=("1",), right=True) is None


def test_true_steps_of_another_problem_also_where_nothing_is_worked_in_columns():
    found = fault("40+7 = 47, so 52 + 38 = 90.", question="What is 47+38?", answers=("85",))
    assert found[:2] == ("other", "52 + 38")
    found = fault("40+30 = 70, 7+8 = 15, 70+15 = 85. The answer is 75.", question="What is 47+38?", answers=("85",))
    assert found[:2] == ("result", "75")


def test_a_number_without_steps_and_none_at_all():
    assert fault("The answer is 423.")[:2] == ("unworked", "23")
    assert fault("I do not know.") == ("unworked", None, "The answer ends without a number")
    assert fault("In 1842.", question="Who?", answers=("Bree",)) is None


def test_a_right_answer_may_have_a_false_step_on_its_way():
    found = fault(WORKED.replace("7+6=13", "7+6=14"), right=True)
    assert found[:2] == ("equation", "7+6=14")


def called(expression, result, name="calculator"):
    return [call(name, expression=expression), Message(role="tool", content=result)]


def test_calls_of_the_calculator():
    answer = "The answer is 415."
    assert fault(answer, calls=called("347+68", "415"))[2] == "it asked the calculator for 347+68, not for 347+86"
    assert fault(answer, calls=called("347+", "can't read"))[2] == "the calculator can't work out 347+: can't read"
    assert "it called search" in fault(answer, calls=called("x", "Nothing.", "search"))[2]
    kind, place, says = fault(answer, calls=called("86+347", "433"))
    assert (kind, place) == ("result", "15")
    assert "the calculator was asked rightly" in says
    assert fault("The answer is 433.", right=True, calls=called("347+86", "433")) is None
    words = {"question": "Three bags of four?", "answers": ("12",)}
    assert "not what the problem comes to" in fault("7", calls=called("3+4", "7"), **words)[2]


@pytest.mark.parametrize(
    "text", ["1+1=2 ", f"{'1' * 200}+1=2 ", "1+", "(", "9", "1 = ", "9,", "1.1", "so write 3 and carry 1", "x 1"]
)
def test_checking_takes_time_that_grows_with_the_answer_alone(text):
    assert_linear(lambda share: first_fault(ASKED, ("433",), text * round(4000 * share), False))
