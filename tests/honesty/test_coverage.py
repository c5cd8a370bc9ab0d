import numpy as np
import pytest

from crawl2chat.evals.judging import Answer, Question
from crawl2chat.honesty.coverage import area_under_errors, calibration_error, coverage_figures, curve, tally
from crawl2chat.honesty.probe import Probe

KNOWN, NOBODY = Question("?", ("Telm",), "a"), Question("?", (), "b")


def answers(*texts_of_known, nobody=()):
    known = [Answer(KNOWN, text, "Telm" in text, True, 3) for text in texts_of_known]
    return [*known, *(Answer(NOBODY, text, False, True, 3) for text in nobody)]


def claim(agreement, said, question=KNOWN):
    return Probe((question,), (said,), float("Telm" in said), agreement, said)


def test_errors_saved_and_right_answers_lost_by_hand():
    before = answers("Telm.", "Telm.", "Bree.", "Bree.", nobody=["A painter.", "I do not know."])
    after = answers("Telm.", "I do not know.", "I do not know.", "Bree.", nobody=["I do not know."] * 2)
    found = {figure.name: figure.value for figure in tally(before, after)}
    assert (found["all right before"], found["all right after"]) == (0.5, 0.25)
    assert (found["all refused after"], found["all wrong after"]) == (0.5, 0.25)
    assert found["all right of answered after"] == 0.5
    assert found["right before that stays right"] == 0.5
    assert found["fewer wrong answers"] == 0.5
    assert found["claims about what nobody can know before"] == 0.5
    assert found["claims about what nobody can know after"] == 0


def test_area_under_errors_by_hand():
    # accuracy at coverages 1/4 … 1: 1, 1, 2/3, 1/2
    ordered = np.array([(0.9, 1), (0.8, 1), (0.5, 0), (0.1, 0)])
    assert area_under_errors(ordered) == pytest.approx((0 + 0 + 1 / 3 + 1 / 2) / 4)
    # of equal scores the order can't be known, so each place has their mean
    tied = np.array([(0.5, 1), (0.5, 0)])
    assert area_under_errors(tied) == pytest.approx(0.5)


def test_calibration_error_by_hand():
    assert calibration_error(np.array([(1.0, 1), (1.0, 1)])) == 0
    assert calibration_error(np.array([(0.9, 1), (0.9, 0), (0.1, 0)])) == pytest.approx((0.8 + 0.1) / 3)


def test_the_curve_counts_refusals_and_leaves_out_what_nobody_can_know():
    probes = [
        claim(1.0, "Telm."), claim(0.6, "Bree."), claim(0.6, "Telm."), claim(1.0, "I do not know."),
        claim(0.9, "A painter.", NOBODY),
    ]  # fmt: skip
    points = [(row["from"], row["coverage"], row["value"]) for row in curve(probes)]
    assert points == [(1.0, 0.25, 1.0), (0.6, 0.75, pytest.approx(2 / 3))]


def test_a_model_that_refuses_everything_has_no_curve():
    assert curve([claim(1.0, "I do not know.")]) == []
    assert coverage_figures([claim(1.0, "I do not know.")], "after") == []
