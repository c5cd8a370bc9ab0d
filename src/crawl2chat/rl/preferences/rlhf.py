"""RL against a reward model, held near the model that it started from.

Shapes: P prompts, K answers each.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from crawl2chat.model import Transformer
from crawl2chat.rl.grpo import Groups, Prompts, token_logprobs
from crawl2chat.rl.preferences.reward_model import RewardModel, reading
from crawl2chat.tokenizer import Tokenizer
from crawl2chat.train.metrics import Metrics


def log_ratios(reference: Transformer, prompts: Prompts, groups: Groups) -> Tensor:
    """Σ over an answer's tokens of log π − log π_ref, (P, K), in nats; its mean estimates KL(π ‖ π_ref) an answer.

    π is what the sampler drew from; the token that ends an answer counts. Without bias, so single answers can be
    below zero (estimator k1 of Schulman, joschu.net/blog/kl-approx.html).
    """
    return torch.tensor(
        [
            _ratios_of_group(reference, prompt, [(a.ids, a.logprobs) for a in group])
            for prompt, group in zip(prompts, groups, strict=True)
        ]
    )


@torch.inference_mode()
def _ratios_of_group(
    reference: Transformer, prompt: list[int], answers: list[tuple[list[int], list[float]]]
) -> list[float]:
    rows = torch.zeros(len(answers), len(prompt) + max(len(ids) for ids, _ in answers), dtype=torch.long)
    for row, (ids, _) in enumerate(answers):
        rows[row, : len(prompt) + len(ids)] = torch.tensor(prompt + ids)
    logprobs_bt, _ = token_logprobs(reference, rows.to(next(reference.parameters()).device))
    first = len(prompt) - 1  # predictions stand one place before their tokens
    return [
        sum(sampled) - logprobs_bt[row, first : first + len(ids)].sum().item()
        for row, (ids, sampled) in enumerate(answers)
    ]


def proxy_rewards(reward_model: RewardModel, tokenizer: Tokenizer, prompts: Prompts, groups: Groups) -> Tensor:
    """What the reward model thinks of each answer, (P, K)."""
    context = reward_model.body.config.max_position_embeddings
    readings = [
        reading(tokenizer, prompt, answer.text, answer.finish_reason == "stop", context)
        for prompt, group in zip(prompts, groups, strict=True)
        for answer in group
    ]
    return torch.tensor(reward_model.rewards(readings)).view(len(groups), -1)


def penalised_reward(
    reward_model: RewardModel, reference: Transformer, tokenizer: Tokenizer, kl_weight: float, metrics: Metrics
) -> Callable[[int, Prompts, Groups], Tensor]:
    """The reward of RLHF: proxy − β · Σ (log π − log π_ref) (InstructGPT, arXiv 2203.02155, without its clipping).

    Each step's proxy and distance √KL, over the answers that it draws, go to the metrics.
    """

    def reward(step: int, prompts: Prompts, groups: Groups) -> Tensor:
        proxy_pk = proxy_rewards(reward_model, tokenizer, prompts, groups)
        ratios_pk = log_ratios(reference, prompts, groups)
        metrics.write(step=step + 1, proxy=proxy_pk.mean().item(), sqrt_kl=root(ratios_pk.mean().item()))
        return proxy_pk - kl_weight * ratios_pk

    return reward


def root(kl: float) -> float:
    """√KL; an estimate of the KL may be a little below zero."""
    return max(0.0, kl) ** 0.5
