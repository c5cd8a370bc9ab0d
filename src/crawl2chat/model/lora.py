"""Linear layers with a low-rank update: LoRA (Hu et al., arXiv 2106.09685) and DoRA (Liu et al., arXiv 2402.09353).

    LoRA: W' = W + s·B·A            W (O, I) is frozen; A (R, I) and B (O, R) are trained; s = alpha / rank
    DoRA: W' = m ⊙ V / |V|          V = W + s·B·A, |V| the norm of each of its rows; m (O), their lengths, is trained

The update is added to the weight before the product, not to the product: that takes 2·O·I·R FLOP once instead of
2·N·R·(I + O) for N tokens and no pass over the activations, and it makes a frozen weight in bf16 the type of the
product. The gradients of A and B come from thin products, without the gradient of W' itself:

    dL/dB = s · dL/dW' · Aᵀ = s · dYᵀ (X Aᵀ)          dL/dA = s · Bᵀ · dL/dW' = s · (dY B)ᵀ X

Shapes: N tokens, I inputs, O outputs, R rank.
"""

import math
from typing import Any, cast

import torch
from torch import Tensor, nn


class LoraLinear(nn.Module):
    """A frozen linear layer with a trained update; `weight` is what both come to."""

    magnitude: nn.Parameter | None

    def __init__(self, frozen: nn.Linear, rank: int, scale: float, *, dora: bool = False) -> None:
        """The layer's parameters become this one's, the same objects; A, B and magnitude are to be initialised."""
        super().__init__()
        self.out_features, self.in_features = frozen.weight.shape
        self.scale = scale
        self.frozen = frozen.weight.requires_grad_(False)
        self.bias = None if frozen.bias is None else frozen.bias.requires_grad_(False)
        device = frozen.weight.device
        self.lora_A = nn.Parameter(torch.empty(rank, self.in_features, device=device, dtype=torch.float32))
        self.lora_B = nn.Parameter(torch.empty(self.out_features, rank, device=device, dtype=torch.float32))
        self.magnitude = nn.Parameter(torch.empty(self.out_features, device=device)) if dora else None

    @torch.no_grad()
    def initialise(self, generator: torch.Generator) -> None:
        """A: uniform within ±1/√I, as peft has it; B: zero; magnitude: as it is. W' is then W."""
        bound = 1 / math.sqrt(self.in_features)
        drawn = torch.rand(self.lora_A.shape, generator=generator) * 2 * bound - bound
        self.lora_A.copy_(drawn)
        self.lora_B.zero_()
        if self.magnitude is not None:
            self.magnitude.copy_(torch.linalg.vector_norm(self.frozen.float(), dim=1))

    @property
    def weight(self) -> Tensor:
        """W' (O, I), in fp32."""
        return updated(self.frozen, self.lora_A, self.lora_B, self.magnitude, self.scale)

    def adapter(self) -> dict[str, nn.Parameter]:
        """What is trained, by its name here."""
        factors = {"lora_A": self.lora_A, "lora_B": self.lora_B}
        return factors if self.magnitude is None else factors | {"magnitude": self.magnitude}

    def forward(self, x: Tensor) -> Tensor:
        return adapted([self], x)[0]

    def _factors(self) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """W, A, B and with DoRA 1/|V| (O), which gradients don't pass through (DoRA, section 4.3)."""
        factors = self.frozen, self.lora_A, self.lora_B
        return *factors, None if self.magnitude is None else _one_over_norms(*factors, self.scale)


def adapted(layers: list[LoraLinear], x: Tensor) -> list[Tensor]:
    """What each of some layers makes of one input (…, I), by one product."""
    device = x.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
    factors = [factor for layer in layers for factor in layer._factors()]
    with torch.autocast(device, enabled=False):
        y_no = _Product.apply(x.flatten(0, -2), layers[0].scale, dtype, *factors)  # type: ignore[no-untyped-call]
        sizes = [layer.out_features for layer in layers]
        outputs = list(torch.split(y_no.view(*x.shape[:-1], -1), sizes, dim=-1))
        for i, layer in enumerate(layers):
            if layer.magnitude is not None:
                outputs[i] = outputs[i] * layer.magnitude.to(dtype)
            if layer.bias is not None:
                outputs[i] = outputs[i] + layer.bias.to(dtype)
    return outputs


def updated(frozen_oi: Tensor, a_ri: Tensor, b_or: Tensor, magnitude_o: Tensor | None, scale: float) -> Tensor:
    """W' (O, I) in fp32, of LoRA or, with a magnitude, DoRA."""
    if magnitude_o is None:
        return composed([(frozen_oi, a_ri, b_or, None)], scale, torch.float32)
    shorter_o = _one_over_norms(frozen_oi, a_ri, b_or, scale)
    return magnitude_o[:, None] * composed([(frozen_oi, a_ri, b_or, shorter_o)], scale, torch.float32)


@torch.no_grad()
def _one_over_norms(frozen_oi: Tensor, a_ri: Tensor, b_or: Tensor, scale: float) -> Tensor:
    norms_o = torch.linalg.vector_norm(torch.addmm(frozen_oi.float(), b_or, a_ri, alpha=scale), dim=1)
    return cast(Tensor, 1 / norms_o)


Factors = tuple[Tensor, Tensor, Tensor, Tensor | None]  # of a layer: W, A, B, 1/|V|


def composed(layers: list[Factors], scale: float, dtype: torch.dtype) -> Tensor:
    """The layers' updated weights, one below the other; with DoRA their rows have length 1."""
    parts = []
    for frozen_oi, a_ri, b_or, shorter_o in layers:
        v_oi = torch.addmm(frozen_oi.float(), b_or, a_ri, alpha=scale)
        parts.append((v_oi if shorter_o is None else shorter_o[:, None] * v_oi).to(dtype))
    return torch.cat(parts) if len(parts) > 1 else parts[0]


class _Product(torch.autograd.Function):
    """x · W'ᵀ of layers that share an input, with gradients by x and by each layer's A and B alone."""

    @staticmethod
    def forward(ctx: Any, x_ni: Tensor, scale: float, dtype: torch.dtype, *factors: Tensor | None) -> Tensor:
        ctx.scale, ctx.dtype, ctx.x_dtype = scale, dtype, x_ni.dtype
        x_ni = x_ni.to(dtype)
        ctx.save_for_backward(x_ni, *factors)
        return x_ni @ composed(_by_layer(factors), scale, dtype).mT

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x_ni, *factors = ctx.saved_tensors
        layers, scale = _by_layer(factors), ctx.scale
        dx_ni = (dy @ composed(layers, scale, ctx.dtype)).to(ctx.x_dtype) if ctx.needs_input_grad[0] else None
        h_nr = x_ni @ torch.cat([a_ri for _, a_ri, _, _ in layers]).to(ctx.dtype).mT
        hidden = torch.split(h_nr, [len(a_ri) for _, a_ri, _, _ in layers], dim=1)
        outputs = torch.split(dy, [len(b_or) for _, _, b_or, _ in layers], dim=1)
        dbs, dhs = [], []
        for (_, _, b_or, shorter_o), part_nr, dy_no in zip(layers, hidden, outputs, strict=True):
            if shorter_o is not None:
                dy_no = dy_no * shorter_o.to(dy.dtype)
            dbs.append(scale * (dy_no.mT @ part_nr).float())
            dhs.append(dy_no @ b_or.to(ctx.dtype))
        da_ri = scale * (torch.cat(dhs, dim=1).mT @ x_ni).float()
        das = torch.split(da_ri, [len(a_ri) for _, a_ri, _, _ in layers])
        gradients = [gradient for da, db in zip(das, dbs, strict=True) for gradient in (None, da, db, None)]
        return dx_ni, None, None, *gradients


def _by_layer(factors: Any) -> list[Factors]:
    return [cast(Factors, tuple(factors[i : i + 4])) for i in range(0, len(factors), 4)]


def is_adapter(name: str) -> bool:
    """Whether a parameter of this name belongs to an adapter."""
    return name.rpartition(".")[2] in ("lora_A", "lora_B", "magnitude")
