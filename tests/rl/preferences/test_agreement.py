import json
import math
import random

import numpy as np
import pytest

from crawl2chat.rl.preferences.agreement import (
    alpha,
    between,
    concordance,
    first_shown_best,
    kendall_tau_b,
    krippendorff_alpha,
    report,
    with_oneself,
)
from crawl2chat.rl.preferences.store import Answer, RankingStore

ABC = [Answer(text, True, "m") for text in "abc"]


@pytest.mark.parametrize(
    ("one", "other", "tau"),
    [
        ([1, 2, 3, 4], [1, 2, 3, 4], 1),
        ([1, 2, 3, 4], [4, 3, 2, 1], -1),
        ([1, 2, 3, 4], [1, 2, 4, 3], 4 / 6),  # 5 pairs concordant, 1 discordant
        ([1, 2, 3], [1, 2.5, 2.5], 2 / math.sqrt(3 * 2)),  # 2 concordant, one tied on one side
        ([1.5, 1.5, 3], [1, 2.5, 2.5], 1 / math.sqrt(2 * 2)),  # a, c alike; a, b and b, c each tied on one side
        ([2, 2, 2], [1, 2, 3], None),
        ([1], [1], None),
    ],
)
def test_kendalls_tau_b_worked_out_by_hand(one, other, tau):
    assert kendall_tau_b(one, other) == (tau if tau is None else pytest.approx(tau))
    assert kendall_tau_b(other, one) == (tau if tau is None else pytest.approx(tau))


def test_krippendorffs_own_example():
    """Example C of "Computing Krippendorff's Alpha-Reliability" (2011): four observers, values missing."""
    observers = [
        "1 2 3 3 2 1 4 1 2 . . .",
        "1 2 3 3 2 2 4 1 2 5 . 3",
        ". 3 3 3 2 3 4 2 2 5 1 .",
        "1 2 3 3 2 4 4 1 2 5 1 .",
    ]
    columns = zip(*(row.split() for row in observers), strict=True)
    units = [[float(value) for value in column if value != "."] for column in columns]
    assert krippendorff_alpha(units) == pytest.approx(0.815, abs=5e-4)


def test_alpha_of_two_prompts_worked_out_by_hand():
    # two annotators agree on one prompt and disagree on the other; two values have one distance, which cancels, so that
    # alpha = 1 − (n − 1) · o_12 / (n_1 · n_2) with n = 8, o_12 = 2, n_1 = n_2 = 4
    units = [[1, 1], [2, 2], [1, 2], [2, 1]]
    assert krippendorff_alpha(units) == pytest.approx(1 - 7 * 2 / (4 * 4))
    assert krippendorff_alpha([[1, 1], [1, 1]]) is None
    assert krippendorff_alpha([[1], [2]]) is None


def test_the_interval_of_alpha_is_that_of_whole_prompts_drawn_again():
    store, rng = RankingStore(), random.Random(1)
    for prompt in range(12):
        first = rng.sample(range(3), 3)
        store.add(f"p{prompt}", ABC, first, "anna")
        store.add(f"p{prompt}", ABC, first if prompt % 3 else rng.sample(range(3), 3), "bert")
    rankings = list(store.rankings())
    ranks = [[[float(r.best_first.index((i,)) + 1) for r in rankings[at : at + 2]] for i in range(3)]
             for at in range(0, 24, 2)]  # fmt: skip
    draws = np.random.default_rng(0)
    drawn = [krippendorff_alpha([unit for i in draws.integers(12, size=12) for unit in ranks[i]]) for _ in range(1000)]
    found = alpha(rankings)
    assert found.value == pytest.approx(krippendorff_alpha([unit for prompt in ranks for unit in prompt]))
    assert found.interval == pytest.approx(tuple(np.quantile(drawn, (0.025, 0.975))))


def test_random_rankings_have_an_alpha_and_a_tau_of_about_nothing():
    rng = random.Random(0)
    judged = [(rng.sample(range(4), 4), rng.sample(range(4), 4)) for _ in range(2000)]
    assert krippendorff_alpha([pair for one in judged for pair in zip(*one, strict=True)]) == pytest.approx(0, abs=0.05)
    found = concordance(judged)
    assert found.tau.value == pytest.approx(0, abs=0.05)
    assert found.tau.interval[0] < 0 < found.tau.interval[1]
    assert found.same_share.value == pytest.approx(0.5, abs=0.03)


def shown(texts):
    return [Answer(text, True, "m") for text in texts]


def test_annotators_are_compared_by_what_they_saw_whatever_its_order():
    store = RankingStore()
    store.add("One?", shown("abc"), [0, 1, 2], "anna")  # a b c
    store.add("One?", shown("cba"), [2, 1, 0], "bert")  # a b c
    store.add("Two?", shown("abc"), [0, 1, 2], "anna")  # a b c
    store.add("Two?", shown("bca"), [[0, 2], 1], "bert")  # a=b, c
    store.add("Three?", shown("abc"), [0, 1, 2], "anna")  # bert saw other answers, so there is nothing to compare
    store.add("Three?", shown("abx"), [2, 1, 0], "bert")
    store.add("Four?", shown("abc"), [], "anna", verdict="all_bad")
    found = between(list(store.rankings()))["anna", "bert"]
    assert (found.prompts, found.pairs, found.same) == (2, 5, 5)
    assert found.tau.value == pytest.approx((1 + 2 / math.sqrt(6)) / 2)
    assert found.tau.count == 2
    # by hand: values 1,1 2,2 3,3 and 1,1.5 2,1.5 3,3; n of 1, 1.5, 2, 3 is 3, 2, 3, 4
    n, distance_1 = 12, (3 / 2 + 2 / 2) ** 2
    distance_2 = (2 / 2 + 3 / 2) ** 2
    expected = sum([
        3 * 2 * 2.5**2, 3 * 3 * 5.0**2, 3 * 4 * 8.5**2, 2 * 3 * 2.5**2, 2 * 4 * 6.0**2, 3 * 4 * 3.5**2
    ])  # fmt: skip
    measured = alpha(list(store.rankings()))
    assert measured.value == pytest.approx(1 - (n - 1) * (distance_1 + distance_2) / expected)
    assert measured.count == 2
    assert measured.interval[0] <= measured.value <= measured.interval[1]


def test_agreement_with_oneself_is_that_of_the_first_and_the_second_time():
    store = RankingStore()
    first = store.add("One?", shown("abc"), [0, 1, 2], "anna")
    again = store.add("One?", shown("cab"), [1, 0, 2], "anna", repeat_of=first)  # a c b
    skipped = store.add("Two?", shown("abc"), [0, 1, 2], "anna")
    store.add("Two?", shown("cab"), [], "anna", verdict="skipped", repeat_of=skipped)
    (found,) = with_oneself(list(store.rankings())).values()
    assert (found.prompts, found.pairs, found.same) == (1, 3, 2)
    assert found.tau.value == pytest.approx(1 / 3)
    told = report(store.judgements(), {first: [3.0, 2.0, 1.0], again: [1.0, 3.0, 2.0], skipped: [1.0, 2.0, 2.0]})
    (anna,) = told["annotators"]
    assert (anna["ranked"], anna["skipped"], anna["all_bad"]) == (3, 1, 0)
    (of_rewards,) = told["with_reward_model"]  # a b c twice; the second time by rewards b=c, a: of 2 pairs none
    assert (of_rewards["prompts"], of_rewards["pairs"], of_rewards["same"]) == (2, 5, 3)
    json.dumps(told, allow_nan=False)


def test_a_habit_of_preferring_what_is_shown_first_is_seen():
    store = RankingStore()
    for prompt in ("One?", "Two?", "Three?"):
        store.add(prompt, shown("abc"), [0, 1, 2], "anna")
    store.add("Four?", shown("abc"), [1, [0, 2]], "anna")
    store.add("Five?", shown("abc"), [[0, 1], 2], "anna")  # no one best
    figure, by_chance = first_shown_best(list(store.rankings()))
    assert (figure.value, figure.count, by_chance) == (0.75, 4, pytest.approx(1 / 3))


def test_nobody_is_nothing_to_report():
    assert report([]) == {
        "annotators": [], "alpha": None, "between": [], "with_oneself": [], "with_reward_model": None
    }  # fmt: skip
