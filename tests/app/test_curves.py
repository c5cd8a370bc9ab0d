"""Curves for the page Training: files that grow, smoothing over all values, reduction that hides nothing."""

import json
import os

import numpy as np
import pytest

from crawl2chat.serve.app import metrics_file
from crawl2chat.serve.app.curves import Smoothing, grid, reduce, spread
from crawl2chat.serve.app.metrics_file import MetricsFile, parse

FOREVER = 60.0  # seconds


def lines(first, last, **more) -> str:
    return "".join(
        json.dumps({"step": i, "loss": 1 + 1 / i, "tokens": 10 * i, "seconds": 0.5, "gflops_per_second": 2.0} | more)
        + "\n"
        for i in range(first, last + 1)
    )


def reading(file, seconds=FOREVER) -> MetricsFile:
    metrics = MetricsFile(file)
    metrics.read(seconds)
    return metrics


def test_a_file_is_read_as_columns_with_what_each_step_cost(tmp_path):
    file = tmp_path / "metrics.jsonl"
    file.write_text(lines(1, 3) + '{"step": 3, "bits_per_byte": 1.5}\n' + lines(4, 4, skipped="the loss is nan"))
    found = reading(file)
    assert found.axes["step"].values.tolist() == [1, 2, 3, 3, 4]
    assert found.axes["tokens"].values.tolist() == [10, 20, 30, 30, 40]  # an evaluation has those of its step
    assert found.axes["seconds"].values.tolist() == [0.5, 1, 1.5, 1.5, 2]
    assert found.axes["flop"].values.tolist() == [1e9, 2e9, 3e9, 3e9, 4e9]
    assert found.fields["bits_per_byte"].lines.values.tolist() == found.evaluations.values.tolist() == [3]
    assert found.fields["bits_per_byte"].of_evaluations
    assert not found.fields["loss"].of_evaluations
    assert found.reasons == [(4, "the loss is nan")]
    assert found.share == 1


def test_half_a_line_waits_until_it_is_whole(tmp_path):
    file = tmp_path / "metrics.jsonl"
    whole = lines(1, 2)
    file.write_text(whole[:-20])
    found = reading(file)
    assert len(found) == 1
    found.read(FOREVER)
    assert len(found) == 1
    with open(file, "a") as handle:
        handle.write(whole[-20:] + lines(3, 3)[:5])
    found.read(FOREVER)
    assert found.fields["loss"].values.values.tolist() == [2, 1.5]


def test_a_file_that_a_resumed_run_wrote_again_is_read_from_its_beginning(tmp_path):
    file = tmp_path / "metrics.jsonl"
    file.write_text(lines(1, 6))
    found = reading(file)
    before = found.version
    for name, content in (("shorter", lines(1, 3)), ("longer", lines(1, 9, loss=5.0))):
        (tmp_path / name).write_text(content)
        os.replace(tmp_path / name, file)
        found.read(FOREVER)
        assert len(found) == content.count("\n")
        assert found.version != before
    assert set(found.fields["loss"].values.values) == {5}


@pytest.mark.parametrize("few", [0, 1 << 30], ids=["by pyarrow", "by Python"])
def test_lines_are_parsed_alike_and_damaged_ones_passed_over(few, monkeypatch):
    monkeypatch.setattr(metrics_file, "FEW", few)
    content = (
        lines(1, 2) + '{"step": 2, "reward": 1, "note": "x", "flag": true}\n' + lines(3, 3, skipped="why", reward=0.5)
    )
    for text in (content, content.replace('"note"', '{"note', 1)):
        columns, skipped = parse(text.encode())
        damaged = text != content
        assert columns["step"].tolist() == [1, 2, 3] if damaged else [1, 2, 2, 3]
        assert {"note", "flag", "skipped"}.isdisjoint(columns)
        assert [why for _, why in skipped] == ["why"]
        rewards = columns["reward"][~np.isnan(columns["reward"])]
        assert rewards.tolist() == ([0.5] if damaged else [1, 0.5])


def test_a_long_file_is_read_in_parts_and_its_rest_is_glimpsed_meanwhile(tmp_path, monkeypatch):
    monkeypatch.setattr(metrics_file, "BLOCK", 1 << 16)
    monkeypatch.setattr(metrics_file, "LONG_REST", 1 << 16)
    file = tmp_path / "metrics.jsonl"
    file.write_text(lines(1, 20_000))
    found = MetricsFile(file)
    found.read(0)
    assert 0 < found.share < 0.1
    axes, values = found.glimpses("loss")
    steps = axes["step"]
    assert steps[0] > found.axes["step"].last
    assert 18_000 < steps[-1] <= 20_000
    assert np.all(np.diff(steps) > 0)
    np.testing.assert_allclose(values, 1 + 1 / steps)
    for _ in range(1000):
        if found.share == 1:
            break
        found.read(0)
    assert len(found) == 20_000
    assert not len(found.glimpses("loss")[1])


def slow_smoothing(values, over):
    keep, total, weight, found = 1 - 1 / over, 0.0, 0.0, []
    for value in values:
        total, weight = total * keep + value, weight * keep + 1
        found.append(total / weight)
    return found


@pytest.mark.parametrize("over", [1, 2, 16, 5000])
def test_smoothing_is_the_weighted_mean_whatever_parts_a_series_came_in(over):
    values = np.random.default_rng(0).normal(3, 1, 1500)
    expected = slow_smoothing(values, over)
    for cuts in ([1500], [1, 2, 127, 128, 129, 700, 1500]):
        smoothing = Smoothing(over, on_log=False)
        for cut in cuts:
            found = smoothing.follow(values[:cut])
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_a_constant_series_stays_constant_to_the_last_bit():
    for value in (0.1, 2.3025851, -7e-5):
        assert set(Smoothing(64, on_log=False).follow(np.full(3000, value))) == {value}


def test_on_a_logarithmic_axis_logarithms_are_smoothed_and_what_has_none_has_no_say():
    values = np.array([1.0, 100.0, 0.0, 100.0, -3.0])
    logs = [0, 2, 2, 2, 2]
    np.testing.assert_allclose(
        Smoothing(4, on_log=True).follow(values), 10 ** np.array(slow_smoothing(logs, 4)), rtol=1e-9
    )


def test_what_is_shown_of_a_smoothed_curve_does_not_depend_on_how_many_columns_there_are():
    x, values = np.arange(1.0, 50_001), np.random.default_rng(1).normal(size=50_000)
    smoothed = Smoothing(100, on_log=False).follow(values)
    for columns in (50, 333, 1000):
        on = grid([x], columns, None, None, False)
        curve = reduce(on, x, values, smoothed)
        last = np.searchsorted(x, on.edges[1:]) - 1
        np.testing.assert_array_equal(curve.smooth, smoothed[last].astype(np.float32))


def test_a_spike_of_one_step_among_many_is_kept():
    values = np.zeros(1_000_000, np.float32)
    values[654_321], values[123_456] = 9, -4
    x = np.arange(1.0, 1_000_001)
    curve = reduce(grid([x], 300, None, None, False), x, values, values)
    assert (curve.high.max(), curve.low.min()) == (9, -4)
    assert (np.argmax(curve.high), np.argmin(curve.low)) == (654_321 * 300 // 1_000_000, 123_456 * 300 // 1_000_000)


def test_few_values_are_shown_at_their_own_places_and_columns_without_any_are_empty():
    first, second = np.array([1.0, 2, 4]), np.array([2.0, 3])
    on = grid([first, second], 100, None, None, False)
    assert on.x.tolist() == [1, 2, 3, 4]
    curve = reduce(on, second, np.array([7.0, 8]), np.array([7.0, 8]))
    np.testing.assert_array_equal(curve.high, [np.nan, 7, 8, np.nan])
    assert grid([first], 100, 2, 3.5, False).x.tolist() == [2]
    assert not len(grid([first], 100, 50, None, False).x)
    assert not len(grid([], 100, None, None, False).x)


def test_columns_of_a_logarithmic_axis_are_as_wide_in_logarithms():
    x = np.arange(0.0, 100_000)
    on = grid([x], 50, None, None, True)
    ratios = on.edges[1:] / on.edges[:-1]
    np.testing.assert_allclose(ratios, ratios[0], rtol=1e-6)
    assert on.edges[0] == 1  # zero has no logarithm


def test_the_spread_is_that_of_the_curves_where_all_of_them_are():
    x = np.arange(1.0, 7)
    on = grid([x], 100, None, None, False)
    one = reduce(on, x, x, x)
    other = reduce(on, np.array([2.0, 5]), np.array([4.0, 7]), np.array([4.0, 7]))  # a line between its two values
    mean, least, greatest = spread(on, [one, other])
    np.testing.assert_allclose(mean, [np.nan, 3, 4, 5, 6, np.nan])
    np.testing.assert_allclose(least, [np.nan, 2, 3, 4, 5, np.nan])
    np.testing.assert_allclose(greatest, [np.nan, 4, 5, 6, 7, np.nan])
