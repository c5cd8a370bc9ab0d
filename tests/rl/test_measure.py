import pytest

from crawl2chat.evals.tasks import Problem, Task, pass_at_k
from crawl2chat.generate.engine import Completion
from crawl2chat.rl.measure import Solved, diagnose, pass_at_1, pass_figures

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


NORMAL = {
    "zero_variance": 0.4, "cut_short": 0.0, "logprob_gap": 1e-6, "entropy": 0.3,
}  # fmt: skip


def run(rewards, **values):
    """Lines of metrics; a value may be a function of the share of the run that is done."""
    return [
        {"step": i + 1, "reward": r}
        | {k: v(i / len(rewards)) if callable(v) else v for k, v in (NORMAL | values).items()}
        for i, r in enumerate(rewards)
    ]


FLAT = [0.3, 0.32, 0.28, 0.31] * 6


def test_nothing_is_said_of_a_reward_that_rises():
    rising = [0.3 + 0.02 * i for i in range(24)]
    assert diagnose(run(rising, zero_variance=0.9)) == []
    assert diagnose([]) == []


@pytest.mark.parametrize(
    ("rewards", "values", "expected"),
    [
        ([0.02] * 24, {"zero_variance": 0.95}, "mostly as wrong: take easier problems or raise reinforce.answers"),
        ([0.98] * 24, {"zero_variance": 0.95}, "too easy"),
        (FLAT, {"cut_short": 0.7}, "raise reinforce.max_tokens"),
        (FLAT, {"logprob_gap": 0.2}, "sampler and trainer differ by 0.2 nats"),
        (FLAT, {"entropy": lambda done: 0.3 if done < 0.5 else 0.001}, "the entropy fell from 0.3 to 0.001"),
        ([0.3] * 12 + [0.1] * 12, {}, "the reward falls: lower reinforce.matrix_lr"),
        (FLAT, {}, "raise reinforce.matrix_lr"),
    ],
)
def test_a_flat_reward_is_explained_by_what_the_metrics_show(rewards, values, expected):
    (words,) = diagnose(run(rewards, **values))
    assert expected in words


def test_evaluations_between_the_steps_are_passed_over():
    lines = run(FLAT)
    assert diagnose([*lines, {"step": 24, "held_out_greedy": 0.5}]) == diagnose(lines)
