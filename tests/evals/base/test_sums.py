import re

from subjects import Parrot, make_subject

from crawl2chat.evals.base.spelling_and_sums import measure_sums
from crawl2chat.tinyweb.arithmetic import STEP_CUE


def calculator(page):
    """Right where it may work step by step, one too many at once; goes on with another sum as pages do."""
    left, operator, right = re.search(r"What is (\d+)([+-])(\d+)\?", page).groups()
    answer = int(left) + int(right) if operator == "+" else int(left) - int(right)
    another = "One more. What is 2+2? The answer is 4."
    if page.endswith(STEP_CUE):
        return f" The ones give 1+1=2. The answer is {answer}. {another}"
    return f" {answer + 1}. {another}"


def test_steps_gain_what_they_make_right(ledger, tokenizer, tmp_path):
    subject = make_subject(tokenizer, tmp_path, engine=Parrot(tokenizer, calculator), ledger=ledger)
    figures = {figure.name: figure for figure in measure_sums(subject)}
    held_out = [problem.digits for problem in ledger.problems if problem.split == "held_out"]
    for digits in set(held_out):
        assert figures[f"sums_at_once/{digits}"].value == 0
        assert figures[f"sums_step_by_step/{digits}"].value == 1
        assert figures[f"sums_at_once/{digits}"].count == held_out.count(digits)
    gain = figures["steps_gain"]
    assert (gain.value, gain.unit, gain.count) == (100, "points", len(held_out))


def test_no_more_sums_are_asked_than_wanted(ledger, tokenizer, tmp_path):
    subject = make_subject(tokenizer, tmp_path, engine=Parrot(tokenizer, calculator), ledger=ledger, questions=5)
    assert measure_sums(subject)[-1].count == 5
