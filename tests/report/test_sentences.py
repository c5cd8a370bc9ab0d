"""Sentences with a run's figures in them."""

import re

import pytest

from crawl2chat.report.captions import KEY_FIGURES
from crawl2chat.report.names import readable_name
from crawl2chat.report.sentences import MEASURED_IN, STAGES, readable, sentences
from crawl2chat.stages.figures import Figure, share


def figures(*found):
    return {figure.name: figure for figure in found}


def test_a_sentence_has_the_values_with_their_intervals():
    pages = Figure("pages", 7119.0, "pages")
    found = figures(
        Figure("kept", 6599.0, "documents"), pages, Figure("kept_share", 0.927, "share", (0.92, 0.933), 7119)
    )
    assert sentences("refine", found) == [
        "<b>6,599 documents</b> are kept of <b>7,119 pages</b>: <b>92.7 %</b> <small>[92, 93.3]</small>."
    ]


def test_what_a_run_did_not_measure_is_not_spoken_of():
    assert sentences("refine", figures(share("kept_share", 1, 2))) == []
    brought = figures(
        *(share(f"all {what} {when}", 1, 2) for what in ("wrong", "right") for when in ("before", "after"))
    )
    (said,) = sentences("honesty", brought)
    assert said.startswith("Wrong answers to held-out questions: <b>50 %</b>")


def test_a_gain_is_in_points():
    gained = figures(Figure("pass_at_1_gain", 0.18, "", (0.15, 0.2), 200))
    assert sentences("reinforce", gained) == [
        "Problem by problem that is a gain of <b>+18 points</b> <small>[15, 20]</small>."
    ]


@pytest.mark.parametrize(
    ("figure", "said"),
    [
        (Figure("a", 9_000_314, "tokens"), "9 M tokens"),
        (Figure("a", 580_793, "bytes"), "581 kB"),
        (Figure("a", 1_377_920), "1.38 M"),
        (Figure("a", 0.299, "bits/byte"), "0.299 bits per byte"),
        (Figure("a", 1.0, "share"), "100 %"),
        (Figure("a", -0.9167, "points"), "-0.917 points"),
    ],
)
def test_values_are_written_as_people_write_them(figure, said):
    assert readable(figure) == said


def test_every_stage_has_words():
    assert KEY_FIGURES.keys() <= STAGES.keys()
    assert STAGES.keys() >= MEASURED_IN.keys()
    assert all(text.says and re.search(r"\{", text.says[0][0]) for text in STAGES.values())


def test_names_are_readable_with_their_groups():
    assert readable_name("facts_held_out/16-31") == "questions that no conversation answered: 16–31"
    assert readable_name("pass_at_8_before") == "problems with a right answer among 8, before"
    assert readable_name("right after/my_group") == "right after: my group"
    assert not [name for names in KEY_FIGURES.values() for name in names if "_" in readable_name(name)]
