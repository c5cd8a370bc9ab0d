"""Causal attention in blocks of queries, for short rows on a CPU; `attention.attend` chooses it in compiled code.

Torch's flash kernel for CPUs does many small products and takes 2.6 times as long at 256 tokens, forward and backward.
"""

from functools import reduce
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

BLOCKS = 4  # of queries; more blocks skip more keys that no query sees, but their products are smaller
MAX_TOKENS = 512  # per row; longer ones are faster in torch's kernel


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
