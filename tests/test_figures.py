import math

import pytest

from crawl2chat.stages.figures import Figure, area_under_roc, mean, share, wilson_interval


def test_wilson_interval_equals_published_values():
    # Newcombe 1998, table I, method 3
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert wilson_interval(0, 20) == pytest.approx((0.0, 0.1611), abs=1e-4)


def test_a_share_of_nothing_is_known_to_be_unknown():
    assert share("x", 0, 0).interval == (0.0, 1.0)


def test_figures_survive_json():
    figure = share("a/b", 3, 7)
    assert Figure.from_json("a/b", figure.to_json()) == figure


def test_the_interval_of_a_mean_follows_the_spread_of_its_cases():
    figure = mean("x", [1.0, 2.0, 3.0, 4.0], "tokens")
    assert figure.value == 2.5
    assert figure.interval == pytest.approx((2.5 - 1.96 * 0.6455, 2.5 + 1.96 * 0.6455), abs=1e-3)
    assert mean("x", [0.0, 1.0], "share").interval == (0.0, 1.0)
    assert mean("x", [0.5], "share").interval is None


def test_the_area_under_the_curve_counts_pairs_in_order():
    assert area_under_roc([3.0, 1.0], [2.0, 0.0]) == 0.75
    assert area_under_roc([1.0, 1.0], [1.0, 1.0]) == 0.5
    assert math.isnan(area_under_roc([], [1.0]))
    assert math.isnan(area_under_roc([1.0], []))
