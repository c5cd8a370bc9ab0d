"""Products in fp8, for GPUs that multiply it twice as fast as bf16.

Linear layers are swapped for ones that multiply so, as torchao does. At each use a tensor is scaled so that its
largest magnitude is the largest that fp8 has (dynamic tensorwise scaling, as in torchao's and nanochat's training).
Inputs and weights have three bits of mantissa (e4m3), gradients two and a wider range (e5m2), as in
Micikevicius et al., arXiv 2209.05433, section 3.
"""

from typing import Any, cast

import torch
from torch import Tensor, nn

from crawl2chat.model.transformer import Block, Transformer
from crawl2chat.stages.files import StageError


class Fp8Linear(nn.Linear):
    """A linear layer that multiplies in fp8 while it is trained; all its sizes are multiples of 16."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        y = cast(Tensor, _Linear.apply(x, self.weight))  # type: ignore[no-untyped-call]
        return y if self.bias is None else y + self.bias.to(y.dtype)


def swap_linears(model: nn.Module) -> None:
    """Put an Fp8Linear in the place of each linear layer in the model's blocks, with the same parameter."""
    for block in (module for module in model.modules() if isinstance(module, Block)):
        for part in list(block.modules()):
            for name, linear in list(part.named_children()):
                if type(linear) is nn.Linear:
                    with torch.device("meta"):
                        swapped = Fp8Linear(linear.in_features, linear.out_features, bias=False)
                    swapped.weight, swapped.bias = linear.weight, linear.bias
                    setattr(part, name, swapped.train(linear.training))


def check_fp8(model: nn.Module, seq_len: int | None, device: str) -> None:
    """Raise StageError where products in fp8 can't be computed. seq_len: tokens of each row, None if they differ."""
    if device != "cuda":
        raise StageError("precision = fp8 needs a GPU of compute capability 8.9 or later, and the device is a CPU")
    capability = torch.cuda.get_device_capability()
    if capability < (8, 9):
        raise StageError(
            f"precision = fp8 needs a GPU of compute capability 8.9 or later (Ada, Hopper, Blackwell); "
            f"{torch.cuda.get_device_name()} has {capability[0]}.{capability[1]}; use precision = bf16"
        )
    check_fp8_sizes(model, seq_len)


def check_fp8_sizes(model: nn.Module, seq_len: int | None) -> None:
    """Raise StageError for sizes that are not multiples of 16. seq_len: as in `check_fp8`."""
    if seq_len is None:
        raise StageError("precision = fp8 needs rows of one length, and here they differ; use precision = bf16")
    c = next(module.config for module in model.modules() if isinstance(module, Transformer))
    sizes = {
        "width": c.hidden_size,
        "mlp_width": c.intermediate_size,
        "heads times head_dim": c.num_attention_heads * c.head_dim,
        "key-value heads times head_dim": c.num_key_value_heads * c.head_dim,
        "seq_len": seq_len,
    }
    odd = [f"{name} = {size}" for name, size in sizes.items() if size % 16]
    if odd:
        raise StageError(f"precision = fp8 needs sizes that are multiples of 16, which {', '.join(odd)} isn't")


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
    """The product in bf16, laid out as the hardware wants its factors: rows of a, columns of b next to each other.

    fast: add up in fewer bits, which is good enough where no gradient comes of it.
    """
    return torch._scaled_mm(
        a_mk.contiguous(), b_kn.mT.contiguous().mT, a_scale, b_scale, out_dtype=torch.bfloat16, use_fast_accum=fast
    )
