"""Softmax attention in the form that is fastest where it runs."""

import torch
import torch.nn.functional as F
from torch import Tensor

BLOCKS = 4  # of queries; more skip more of what no query sees, but their products are smaller
SHORT = 512  # tokens, up to which blocks are faster


def attend(q_bhtd: Tensor, k_bhsd: Tensor, v_bhsd: Tensor, mask_b1ts: Tensor | None) -> Tensor:
    """Attention of each query over the keys that the mask lets it see, or without a mask over those before it.

    Compiled for a CPU, short rows are computed in blocks: torch's flash kernel for CPUs does many small products
    and takes 2.6 times as long at 256 tokens, forward and backward.
    """
    T = q_bhtd.shape[2]
    if mask_b1ts is None and T <= SHORT and q_bhtd.is_cpu and torch.compiler.is_compiling():
        return causal_in_blocks(q_bhtd, k_bhsd, v_bhsd, -(-T // BLOCKS))
    return F.scaled_dot_product_attention(q_bhtd, k_bhsd, v_bhsd, attn_mask=mask_b1ts, is_causal=mask_b1ts is None)


def causal_in_blocks(q_bhtd: Tensor, k_bhtd: Tensor, v_bhtd: Tensor, size: int) -> Tensor:
    """Causal attention, `size` queries at a time over the keys up to the last of them; softmax in float32."""
    T, D = q_bhtd.shape[2:]
    place_t = torch.arange(T, device=q_bhtd.device)
    parts = []
    for begin in range(0, T, size):
        end = min(begin + size, T)
        scores = (q_bhtd[:, :, begin:end] @ k_bhtd[:, :, :end].mT).float() * D**-0.5
        seen = place_t[:end] <= place_t[begin:end, None]
        shares = scores.masked_fill(~seen, float("-inf")).softmax(dim=-1)
        parts.append(shares.to(v_bhtd.dtype) @ v_bhtd[:, :, :end])
    return torch.cat(parts, dim=2)
