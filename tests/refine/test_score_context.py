import numpy as np
import pytest

from crawl2chat.refine.text.block_features import CONTEXT_FEATURES, block_features, features_in_context
from crawl2chat.refine.text.html_blocks import html_blocks

PAGE = """<div class=post><h1>The mill</h1><p>The miller went to the river, and he was not alone there.</p>
<p>The wheel has to turn before the sun is up.</p></div>
<div class=more><h2>Related</h2><p>Ten mills to see before the summer is over.</p></div>"""
SCORES = np.array([0.6, 1, 0.9, 0.2, 0.4], np.float32)


def columns(html: str, scores: np.ndarray) -> dict[str, np.ndarray]:
    blocks = html_blocks(html)
    features = features_in_context(blocks, block_features(blocks), scores)
    return dict(zip(CONTEXT_FEATURES, features.T, strict=True))


def test_context_features_are_what_their_names_say():
    found = columns(PAGE, SCORES)
    lengths = [len(block.text) for block in html_blocks(PAGE)]
    assert len(set(CONTEXT_FEATURES)) == len(CONTEXT_FEATURES) == len(found)
    assert found["page_best"].tolist() == [1] * 5
    assert found["page_mean"][0] == pytest.approx(SCORES.mean())
    assert found["page_mean_by_length"][0] == pytest.approx(np.average(SCORES, weights=lengths), rel=1e-5)
    assert found["share_of_best"] == pytest.approx(SCORES)
    assert found["score_at_-1"] == pytest.approx([0, *SCORES[:-1]])
    assert found["score_at_+2"] == pytest.approx([*SCORES[2:], 0, 0])
    assert found["kept_before"][0] == 0
    assert (np.diff(found["kept_before"]) > 0).all()
    assert found["has_lookalikes"].tolist() == [0, 1, 1, 0, 0]  # a paragraph of the post is unlike one below "Related"
    assert found["lookalike_mean"][1] == found["lookalike_mean"][2]
    assert found["section_heading"] == pytest.approx([0.6, 0.6, 0.6, 0.2, 0.2])
    assert found["log_blocks_since_heading"] * 3 == pytest.approx(np.log1p([0, 1, 2, 0, 1]))
    assert found["container_mean"][3] == found["section_mean"][4] < 0.4


def test_a_block_above_all_headings_has_none():
    found = columns("<p>a<p>b<h2>c</h2><p>d", np.array([0.2, 0.4, 0.9, 0.9], np.float32))
    assert found["section_heading"] == pytest.approx([0.5, 0.5, 0.9, 0.9])
    assert found["section_mean"] == pytest.approx([0.3, 0.3, 0.9, 0.9])


def test_pages_of_one_block_or_of_no_score_have_features():
    for scores in ([0.0], [1.0]):
        assert all(np.isfinite(values).all() for values in columns("<p>a", np.array(scores, np.float32)).values())
