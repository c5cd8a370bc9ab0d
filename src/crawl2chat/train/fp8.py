"""Products in fp8, for GPUs that multiply it twice as fast as bf16.

Each tensor is scaled so that its largest magnitude is the largest that fp8 has, anew at each use (dynamic tensorwise
scaling, as in torchao's and nanochat's training). Inputs and weights have three bits of mantissa (e4m3), gradients
two and a wider range (e5m2), as in Micikevicius et al., arXiv 2209.05433, section 3.
"""

from typing import Any

import torch
from torch import Tensor


def fp8_linear(x: Tensor, weight_oi: Tensor) -> Tensor:
    """x (…, in) times the transposed weight (out, in), in bf16; all sizes must be multiples of 16."""
    y: Tensor = _Linear.apply(x, weight_oi)
    return y


class _Linear(torch.autograd.Function):
    """All three products of a linear layer. N tokens, I inputs, O outputs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight_oi: Tensor) -> Tensor:
        x_ni, x_scale = to_fp8(x.flatten(0, -2), torch.float8_e4m3fn)
        w_oi, w_scale = to_fp8(weight_oi, torch.float8_e4m3fn)
        ctx.save_for_backward(x_ni, x_scale, w_oi, w_scale)
        ctx.x_dtype, ctx.weight_dtype = x.dtype, weight_oi.dtype
        y_no = _product(x_ni, w_oi.mT, x_scale, w_scale, fast=True)
        return y_no.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor]:
        x_ni, x_scale, w_oi, w_scale = ctx.saved_tensors
        dy_no, dy_scale = to_fp8(dy.flatten(0, -2), torch.float8_e5m2)
        dx_ni = _product(dy_no, w_oi, dy_scale, w_scale, fast=False)
        dw_oi = _product(dy_no.mT, x_ni, dy_scale, x_scale, fast=False)
        return dx_ni.view(*dy.shape[:-1], -1).to(ctx.x_dtype), dw_oi.to(ctx.weight_dtype)


def to_fp8(x: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """x in fp8, and what to multiply it by to have x again; values that round beyond the range are clamped to it."""
    most = torch.finfo(dtype).max
    scale = x.detach().abs().amax().float().clamp(min=1e-12) / most
    return (x.float() / scale).clamp(-most, most).to(dtype), scale


def _product(a_mk: Tensor, b_kn: Tensor, a_scale: Tensor, b_scale: Tensor, *, fast: bool) -> Tensor:
    """The product in bf16, laid out as the hardware wants its factors: rows of a, columns of b side by side.

    fast: add up in fewer bits, which is good enough where no gradient comes of it.
    """
    return torch._scaled_mm(
        a_mk.contiguous(), b_kn.mT.contiguous().mT, a_scale, b_scale, out_dtype=torch.bfloat16, use_fast_accum=fast
    )
