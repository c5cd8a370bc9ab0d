import pytest

from crawl2chat.rl.diagnosis import diagnose

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
