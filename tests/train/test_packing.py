import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawl2chat.train.data import best_fit, best_fit_rows, concatenated_rows

LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=60)


def starts(lengths):
    return np.concatenate([[0], np.cumsum(lengths)])


def tokens(rows):
    return [[place for b, n in zip(*row, strict=True) for place in range(b, b + n)] for row in rows]


@given(LENGTHS, st.integers(1, 20), st.sampled_from([best_fit_rows, concatenated_rows]), st.integers(0, 5))
def test_rows_hold_every_token_once_and_no_more_than_they_can(lengths, seq_len, pack, seed):
    rows = pack(starts(lengths), seq_len, np.random.default_rng(seed))
    of_row = tokens(rows)
    assert sorted(place for row in of_row for place in row) == list(range(sum(lengths)))
    assert all(1 <= len(row) <= seq_len for row in of_row)


@given(LENGTHS, st.integers(1, 20), st.integers(0, 5))
def test_best_fit_cuts_only_what_is_longer_than_a_row_and_as_seldom_as_possible(lengths, seq_len, seed):
    rows = best_fit_rows(starts(lengths), seq_len, np.random.default_rng(seed))
    pieces = sorted((begin, n) for row in rows for begin, n in zip(*row, strict=True))
    expected = [
        (first + i, min(seq_len, n - i)) for first, n in zip(starts(lengths), lengths, strict=False)
        for i in range(0, n, seq_len)
    ]  # fmt: skip
    assert pieces == expected


@given(st.lists(st.integers(1, 12), min_size=1, max_size=60), st.integers(12, 30))
def test_rows_are_filled_as_by_best_fit_one_item_at_a_time(lengths, room):
    fullest: list[int] = []
    for length in sorted(lengths, reverse=True):
        fitting = [row for row, used in enumerate(fullest) if used + length <= room]
        if fitting:
            fullest[max(fitting, key=lambda row: fullest[row])] += length
        else:
            fullest.append(length)
    row_of_item = best_fit(np.array(lengths), room)
    assert sorted(np.bincount(row_of_item, weights=lengths)) == sorted(fullest)


@pytest.mark.parametrize("pack", [best_fit_rows, concatenated_rows])
def test_another_epoch_has_other_rows_of_the_same_number(pack):
    lengths = np.random.default_rng(0).integers(1, 60, 200)
    one, other = (pack(starts(lengths), 32, np.random.default_rng((7, epoch))) for epoch in (0, 1))
    assert len(one) == len(other)
    assert tokens(one) != tokens(other)


def test_concatenated_rows_are_full_but_for_one():
    rows = concatenated_rows(starts([5, 9, 30, 1, 2]), 8, np.random.default_rng(0))
    assert sorted(map(len, tokens(rows))) == [7, 8, 8, 8, 8, 8]
