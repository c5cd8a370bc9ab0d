"""The figures that matter most, per stage."""

from crawl2chat.report.captions import KEY_FIGURES, MAX_KEY_FIGURES, key_figures
from crawl2chat.stages.figures import Figure


def test_key_figures_come_in_the_order_of_their_list():
    figures = [Figure(name, 1.0) for name in ("padding", "bytes_per_token", "vocab_size")]
    assert [figure.name for figure in key_figures("tokenizer", figures)] == ["vocab_size", "bytes_per_token"]


def test_groups_of_ones_own_are_found_by_pattern():
    figures = [Figure("wrong after/prices", 0.1), Figure("wrong before/prices", 0.9), Figure("steps", 12)]
    assert [figure.name for figure in key_figures("honesty", figures)] == ["wrong before/prices", "wrong after/prices"]


def test_no_stage_prints_more_than_the_few():
    every = [Figure(name, 1.0) for name in KEY_FIGURES["base"]]
    assert [figure.name for figure in key_figures("base", every)] == list(KEY_FIGURES["base"][:MAX_KEY_FIGURES])
    assert len(key_figures("a stage of one's own", every)) == MAX_KEY_FIGURES
