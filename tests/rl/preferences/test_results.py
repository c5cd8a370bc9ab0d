import math
from itertools import combinations

import pytest

from crawl2chat.rl.preferences.check import Check, Comparison, Judged
from crawl2chat.rl.preferences.results import (
    best_of_n,
    check_to_keep,
    curves,
    figures,
    kl_best_of_n,
    peak,
    powers_of_two,
    smoothed_win_rates,
)
from crawl2chat.rl.preferences.store import Answer

GOLDS = [2.0, 3.0, 4.0, 3.5, 1.0]
WINS = [0, 6, 9, 10, 4]


def check(step: int, wins: int, gold: float | None, compared: int = 10) -> Check:
    answer = Answer("a", True, "m")
    comparisons = [Comparison("p", answer, answer, i < wins) for i in range(compared if step else 0)]
    judged = [Judged("p", "a verse", True, float(step), gold and gold + d) for d in (-0.5, 0.5)]
    return Check(step, kl=step**2, tokens=30.0, judged=judged, comparisons=comparisons)


def checks() -> list[Check]:
    return [check(4 * i, wins, gold) for i, (wins, gold) in enumerate(zip(WINS, GOLDS, strict=True))]


def test_the_best_of_n_is_the_mean_over_all_subsets():
    proxies, values = [0.3, -1.0, 2.5, 0.9, 1.1, -0.2], [5.0, 1.0, -3.0, 2.0, 4.0, 0.0]
    for n in range(1, 7):
        winners = [values[max(subset, key=lambda i: proxies[i])] for subset in combinations(range(6), n)]
        assert best_of_n(proxies, values, n) == pytest.approx(sum(winners) / len(winners))


def test_the_best_of_more_than_there_are_is_refused():
    with pytest.raises(ValueError, match="a pool of 2 answers is too small for the best of 3"):
        best_of_n([1.0, 2.0], [1.0, 2.0], 3)


def test_the_kl_of_best_of_n_is_that_of_the_maximum_of_n_uniform_numbers():
    """The best of n has density n·u^(n−1) over the quantile u of the proxy."""
    for n in (1, 2, 8, 64):
        cells = [(i + 0.5) / 200_000 for i in range(200_000)]
        density = [n * u ** (n - 1) for u in cells]
        kl = sum(p * math.log(p) for p in density if p > 0) / len(cells)
        assert kl_best_of_n(n) == pytest.approx(kl, abs=1e-4)


def test_powers_of_two_go_up_to_the_pool():
    assert powers_of_two(64) == [1, 2, 4, 8, 16, 32, 64]
    assert powers_of_two(20) == [1, 2, 4, 8, 16]
    assert powers_of_two(1) == [1]


def test_win_rates_are_smoothed_with_their_neighbours():
    assert smoothed_win_rates(checks()) == pytest.approx([0.55, 2.0 / 3, 2.5 / 3, 2.3 / 3, 0.7])


def test_the_rule_keeps_the_best_smoothed_win_rate_and_never_looks_at_gold():
    assert check_to_keep(checks()).step == 8
    hidden = [check(c.step, c.wins, None) for c in checks()]
    assert check_to_keep(hidden).step == 8


def test_without_comparisons_the_last_step_is_kept():
    assert check_to_keep([check(4 * i, 0, None, compared=0) for i in range(4)]).step == 12


def test_a_check_comes_back_from_its_file_as_it_was(tmp_path):
    for one in (check(4, 3, 2.0), check(8, 0, None)):
        one.save(tmp_path / "check.json")
        assert Check.load(tmp_path / "check.json") == one


def test_curves_and_figures_name_the_start_the_kept_the_peak_and_the_end():
    found = curves(checks(), check_to_keep(checks()), [])
    assert (found["kept"], found["peak"]) == (8, 8)
    made = {figure.name: figure for figure in figures(found)}
    assert [made[f"gold/{name}"].value for name in ("start", "kept", "peak", "end")] == [2.0, 4.0, 4.0, 1.0]
    assert made["comparisons"].value == 40
    assert made["kept_win_rate"].value == 0.9
    assert made["sqrt_kl/end"].value == 16
    low, high = made["gold/end"].interval
    assert high - low == pytest.approx(2 * 1.96 * 0.5)  # golds 0.5 and 1.5: deviation √½, error ½


def test_a_persons_rankings_leave_gold_out():
    hidden = [check(4 * i, 0, None, compared=0) for i in range(3)]
    assert peak(hidden) is None
    names = {figure.name for figure in figures(curves(hidden, hidden[-1], []))}
    assert not any(name.startswith(("gold", "peak")) for name in names)
    assert "proxy/end" in names
