import os
import subprocess
import sys

import numpy as np
import pytest

from crawl2chat.refine.text.block_features import FEATURES, block_features
from crawl2chat.refine.text.html_blocks import html_blocks
from crawl2chat.refine.text.main_content import choose_blocks, main_blocks, score_blocks

PAGE = """<div class=menu><a href=/>Home</a> <a href=/s>Shop</a></div>
<div class="post-content"><h1>The mill by the river</h1>
<p>The miller went to the river in the morning, and he was not alone there.</p>
<p>"It is late," said he, "and the wheel has to turn before the sun is up."</p></div>
<div class="related"><ul><li><a href=1>Ten best mills</a></li><li><a href=2>Bread at home</a></li></ul></div>"""


def test_prose_is_kept_and_menus_are_not():
    texts = [block.text for block in main_blocks(html_blocks(PAGE))]
    assert any(text.startswith("The miller went") for text in texts)
    assert not any("Shop" in text or "Ten best" in text for text in texts)


def test_what_follows_an_article_goes_and_all_of_the_article_stays():
    article = """<h1>Bridge closed until May</h1>
<p>The old bridge over the river will be closed until May, the city said on Monday.</p>
<p>Engineers found cracks in two of its pillars, and repairs will cost about two million.</p>
<p>Buses will take another way, and cyclists are asked to use the railway bridge.</p>"""
    around = """<div class=author-box><p>Jane Roe writes about the city. She lives by the river.</p></div>
<div class=newsletter><p>Sign up for our newsletter and get the news of the day in your inbox.</p></div>
<h3>Comments (12)</h3><div class=comment><p>Bob, 2 hours ago</p>
<p>They should have done this years ago, if you ask me.</p></div>
<p>Copyright 2024 The Gazette. All rights reserved.</p>"""
    kept = main_blocks(html_blocks(f"<article>{article}</article>{around}"))
    assert [block.text for block in kept] == [block.text for block in html_blocks(article)]


def test_features_are_what_their_names_say():
    blocks = html_blocks(PAGE)
    columns = dict(zip(FEATURES, block_features(blocks).T, strict=True))
    quoted = next(i for i, block in enumerate(blocks) if block.text.startswith('"It'))
    assert len(blocks) == 6
    assert columns["log_words"][quoted] == pytest.approx(np.log1p(16))
    assert columns["short_word_share"][quoted] == pytest.approx(
        9 / 16
    )  # with their marks: "It is he, the has to the sun is
    assert columns["ends_sentence"].tolist() == [0, 0, 1, 1, 0, 0]
    assert columns["link_share"][0] == pytest.approx(8 / 9)
    assert columns["link_share"][4] == 1
    assert columns["tag_h1"].tolist() == [0, 1, 0, 0, 0, 0]
    assert columns["hint_post"].tolist() == [0, 1, 1, 1, 0, 0]
    assert columns["around_related"].tolist() == [0, 0, 0, 0, 1, 1]
    assert columns["in_li"].tolist() == [0, 0, 0, 0, 1, 1]
    assert columns["link_share_at_-1"].tolist()[1:] == columns["link_share"].tolist()[:-1]
    assert columns["prose_before"][0] == 0
    assert columns["container_prose_share"][2] == columns["container_prose_share"][3] > 0.9


def test_cells_of_a_row_stay_or_go_together():
    blocks = html_blocks("<p>x<table><tr><td>a<td>b<tr><td>c<td>d</table>")
    chosen = choose_blocks(blocks, np.array([0.1, 0.9, 0.3, 0.2, 0.1], np.float32))
    assert [block.text for block in chosen] == ["a", "b"]


def test_a_heading_stays_with_the_text_below_it():
    blocks = html_blocks("<h1>a</h1><h2>b</h2><p>c</p><h2>d</h2><p>e</p><p>f</p><h2>g</h2>")
    scores = np.array([0.3, 0.3, 0.9, 0.1, 0.9, 0.1, 0.3], np.float32)
    assert [block.text for block in choose_blocks(blocks, scores)] == ["a", "b", "c", "e"]


def test_pages_without_or_with_strange_text_have_scores():
    assert len(score_blocks([])) == 0
    for page in ("<p>\ud800", "<p>😀", "<p>" + "1" * 100_000, "<p>.<p>", "<!--" * 10**6):
        with np.errstate(over="raise"):
            scores = score_blocks(html_blocks(page))
        assert np.isfinite(scores).all()
        assert len(scores) == 1


def test_every_feature_has_a_name_of_its_own():
    assert len(set(FEATURES)) == len(FEATURES) == block_features(html_blocks(PAGE)).shape[1]


def test_scoring_takes_no_more_processor_time_than_real_time_has():
    """That is, it wakes no threads, whatever BLAS's settings are in the program that asks."""
    code = """
import time, numpy as np
from crawl2chat.refine.text.block_features import FEATURES
from crawl2chat.refine.text.main_content import _networks
features, network = np.ones((400, len(FEATURES)), np.float32), _networks()[0]
network(features)
own, all_threads = time.thread_time(), time.process_time()
for _ in range(200):
    network(features)
print((time.process_time() - all_threads) / (time.thread_time() - own))
"""
    environment = {name: value for name, value in os.environ.items() if "THREADS" not in name}
    ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert float(ran.stdout) < 1.1


def test_a_page_keeps_its_title_more_readily_than_other_headings():
    scores = np.array([0.2, 0.9, 0.2, 0.9], np.float32)
    for page, expected in (
        ("<h1>a</h1><p>b</p><h2>c</h2><p>d</p>", "abd"),
        ("<h1>a</h1><p>b</p><h1>c</h1><p>d</p>", "bd"),
    ):
        assert "".join(block.text for block in choose_blocks(html_blocks(page), scores)) == expected
