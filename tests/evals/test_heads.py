"""Scores of attention heads on patterns that were made to have them."""

import pytest
import torch
from models import random_model

from crawl2chat.evals.base.heads import random_twice, repeats_in, score_heads, score_layer
from crawl2chat.evals.base.induction import measure_induction
from crawl2chat.model.inside import look_inside

IDS = [0, 7, 8, 9, 5, 7, 8, 9]


def made(*rows):
    """One head's attention that looks at one place per token."""
    return torch.eye(len(IDS))[list(rows)][None]


@pytest.mark.parametrize(
    ("looks_at", "scores"),
    [
        ([0, 0, 1, 2, 3, 2, 3, 6], [1, 5 / 7, 1 / 7]),  # the token after the earlier one, where there is one
        ([0, 0, 1, 2, 3, 4, 5, 6], [0, 1, 1 / 7]),
        ([0, 0, 0, 0, 0, 0, 0, 0], [0, 1 / 7, 1]),
    ],
)
def test_made_heads_have_the_scores_of_what_they_do(looks_at, scores):
    found_3h = score_layer(made(*looks_at), repeats_in(IDS))
    assert found_3h[:, 0].tolist() == pytest.approx(scores)


def test_scores_of_a_model_are_those_of_its_induction_measure():
    model = random_model("grouped heads")
    ids = random_twice([0], 97, 60)
    assert len(ids) == 59
    assert ids[1:30] == ids[30:]
    scores = score_heads(look_inside(model, ids))
    expected = measure_induction(model, [repeats_in(ids)]).attention_lh
    torch.testing.assert_close(scores.induction_lh, expected)
    assert scores.pairs == 28
    assert scores.previous_lh.shape == scores.first_lh.shape == (3, 8)


def test_a_single_token_has_nothing_to_look_back_at():
    scores = score_heads(look_inside(random_model("tied"), [4]))
    assert scores.pairs == 0
    assert not scores.induction_lh.any()
    assert not scores.previous_lh.any()
