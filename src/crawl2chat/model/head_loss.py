"""Cross-entropy of the head's logits without ever holding all of them."""

from typing import Any

import torch
from torch import Tensor, nn

LOGITS_AT_ONCE = {
    "cpu": 2**21,  # 4 MB in bf16, 8 MB in fp32, which stay in the cache
    "cuda": 2**27,  # 256 MB in bf16: products large enough to fill a GPU
}
MIN_CHUNK = 512  # tokens; with fewer, the weight's gradient is added to more often than products take


class ChunkLoss(nn.Module):
    """The loss of some tokens and its gradient by x; the one by the head is added to `dhead_vc`.

    A module, although without weights, so that it can be compiled as the blocks are.
    """

    def forward(
        self, x_nc: Tensor, head_vc: Tensor, targets_n: Tensor, weights_n: Tensor, dhead_vc: Tensor
    ) -> tuple[Tensor, Tensor]:
        logits_nv = (x_nc @ head_vc.mT).float()
        largest_n1 = logits_nv.amax(dim=-1, keepdim=True)
        exp_nv = (logits_nv - largest_n1).exp()
        sum_n1 = exp_nv.sum(dim=-1, keepdim=True)
        chosen_n1 = logits_nv.gather(1, targets_n[:, None])
        losses_n = ((largest_n1 - chosen_n1) + sum_n1.log())[:, 0] * weights_n
        right_nv = torch.arange(len(head_vc), device=x_nc.device) == targets_n[:, None]
        dlogits_nv = ((exp_nv / sum_n1 - right_nv.float()) * weights_n[:, None]).to(x_nc.dtype)
        dhead_vc += dlogits_nv.mT @ x_nc
        return losses_n.sum(), dlogits_nv @ head_vc


class HeadLoss(torch.autograd.Function):
    """Sum of weight · cross-entropy of the head's logits, holding those of one chunk of tokens at a time.

    The gradients are computed along with the loss, while a chunk's logits are there (Liger, arXiv 2410.10989,
    section 3.2): the backward pass only scales them.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x_nc: Tensor,
        head_vc: Tensor,
        targets_n: Tensor,
        weights_n: Tensor,
        dtype: torch.dtype,
        chunk_loss: ChunkLoss,
    ) -> Tensor:
        head = head_vc.to(dtype)
        size = chunk_size(len(x_nc), len(head_vc), x_nc.device.type)
        loss = torch.zeros((), device=x_nc.device)
        dhead_vc = torch.zeros_like(head_vc, dtype=torch.float32)
        dx_nc = torch.empty_like(x_nc)
        for i in range(0, len(x_nc), size):
            part = slice(i, i + size)
            part_loss, dx_nc[part] = chunk_loss(x_nc[part].to(dtype), head, targets_n[part], weights_n[part], dhead_vc)
            loss += part_loss
        ctx.save_for_backward(dx_nc, dhead_vc)
        return loss

    @staticmethod
    def backward(ctx: Any, dloss: Tensor) -> tuple[Tensor | None, ...]:
        dx_nc, dhead_vc = ctx.saved_tensors
        return dx_nc * dloss.to(dx_nc.dtype), dhead_vc * dloss, None, None, None, None


def chunk_size(n_tokens: int, vocab_size: int, device: str) -> int:
    """Tokens whose logits are held at once: equal chunks, so that compiled code meets one shape, if they can be."""
    most = max(MIN_CHUNK, LOGITS_AT_ONCE[device] // vocab_size)
    if n_tokens <= most:
        return n_tokens
    return next((size for size in range(most, most // 2, -1) if n_tokens % size == 0), most)
