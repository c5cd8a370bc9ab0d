"""Rotary position embeddings (Su et al., arXiv 2104.09864), and how models are stretched beyond the length of their
training: linearly, by NTK-aware bases, by YaRN, and as in Llama 3.1. Formulas and defaults are transformers'.
"""

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

Stretch = Literal["linear", "dynamic", "yarn", "llama3"]
STRETCHES = get_args(Stretch)


@dataclass(frozen=True)
class RopeScaling:
    """How frequencies differ from those of plain RoPE. Fields have the names of config.json's `rope_scaling`."""

    kind: Stretch
    factor: float
    original_max_position_embeddings: int  # the length that the model was trained for
    low_freq_factor: float = 1.0  # llama3
    high_freq_factor: float = 4.0
    beta_fast: float = 32.0  # yarn
    beta_slow: float = 1.0
    attention_factor: float | None = None
    mscale: float | None = None
    mscale_all_dim: float | None = None
    truncate: bool = True

    def magnitude(self) -> float:
        """What cosines and sines are multiplied by, so that attention stays as sharp as it was (YaRN, section 3.4)."""
        if self.kind != "yarn":
            return 1.0
        if self.attention_factor is not None:
            return self.attention_factor
        if self.mscale and self.mscale_all_dim:
            return self._temperature(self.mscale) / self._temperature(self.mscale_all_dim)
        return self._temperature(1.0)

    def _temperature(self, mscale: float) -> float:
        return 0.1 * mscale * math.log(self.factor) + 1.0 if self.factor > 1 else 1.0


def rope_angles(
    positions_bt: Tensor,
    head_dim: int,
    theta: float,
    scaling: RopeScaling | None = None,
    lengths_b: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Cosine and sine (B, 1, T, D) of the rotations at these positions.

    lengths_b: how long each row's text is, on which `dynamic` scaling depends (default: up to its last position).
    """
    if scaling and scaling.kind == "dynamic":
        exponents = torch.arange(0, head_dim, 2, device=positions_bt.device, dtype=torch.float32) / head_dim
        lengths_b = positions_bt.amax(dim=-1) + 1 if lengths_b is None else lengths_b
        per_token = _dynamic_base(lengths_b, head_dim, theta, scaling)[:, None] ** -exponents
        per_token = per_token[:, None, None]  # (B, 1, 1, D/2)
    else:
        per_token = frequencies(head_dim, theta, scaling, positions_bt.device)
    angles = positions_bt[:, None, :, None].float() * per_token
    angles = torch.cat([angles, angles], dim=-1)
    if scaling and (magnitude := scaling.magnitude()) != 1.0:
        return angles.cos() * magnitude, angles.sin() * magnitude
    return angles.cos(), angles.sin()


def frequencies(head_dim: int, theta: float, scaling: RopeScaling | None, device: torch.device | str = "cpu") -> Tensor:
    """By how many radians per token each pair of channels is rotated, (D/2,); not for `dynamic` scaling."""
    exponents = torch.arange(0, head_dim, 2, device=device, dtype=torch.float32) / head_dim
    plain_d = theta**-exponents
    return _stretched(plain_d, head_dim, theta, scaling) if scaling else plain_d


def apply_rope(x_bhtd: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate pairs of channels half a head apart, which is how Qwen and Llama checkpoints lay them out."""
    first, second = x_bhtd.chunk(2, dim=-1)
    return x_bhtd * cos + torch.cat([-second, first], dim=-1) * sin


def _dynamic_base(lengths_b: Tensor, head_dim: int, theta: float, scaling: RopeScaling) -> Tensor:
    """The base of each row, which grows with its length once that exceeds the original one (NTK-aware scaling)."""
    original = scaling.original_max_position_embeddings
    beyond_b = scaling.factor * lengths_b.clamp(min=original).float() / original - (scaling.factor - 1)
    return theta * beyond_b ** (head_dim / (head_dim - 2))


def _stretched(frequencies_d: Tensor, head_dim: int, theta: float, scaling: RopeScaling) -> Tensor:
    """Frequencies (D/2,), in radians per token, after scaling that does not depend on a text's length."""
    slow_d = frequencies_d / scaling.factor
    if scaling.kind == "linear":
        return slow_d
    original = scaling.original_max_position_embeddings
    if scaling.kind == "llama3":
        turns_d = original * frequencies_d / (2 * math.pi)  # over the original length
        keep_d = (turns_d - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)
        keep_d = keep_d.clamp(0, 1)
        return keep_d * frequencies_d + (1 - keep_d) * slow_d

    def channel(turns: float) -> float:
        """Where the frequency makes this many turns over the original length (YaRN, arXiv 2309.00071, section 3.2)."""
        return head_dim * math.log(original / (turns * 2 * math.pi)) / (2 * math.log(theta))

    first, last = channel(scaling.beta_fast), channel(scaling.beta_slow)
    if scaling.truncate:
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, head_dim - 1)
    place_d = torch.arange(head_dim // 2, device=frequencies_d.device, dtype=torch.float32)
    ramp_d = ((place_d - first) / (last - first or 0.001)).clamp(0, 1)
    return ramp_d * slow_d + (1 - ramp_d) * frequencies_d
