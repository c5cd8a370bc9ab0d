"""Softmax attention in the form that is fastest where it runs, over all of a row or within its documents only.

documents_bt: the number of each token's document within its row; a document's tokens stand side by side.
"""

from functools import reduce
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

BLOCKS = 4  # of queries; more skip more of what no query sees, but their products are smaller
SHORT = 512  # tokens, up to which blocks are faster

Mask = Tensor | BlockMask  # (B, 1, T, S), true where a token is seen


def attend(q_bhtd: Tensor, k_bhsd: Tensor, v_bhsd: Tensor, mask: Mask | None) -> Tensor:
    """Attention of each query over the keys that the mask lets it see, or without a mask over those before it.

    Compiled for a CPU, short rows are computed in blocks: torch's flash kernel for CPUs does many small products
    and takes 2.6 times as long at 256 tokens, forward and backward.
    """
    if isinstance(mask, BlockMask):
        y_bhtd = flex_attention(q_bhtd, k_bhsd, v_bhsd, block_mask=mask)
        assert isinstance(y_bhtd, Tensor)
        return y_bhtd
    T, S = q_bhtd.shape[2], k_bhsd.shape[2]
    if T == S <= SHORT and q_bhtd.is_cpu and torch.compiler.is_compiling():
        in_blocks: Tensor = BlockwiseCausal.apply(q_bhtd, k_bhsd, v_bhsd, -(-T // BLOCKS), mask)
        return in_blocks
    return F.scaled_dot_product_attention(q_bhtd, k_bhsd, v_bhsd, attn_mask=mask, is_causal=mask is None)


class BlockwiseCausal(torch.autograd.Function):
    """Causal attention, `size` queries at a time over the keys up to the last of them; softmax in float32.

    A mask (B, 1, T, T) must be causal itself.
    The backward pass is written out because autograd's gives the keys' gradient transposed, which is slow to add up.
    """

    @staticmethod
    def forward(
        ctx: Any, q_bhtd: Tensor, k_bhtd: Tensor, v_bhtd: Tensor, size: int, mask_b1tt: Tensor | None = None
    ) -> Tensor:
        T, D = q_bhtd.shape[2:]
        place_t = torch.arange(T, device=q_bhtd.device)
        shares, parts = [], []
        for begin in range(0, T, size):
            end = min(begin + size, T)
            scores = (q_bhtd[:, :, begin:end] @ k_bhtd[:, :, :end].mT).float() * D**-0.5
            causal = place_t[:end] <= place_t[begin:end, None]
            seen = causal if mask_b1tt is None else mask_b1tt[:, :, begin:end, :end]
            shares.append(scores.masked_fill(~seen, float("-inf")).softmax(dim=-1).to(v_bhtd.dtype))
            parts.append(shares[-1] @ v_bhtd[:, :, :end])
        y_bhtd = torch.cat(parts, dim=2)
        ctx.save_for_backward(q_bhtd, k_bhtd, v_bhtd, y_bhtd, *shares)
        return y_bhtd

    @staticmethod
    def backward(ctx: Any, dy_bhtd: Tensor) -> tuple[Tensor | None, ...]:
        q_bhtd, k_bhtd, v_bhtd, y_bhtd, *shares = ctx.saved_tensors
        T, D = q_bhtd.shape[2:]
        # what the gradients of a query's shares have in common (FlashAttention-2, arXiv 2307.08691, section 3.1)
        common_bht1 = (dy_bhtd.float() * y_bhtd.float()).sum(dim=-1, keepdim=True)
        dq, dk, dv = [], [], []
        begin = 0
        for share in shares:
            end = begin + share.shape[2]
            dy = dy_bhtd[:, :, begin:end]
            dshare = (dy @ v_bhtd[:, :, :end].mT).float()
            dscores = (share.float() * (dshare - common_bht1[:, :, begin:end]) * D**-0.5).to(q_bhtd.dtype)
            dq.append(dscores @ k_bhtd[:, :, :end])
            unseen = (0, 0, 0, T - end)
            dk.append(F.pad(dscores.mT @ q_bhtd[:, :, begin:end], unseen))
            dv.append(F.pad(share.mT @ dy, unseen))
            begin = end
        return torch.cat(dq, dim=2), reduce(torch.add, dk), reduce(torch.add, dv), None, None


def positions_within(documents_bt: Tensor) -> Tensor:
    """How many tokens of its document come before each token, (B, T)."""
    place_t = torch.arange(documents_bt.shape[1], device=documents_bt.device)
    begins_bt = documents_bt != documents_bt.roll(1, dims=1)
    begins_bt[:, 0] = True
    return place_t - torch.where(begins_bt, place_t, 0).cummax(dim=1).values


def mask_within(documents_bt: Tensor, *, blocks: bool) -> Mask:
    """Each token sees those before it in its document, and itself (Llama 3, arXiv 2407.21783, section 3.2).

    blocks: for FlexAttention, which passes over blocks that no token sees, but only in compiled code on a GPU.
    """
    B, T = documents_bt.shape
    if not blocks:
        place_t = torch.arange(T, device=documents_bt.device)
        same_btt = documents_bt[:, :, None] == documents_bt[:, None, :]
        return (same_btt & (place_t[:, None] >= place_t))[:, None]

    def sees(b: Tensor, h: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (query >= key) & (documents_bt[b, query] == documents_bt[b, key])

    return create_block_mask(sees, B, None, T, T, device=documents_bt.device)
