"""Each formula against numbers worked out by hand, or against the definition that it has to equal."""

import math

import pytest
import torch

from crawl2chat.rl.losses import (
    answer_weights,
    clipped_gain,
    has_signal,
    importance_weights,
    kl_terms,
    overlong_penalty,
    policy_gradient_loss,
)

MASK = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0]])


def gradient(logprobs_bt, advantages, **options):
    logprobs_bt = logprobs_bt.clone().requires_grad_()
    policy_gradient_loss(logprobs_bt, torch.tensor(advantages), MASK, **options).backward()
    return logprobs_bt.grad


def test_the_clipped_gain_is_ppos_in_each_of_its_six_cases():
    """r below, within and above [0.8, 1.28], for a good and a bad answer: min(r·A, clip(r)·A), and no gradient where a
    token has already moved far enough in the direction in which A would push it."""
    ratios_bt = torch.tensor([[0.5, 1.1, 2.0], [0.5, 1.1, 2.0]])
    old_bt = torch.tensor([[-1.0, -2.0, -3.0], [-3.0, -0.5, -4.0]])
    logprobs_bt = (old_bt + ratios_bt.log()).requires_grad_()
    gain_bt = clipped_gain(logprobs_bt, old_bt, torch.tensor([1.0, -1.0]), 0.2, 0.28)
    assert torch.allclose(gain_bt, torch.tensor([[0.5, 1.1, 1.28], [-0.8, -1.1, -2.0]]), atol=1e-6)
    gain_bt.sum().backward()
    assert torch.allclose(logprobs_bt.grad, torch.tensor([[0.5, 1.1, 0.0], [0.0, -1.1, -2.0]]), atol=1e-6)


def test_where_nothing_has_moved_the_clipped_gradient_is_the_policy_gradient():
    logprobs_bt = -torch.rand(2, 3, generator=torch.Generator().manual_seed(0))
    plain = gradient(logprobs_bt, [0.5, -0.25])
    assert torch.allclose(gradient(logprobs_bt, [0.5, -0.25], old_bt=logprobs_bt), plain, atol=1e-7)
    assert torch.allclose(plain[0], torch.tensor([-0.1, -0.1, 0.0]))


@pytest.mark.parametrize(
    ("normalise", "per_token"), [("tokens", (1 / 5, 1 / 5)), ("answers", (1 / 4, 1 / 6)), ("fixed", (1 / 20, 1 / 20))]
)
def test_a_token_weighs_what_each_normalisation_says(normalise, per_token):
    """Two answers of 2 and 3 tokens, of at most 10: 1/Σ|o|; 1/(G·|o|); 1/(G·max_tokens)."""
    weights_b = torch.tensor(answer_weights([2, 3], normalise, 10))
    found = gradient(torch.zeros(2, 3), [1.0, -1.0], weights_b=weights_b)
    expected = torch.tensor([[-per_token[0]], [per_token[1]]]) * MASK
    assert torch.allclose(found, expected, atol=1e-7)


def test_importance_weights_are_capped_and_without_gradient():
    old_bt, sampled_bt = torch.tensor([[-1.0, -1.0]], requires_grad=True), torch.tensor([[-3.0, 0.0]])
    weights_bt = importance_weights(old_bt, sampled_bt, 2.0)
    assert torch.allclose(weights_bt, torch.tensor([[2.0, math.exp(-1)]]))
    assert not weights_bt.requires_grad


@pytest.mark.parametrize("estimator", ["k2", "k3"])
def test_both_estimates_have_the_gradient_of_the_kl_and_k3_its_value(estimator):
    """Of a distribution of three tokens, whose expectations can be summed."""
    logits_v = torch.tensor([0.2, -0.4, 0.9], requires_grad=True)
    log_q_v = torch.tensor([0.5, 0.1, 0.3]).log_softmax(0)
    log_p_v = logits_v.log_softmax(0)
    p_v = log_p_v.exp()
    kl = (p_v * (log_p_v - log_q_v)).sum()
    (exact,) = torch.autograd.grad(kl, logits_v, retain_graph=True)
    terms_v = kl_terms(log_p_v, log_q_v, log_p_v.detach(), estimator)
    (found,) = torch.autograd.grad((p_v.detach() * terms_v).sum(), logits_v, retain_graph=True)
    assert torch.allclose(found, exact, atol=1e-6)
    assert terms_v.min() >= 0
    if estimator == "k3":
        assert (p_v * terms_v).sum().item() == pytest.approx(kl.item(), abs=1e-6)


def test_penalty_weight_and_importance_each_scale_their_part_of_the_loss():
    logprobs_bt, penalty_bt = torch.full((2, 3), -1.0), torch.full((2, 3), 0.5)
    plain = policy_gradient_loss(logprobs_bt, torch.tensor([1.0, -1.0]), MASK)
    assert plain.item() == pytest.approx((2 - 3) / 5)
    loss = policy_gradient_loss(
        logprobs_bt, torch.tensor([1.0, -1.0]), MASK, importance_bt=torch.tensor([[2.0], [1.0]]),
        penalty_bt=penalty_bt, weights_b=torch.tensor([1.0, 2.0]),
    )  # fmt: skip
    assert loss.item() == pytest.approx((2 * (2 + 0.5) + 2 * 3 * (-1 + 0.5)) / 5)


def test_the_overlong_penalty_grows_over_the_last_tokens():
    assert overlong_penalty([5, 12, 16, 20], 20, 8) == [0, 0, -0.5, -1]


def test_a_group_has_signal_if_any_reward_differs():
    assert has_signal(torch.tensor([[1.0, 1.0], [0.0, 1.0], [0.0, 0.0]])).tolist() == [False, True, False]
