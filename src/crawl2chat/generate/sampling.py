"""The controls of sampling, as pure functions on logits.

Order: temperature, top-k, top-p, as transformers applies them. A token left out has logit −inf.
Shapes: B sequences, V vocabulary.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Sampling:
    """How to draw the next token, and when to stop."""

    temperature: float = 1.0  # 0 takes the most probable token
    top_k: int = 0  # keep the k most probable; 0 keeps all
    top_p: float = 1.0  # keep the smallest set whose probability reaches this; 1 keeps all
    max_tokens: int = 128  # 0 only reads the prompt
    stop: tuple[str, ...] = ()  # end before any of these texts
    seed: int = 0
    min_p: float = 0.0  # keep tokens at least this share as probable as the most probable one; 0 keeps all
    repetition_penalty: float = 1.0  # divides (if below 0: multiplies) the logits of tokens seen in prompt or answer
    presence_penalty: float = 0.0  # taken from the logit of every token that the answer holds
    frequency_penalty: float = 0.0  # the same, as often as the answer holds it
    logit_bias: Mapping[int, float] = field(default_factory=dict)  # added to the logits of these ids
    top_logprobs: int = 0  # report so many of the most probable tokens at each step, before and after the controls

    def __post_init__(self) -> None:
        problems = [
            (self.temperature >= 0, f"temperature = {self.temperature}: must be at least 0"),
            (self.top_k >= 0, f"top_k = {self.top_k}: must be at least 0"),
            (0 < self.top_p <= 1, f"top_p = {self.top_p}: must be in (0, 1]"),
            (self.max_tokens >= 0, f"max_tokens = {self.max_tokens}: must be at least 0"),
            (not isinstance(self.stop, str) and all(self.stop), "stop: must be a list of non-empty texts"),
        ]
        wrong = [message for right, message in problems if not right]
        if wrong:
            raise ValueError("; ".join(wrong))


def keep_top_k(logits_bv: Tensor, k: int) -> Tensor:
    """Leave out all but the k most probable tokens (ties with the last one stay)."""
    if k == 0 or k >= logits_bv.shape[-1]:
        return logits_bv
    smallest_kept = logits_bv.topk(k, dim=-1).values[:, -1:]
    return logits_bv.masked_fill(logits_bv < smallest_kept, -torch.inf)


def keep_top_p(logits_bv: Tensor, p: float) -> Tensor:
    """Keep the smallest set of tokens whose probability reaches p (nucleus sampling, arXiv 1904.09751)."""
    if p >= 1:
        return logits_bv
    ascending, order = logits_bv.sort(dim=-1)
    mass_up_to_here = ascending.softmax(dim=-1).cumsum(dim=-1)
    left_out = mass_up_to_here <= 1 - p
    left_out[:, -1] = False
    return logits_bv.masked_fill(left_out.scatter(-1, order, left_out), -torch.inf)


def controlled_logits(logits_bv: Tensor, sampling: Sampling) -> Tensor:
    """Logits after all controls but greedy choice."""
    if sampling.temperature not in (0.0, 1.0):
        logits_bv = logits_bv / sampling.temperature
    return keep_top_p(keep_top_k(logits_bv, sampling.top_k), sampling.top_p)


def draw(logits_bv: Tensor, sampling: Sampling, generators: list[np.random.Generator]) -> tuple[Tensor, Tensor]:
    """The next token of each sequence, (B,), and its log-probability in the distribution that was drawn from, (B,).

    Each sequence draws one number from its own generator and looks it up in its own cumulative
    distribution, so what it gets does not depend on which others share its batch. Temperature 0 takes the most
    probable token; the log-probability is then the model's own.
    """
    if sampling.temperature == 0:
        top = logits_bv.float().log_softmax(dim=-1).max(dim=-1)
        return top.indices, top.values
    log_p_bv = controlled_logits(logits_bv.float(), sampling).log_softmax(dim=-1)
    cumulative_bv = log_p_bv.exp().double().cumsum(dim=-1)
    uniform_b = torch.tensor([g.random() for g in generators], dtype=torch.float64, device=logits_bv.device)
    target_b1 = uniform_b[:, None] * cumulative_bv[:, -1:]
    drawn_b1 = torch.searchsorted(cumulative_bv, target_b1, right=True)
    return drawn_b1[:, 0], log_p_bv.gather(-1, drawn_b1)[:, 0]
