import pytest

from crawl2chat.evals.tasks import Problem, Task, pass_at_k
from crawl2chat.generate.engine import Completion
from crawl2chat.rl.passing import Solved, pass_at_1, pass_figures

TASK = Task("sums", [])
PROBLEM = Problem("What is 1+1?", ("2",), "sum")


def solved(marks, group="sum"):
    drawn = [Completion([1, 2], [-0.5, -1.5], "", "stop") for _ in marks]
    return Solved(Problem("?", ("2",), group), drawn, list(marks), drawn[0], marks[0])


def test_pass_at_k_is_the_chance_that_k_of_the_drawn_hold_a_right_one():
    assert pass_at_k(8, 2, 1) == pytest.approx(2 / 8)
    assert pass_at_k(4, 1, 2) == pytest.approx(3 / 6)  # of 6 pairs, 3 hold the right one
    assert (pass_at_k(8, 0, 8), pass_at_k(8, 1, 8)) == (0, 1)


def test_figures_are_means_over_problems_with_intervals_over_problems():
    figures = {f.name: f for f in pass_figures([solved([True, False]), solved([False, False])], "after")}
    assert figures["pass_at_1_after"].value == 0.25
    assert figures["pass_at_1_after"].count == 2
    assert figures["pass_at_2_after"].value == 0.5
    assert figures["greedy_after"].value == 0.5
    assert figures["answer_tokens_after"].value == 2
    assert figures["entropy_after"].value == 1.0


def test_groups_are_told_apart_when_there_are_several():
    names = [f.name for f in pass_at_1([solved([True]), solved([False], "story")], "p")]
    assert names == ["p", "p/story", "p/sum"]
    assert [f.name for f in pass_at_1([solved([True])], "p")] == ["p"]


def test_an_answer_cut_short_is_not_right():
    assert TASK.solves(PROBLEM, Completion([1], [0.0], "The answer is 2.", "stop"))
    assert not TASK.solves(PROBLEM, Completion([1], [0.0], "The answer is 2", "length"))
    assert not TASK.solves(PROBLEM, Completion([1], [0.0], "The answer is 3.", "stop"))


def test_a_reference_of_two_numbers_rewards_itself_and_not_its_last_number():
    half = Problem("Which part?", ("1/2",), "gsm8k")
    assert TASK.solves(half, Completion([1], [0.0], "So it is.\n#### 1/2", "stop"))
    assert not TASK.solves(half, Completion([1], [0.0], "So it is.\n#### 2", "stop"))
