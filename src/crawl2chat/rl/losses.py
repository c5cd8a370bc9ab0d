"""The policy gradient's formulas: advantages, ratios and their clipping, corrections, penalties and normalisation.

Shapes: P prompts, K answers each, B = P·K answers, T tokens.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

Scale = Literal["none", "group", "batch"]
Normalise = Literal["tokens", "answers", "fixed"]


def group_advantages(rewards_pk: Tensor, *, normalise: Scale = "none") -> Tensor:
    """How much better each answer did than its siblings: reward minus the mean of its prompt's group.

    rewards_pk: (prompts, answers per prompt). Returns the same shape.
    Dividing by the group's deviation, as GRPO does (arXiv 2402.03300), favours prompts that are nearly solved or nearly
    hopeless (Dr. GRPO, arXiv 2503.20783, section 3), so it is off by default; by the batch's (Lite-PPO, 2508.08221) it
    only sets the size of the step.
    """
    centred_pk = rewards_pk - rewards_pk.mean(dim=1, keepdim=True)
    if normalise == "none":
        return centred_pk
    spread = rewards_pk.std(dim=1, keepdim=True) if normalise == "group" else rewards_pk.std()
    return centred_pk / (spread + 1e-6)


def has_signal(rewards_pk: Tensor) -> Tensor:
    """Whether a group's answers are not all rewarded alike, (P): otherwise its advantages, and gradient, are 0."""
    return (rewards_pk != rewards_pk[:, :1]).any(dim=1)


def overlong_penalty(lengths: Sequence[int], max_tokens: int, margin: int) -> list[float]:
    """From 0 for answers of max_tokens − margin tokens down to −1 for those of max_tokens or more (DAPO, eq. 13)."""
    return [-min(1.0, max(0, length - (max_tokens - margin)) / margin) for length in lengths]


def answer_weights(lengths: Sequence[int], normalise: Normalise, max_tokens: int) -> list[float]:
    """What each token of an answer weighs, as a multiple of 1 / (tokens of all answers).

    tokens: all tokens weigh the same, so that a long answer is neither favoured nor spared (DAPO, 2503.14476).
    answers: all answers do, so that a token of a long one weighs less (GRPO, 2402.03300). fixed: 1 / (answers ·
    max_tokens), so that a batch of short answers makes a small step (Dr. GRPO, 2503.20783).
    """
    n_tokens = sum(lengths)
    if normalise == "answers":
        return [n_tokens / (len(lengths) * length) for length in lengths]
    return [n_tokens / (len(lengths) * max_tokens) if normalise == "fixed" else 1.0] * len(lengths)


def clipped_gain(logprobs_bt: Tensor, old_bt: Tensor, advantages_b: Tensor, low: float, high: float) -> Tensor:
    """min(r · A, clip(r, 1 − low, 1 + high) · A) of each token, r = π/π_old (PPO, arXiv 1707.06347, eq. 7), (B, T).

    A higher upper bound lets improbable tokens grow (clip-higher, DAPO, 2503.14476). Where π is π_old its gradient is
    that of A · log π.
    """
    ratio_bt = (logprobs_bt - old_bt).exp()
    return torch.minimum(ratio_bt * advantages_b[:, None], ratio_bt.clamp(1 - low, 1 + high) * advantages_b[:, None])


def importance_weights(old_bt: Tensor, sampled_bt: Tensor, cap: float) -> Tensor:
    """min(π_trainer / π_sampler, cap) of each token: right where the two differ, of bounded variance, (B, T).

    Truncated importance sampling (Yao et al. 2025, "Your efficient RL framework secretly brings you off-policy RL
    training"), for samplers of lower precision than the trainer's.
    """
    return (old_bt - sampled_bt).exp().clamp(max=cap).detach()


def kl_terms(logprobs_bt: Tensor, reference_bt: Tensor, old_bt: Tensor, estimator: Literal["k2", "k3"]) -> Tensor:
    """Of each token an estimate of KL(π ‖ π_ref), (B, T), never below 0 (Schulman, joschu.net/blog/kl-approx.html).

    k3 is r − 1 − log r with r = π_ref/π, k2 is (log r)²/2. k3 is without bias as a value. Times π/π_old, of which k2
    needs no gradient, both have the gradient of the KL (DeepSeek-V3.2, arXiv 2512.02556; TRL's default).
    """
    log_r_bt, ratio_bt = reference_bt - logprobs_bt, (logprobs_bt - old_bt).exp()
    if estimator == "k2":
        return ratio_bt.detach() * log_r_bt**2 / 2
    return ratio_bt * (log_r_bt.exp() - 1 - log_r_bt)


def policy_gradient_loss(
    logprobs_bt: Tensor,
    advantages_b: Tensor,
    mask_bt: Tensor,
    *,
    old_bt: Tensor | None = None,
    clip: tuple[float, float] = (0.2, 0.2),
    importance_bt: Tensor | None = None,
    penalty_bt: Tensor | None = None,
    weights_b: Tensor | None = None,
) -> Tensor:
    """−Σ advantage · log π over the tokens where the mask is 1, per token (REINFORCE with a token-level mean).

    old_bt: log-probabilities before the first of several updates; the ratio to them then replaces log π
    (`clipped_gain`). importance_bt multiplies a token's gain (`importance_weights`), penalty_bt is added to its loss,
    and weights_b multiplies an answer's (`answer_weights`).
    """
    gain_bt = advantages_b[:, None] * logprobs_bt
    if old_bt is not None:
        gain_bt = clipped_gain(logprobs_bt, old_bt, advantages_b, *clip)
    loss_bt = -gain_bt if importance_bt is None else -gain_bt * importance_bt
    if penalty_bt is not None:
        loss_bt = loss_bt + penalty_bt
    if weights_b is not None:
        loss_bt = weights_b[:, None] * loss_bt
    return (loss_bt * mask_bt).sum() / mask_bt.sum()
