"""Induction heads: what the score says of models that copy, and of those that don't."""

import numpy as np
import pytest
import torch

from crawl2chat.evals.induction import LONGEST, ROWS, measure_induction, repeated_rows
from crawl2chat.model import ModelConfig, Transformer

CONFIG = ModelConfig(50, 16, 32, 2, 2, 2, 8, 64)


def test_rows_hold_the_same_tokens_twice_behind_the_first():
    rows = repeated_rows(np.arange(10, 50, dtype=np.uint16), 3, context=64)
    assert rows.shape == (ROWS, 63)
    assert (rows[:, 0] == 3).all()
    assert (rows[:, 1:32] == rows[:, 32:]).all()
    assert rows[:, 1:].min() >= 10
    assert repeated_rows(np.arange(9), 0, context=10_000).shape == (ROWS, 1 + 2 * LONGEST)


def test_attention_is_that_of_the_models_own_forward_pass(monkeypatch):
    model = Transformer(CONFIG)
    model.init_weights(1)
    with torch.no_grad():  # layers that write nothing would hide a wrong one
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)))
    rows = repeated_rows(np.arange(50), 0, context=64)
    found = measure_induction(model, rows)
    predicted = model(rows).argmax(-1)
    assert found.copied == pytest.approx((predicted[:, 32:-1] == rows[:, 33:]).float().mean().item())
    assert found.attention_lh.shape == (2, 2)
    assert 0 < found.strongest < 1


def test_a_head_that_looks_back_by_one_period_has_a_score_of_one():
    """Its keys and queries are the same for all tokens, and turned so that the right distance fits best."""
    model = Transformer(CONFIG)
    model.init_weights(0)
    rows = repeated_rows(np.arange(50), 0, context=64)
    n, head_dim = 31, CONFIG.head_dim
    attention = model.model.layers[1].self_attn
    with torch.no_grad():
        model.model.embed_tokens.weight[:, 0] = 10.0  # all tokens share this
        fast = torch.zeros(head_dim)
        fast[0] = 1.0  # the pair of channels that turns by one radian a token
        turned = torch.zeros(head_dim)
        angle = torch.tensor(float(n - 1))
        turned[0], turned[head_dim // 2] = angle.cos(), -angle.sin()
        attention.q_proj.weight.zero_()
        attention.k_proj.weight.zero_()
        attention.k_proj.weight[:head_dim, 0] = fast
        attention.q_proj.weight[:head_dim, 0] = turned
        attention.q_norm.weight.fill_(30.0)
        attention.k_norm.weight.fill_(30.0)
    assert measure_induction(model, rows).attention_lh[1, 0] > 0.99
