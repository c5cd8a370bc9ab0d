from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawl2chat.evals.base.compression import KneserNey, discounts_of

A, B, C = 0, 1, 2


def probability(model, history, token):
    return np.exp(-model.nats(np.array([*history, token]))[-1])


def test_a_small_case_worked_by_hand():
    """Bigrams ab 2, ba 1, ac 1, ca 1; too few for discounts of their own, so 0.5 and 1.

    Before a stand two different tokens, before b and c one each: p(b) = 0.5/4 + 2/4 · 1/3 with 2 = 1 + 0.5 + 0.5.
    """
    model = KneserNey(np.array([A, B, A, C, A, B]), vocab_size=3, order=2)
    p_b = 0.5 / 4 + 2 / 4 / 3
    assert probability(model, [A], B) == pytest.approx((2 - 1) / 3 + (1 + 0.5) / 3 * p_b)
    assert probability(model, [A], A) == pytest.approx((1 + 0.5) / 3 * (1 / 4 + 2 / 4 / 3))
    assert probability(model, [B], A) == pytest.approx((1 - 0.5) / 1 + 0.5 / 1 * (1 / 4 + 2 / 4 / 3))


def test_discounts_are_those_of_chen_and_goodman():
    counts = np.repeat([1, 2, 3, 4, 9], [10, 5, 3, 2, 7])
    # Y = 10/(10 + 2·5) = 1/2; D1 = 1 − 2Y·5/10, D2 = 2 − 3Y·3/5, D3+ = 3 − 4Y·2/3
    assert discounts_of(counts).tolist() == pytest.approx([0, 0.5, 1.1, 5 / 3])


def by_the_formula(ids, vocab_size, order):
    """p(w | h) with dictionaries, as the paper writes it down."""
    counts = [defaultdict(int) for _ in range(order + 1)]
    for i in range(len(ids) - order + 1):
        counts[order][tuple(ids[i : i + order])] += 1
    for n in range(order - 1, 0, -1):
        longer = {tuple(ids[i : i + n + 1]) for i in range(len(ids) - n)}
        for gram in longer:
            counts[n][gram[1:]] += 1

    def discount(n, count):
        return discounts_of(np.array(list(counts[n].values())))[min(count, 3)]

    def p(history, word):
        n = len(history) + 1
        lower = p(history[1:], word) if history else 1 / vocab_size
        following = {gram: c for gram, c in counts[n].items() if gram[:-1] == tuple(history)}
        if not following:
            return lower
        count = following.get((*history, word), 0)
        left = sum(discount(n, c) for c in following.values())
        return (max(count - discount(n, count), 0) + left * lower) / sum(following.values())

    return p


@pytest.mark.parametrize("order", [1, 2, 3])
def test_fast_and_by_the_formula_are_the_same(order):
    draw = np.random.default_rng(order)
    ids = draw.choice(6, size=300, p=[0.4, 0.3, 0.15, 0.1, 0.04, 0.01])
    model, p = KneserNey(ids, 6, order), by_the_formula(ids.tolist(), 6, order)
    for history in draw.integers(0, 6, (20, order - 1)).tolist():
        for word in range(6):
            assert probability(model, [0] * (not history) + history, word) == pytest.approx(p(history, word))


@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=60),
    st.lists(st.integers(0, 4), min_size=1, max_size=6),
    st.integers(1, 5),
)
def test_probabilities_behind_any_history_sum_to_1(ids, history, order):
    model = KneserNey(np.array(ids), 5, order)
    assert sum(probability(model, history, word) for word in range(5)) == pytest.approx(1)


def test_what_was_seen_often_is_expected_and_unseen_tokens_are_possible():
    model = KneserNey(np.tile(np.arange(8), 50), vocab_size=10)
    nats = model.nats(np.arange(8))
    assert nats[0] == 0
    assert nats[4:].max() < 0.1
    assert np.isfinite(model.nats(np.array([8, 9, 8]))).all()
