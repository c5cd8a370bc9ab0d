import pytest

from crawl2chat.figures import Figure, share, wilson_interval


def test_wilson_interval_equals_published_values():
    # Newcombe 1998, table I, method 3
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert wilson_interval(0, 20) == pytest.approx((0.0, 0.1611), abs=1e-4)


def test_a_share_of_nothing_is_known_to_be_unknown():
    assert share("x", 0, 0).interval == (0.0, 1.0)


def test_figures_survive_json():
    figure = share("a/b", 3, 7)
    assert Figure.from_json("a/b", figure.to_json()) == figure
