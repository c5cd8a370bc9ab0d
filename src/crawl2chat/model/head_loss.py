"""Cross-entropy of the head's logits, or log-probabilities of chosen tokens, without ever holding all logits."""

from typing import Any

import torch
from torch import Tensor, nn

LOGITS_AT_ONCE = {
    "cpu": 2**21,  # 4 MB in bf16, 8 MB in fp32, which stay in the cache
    "cuda": 2**27,  # 256 MB in bf16: products large enough to fill a GPU
}
MIN_CHUNK = 512  # tokens; with fewer, the weight's gradient is added to more often than products take
MIN_FROZEN_CHUNK = 256  # of a head without a gradient; with fewer, reading it takes as long as multiplying by it


class ChunkLoss(nn.Module):
    """The loss of some tokens and its gradient by x; the one by the head is added to `dhead_vc`, if it is wanted.

    A module, although without weights, so that it can be compiled as the blocks are.
    """

    def forward(
        self, x_nc: Tensor, head_vc: Tensor, targets_n: Tensor, weights_n: Tensor, dhead_vc: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        logits_nv = (x_nc @ head_vc.mT).float()
        largest_n1 = logits_nv.amax(dim=-1, keepdim=True)
        exp_nv = (logits_nv - largest_n1).exp()
        sum_n1 = exp_nv.sum(dim=-1, keepdim=True)
        chosen_n1 = logits_nv.gather(1, targets_n[:, None])
        losses_n = ((largest_n1 - chosen_n1) + sum_n1.log())[:, 0] * weights_n
        right_nv = torch.arange(len(head_vc), device=x_nc.device) == targets_n[:, None]
        dlogits_nv = ((exp_nv / sum_n1 - right_nv.float()) * weights_n[:, None]).to(x_nc.dtype)
        if dhead_vc is not None:
            dhead_vc += dlogits_nv.mT @ x_nc
        return losses_n.sum(), dlogits_nv @ head_vc


class HeadLoss(torch.autograd.Function):
    """Sum of weight · cross-entropy of the head's logits, holding those of one chunk of tokens at a time.

    The gradients are computed along with the loss, while a chunk's logits are there (Liger, arXiv 2410.10989,
    section 3.2): the backward pass only scales them. Of a frozen head, tokens of weight 0, such as a prompt's, get no
    logits at all.
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
        frozen = not ctx.needs_input_grad[1]
        size = chunk_size(len(x_nc), len(head_vc), x_nc.device.type, frozen=frozen)
        loss = torch.zeros((), device=x_nc.device)
        dhead_vc = None if frozen else torch.zeros_like(head_vc, dtype=torch.float32)
        dx_nc = torch.zeros_like(x_nc) if frozen else torch.empty_like(x_nc)
        for part in learned_parts(weights_n, size) if frozen else _slices(len(x_nc), size):
            part_loss, dpart_nc = chunk_loss(x_nc[part].to(dtype), head, targets_n[part], weights_n[part], dhead_vc)
            dx_nc[part] = dpart_nc.to(dx_nc.dtype)
            loss += part_loss
        ctx.save_for_backward(dx_nc, dhead_vc)
        return loss

    @staticmethod
    def backward(ctx: Any, dloss: Tensor) -> tuple[Tensor | None, ...]:
        dx_nc, dhead_vc = ctx.saved_tensors
        dhead = None if dhead_vc is None else dhead_vc * dloss  # of a frozen head there is none
        return dx_nc * dloss.to(dx_nc.dtype), dhead, None, None, None, None


class HeadLogprobs(torch.autograd.Function):
    """Log-probability of a chosen token at each of N places, and the entropy there in nats, chunk by chunk.

    What the gradients weigh is only known in the backward pass, which computes a chunk's logits again: one more product
    with the head, but no logits are held in between. The entropy has no gradient.
    """

    @staticmethod
    def forward(
        ctx: Any, x_nc: Tensor, head_vc: Tensor, targets_n: Tensor, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        ctx.dtype = dtype
        ctx.size = chunk_size(len(x_nc), len(head_vc), x_nc.device.type, frozen=not ctx.needs_input_grad[1])
        head = head_vc.to(dtype)
        logprobs_n, entropy_n = (torch.empty(len(x_nc), device=x_nc.device) for _ in range(2))
        for part in _slices(len(x_nc), ctx.size):
            log_p_nv = (x_nc[part].to(dtype) @ head.mT).float().log_softmax(dim=-1)
            logprobs_n[part] = log_p_nv.gather(1, targets_n[part, None])[:, 0]
            entropy_n[part] = -log_p_nv.exp().mul_(log_p_nv).sum(dim=-1)
        ctx.save_for_backward(x_nc, head_vc, targets_n)
        ctx.mark_non_differentiable(entropy_n)
        return logprobs_n, entropy_n

    @staticmethod
    def backward(ctx: Any, dlogprobs_n: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        x_nc, head_vc, targets_n = ctx.saved_tensors
        head = head_vc.to(ctx.dtype)
        dx_nc = torch.empty_like(x_nc)
        dhead_vc = torch.zeros_like(head_vc, dtype=torch.float32) if ctx.needs_input_grad[1] else None
        for part in _slices(len(x_nc), ctx.size):
            part_nc, dlogprobs_n1 = x_nc[part].to(ctx.dtype), dlogprobs_n[part, None]
            # of log p(target): one-hot of the target − p
            dlogits_nv = (part_nc @ head.mT).float().softmax(dim=-1).mul_(-dlogprobs_n1)
            dlogits_nv = dlogits_nv.scatter_add_(1, targets_n[part, None], dlogprobs_n1).to(ctx.dtype)
            dx_nc[part] = (dlogits_nv @ head).to(dx_nc.dtype)
            if dhead_vc is not None:
                dhead_vc += dlogits_nv.mT @ part_nc
        return dx_nc, dhead_vc, None, None


def chunk_size(n_tokens: int, vocab_size: int, device: str, *, frozen: bool = False) -> int:
    """Tokens whose logits are held at once: equal chunks, so that compiled code meets one shape, if they can be."""
    most = max(MIN_FROZEN_CHUNK if frozen else MIN_CHUNK, LOGITS_AT_ONCE[device] // vocab_size)
    if n_tokens <= most:
        return max(1, n_tokens)
    return next((size for size in range(most, most // 2, -1) if n_tokens % size == 0), most)


def learned_parts(weights_n: Tensor, size: int) -> list[Tensor]:
    """The places of all tokens with a weight, `size` at a time; others fill the last part up, if there are any."""
    places_n = torch.argsort((weights_n == 0).to(torch.uint8), stable=True)
    n_learned = int(torch.count_nonzero(weights_n))
    return list(torch.split(places_n[: -(-n_learned // size) * size], size))


def _slices(n: int, size: int) -> list[slice]:
    return [slice(i, i + size) for i in range(0, n, size)]
