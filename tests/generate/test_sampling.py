"""Each control gives what transformers' logits processor gives on the same logits."""

import numpy as np
import pytest
import torch

from crawl2chat.generate.sampling import Sampling, controlled_logits, draw, keep_top_k, keep_top_p


@pytest.fixture
def logits():
    return torch.randn(6, 50, generator=torch.Generator().manual_seed(0)) * 3


@pytest.mark.parametrize("k", [1, 5, 49, 50])
def test_top_k_equals_transformers(logits, k):
    transformers = pytest.importorskip("transformers")
    torch.testing.assert_close(keep_top_k(logits, k), transformers.TopKLogitsWarper(k)(None, logits))


@pytest.mark.parametrize("p", [0.05, 0.5, 0.9, 0.999])
def test_top_p_equals_transformers(logits, p):
    transformers = pytest.importorskip("transformers")
    torch.testing.assert_close(keep_top_p(logits, p), transformers.TopPLogitsWarper(p)(None, logits))


def test_controls_compose_in_transformers_order(logits):
    transformers = pytest.importorskip("transformers")
    theirs = logits
    for warper in (
        transformers.TemperatureLogitsWarper(0.7),
        transformers.TopKLogitsWarper(20),
        transformers.TopPLogitsWarper(0.8),
    ):
        theirs = warper(None, theirs)
    torch.testing.assert_close(controlled_logits(logits, Sampling(temperature=0.7, top_k=20, top_p=0.8)), theirs)


def test_draws_follow_the_distribution():
    logits = torch.log(torch.tensor([[0.5, 0.3, 0.15, 0.05]])).expand(4000, 4)
    generators = [np.random.default_rng(i) for i in range(4000)]
    drawn, logprobs = draw(logits, Sampling(), generators)
    assert torch.equal(logprobs, logits.gather(1, drawn[:, None])[:, 0])
    shares = torch.bincount(drawn, minlength=4) / 4000
    torch.testing.assert_close(shares, torch.tensor([0.5, 0.3, 0.15, 0.05]), atol=0.03, rtol=0)


def test_a_token_left_out_is_never_drawn():
    logits = torch.log(torch.tensor([[0.6, 0.3, 0.1]])).expand(500, 3)
    drawn, _ = draw(logits, Sampling(top_k=2), [np.random.default_rng(i) for i in range(500)])
    assert set(drawn.tolist()) == {0, 1}


def test_impossible_settings_are_all_named():
    with pytest.raises(ValueError, match=r"temperature = -1.*top_p = 2"):
        Sampling(temperature=-1, top_p=2)
