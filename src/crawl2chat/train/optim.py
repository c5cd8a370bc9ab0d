"""Muon for the matrices between layers, AdamW for embeddings, head and norms, and how their rates change over a run."""

from collections import defaultdict
from collections.abc import Iterable
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from crawl2chat.model.lora import is_adapter
from crawl2chat.train.distributed import SINGLE_PROCESS, Ranks, each_matrix, local


def orthogonalise(g_nij: Tensor, steps: int = 5, dtype: torch.dtype = torch.float32) -> Tensor:
    """Nearest semi-orthogonal matrix of each matrix in a stack, roughly: singular values come to 0.7 … 1.2.

    Newton–Schulz iteration with the quintic coefficients of Keller Jordan's Muon (kellerjordan.github.io/posts/muon),
    which tolerate bf16, to which products are then rounded. The result has the type of g_nij.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = g_nij.shape[1] > g_nij.shape[2]
    x = g_nij.mT if tall else g_nij
    x = (x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)).to(dtype)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return cast(Tensor, (x.mT if tall else x).to(g_nij.dtype))


class MuonAdamW:
    """One optimiser for the whole model, its state a flat dict of tensors that safetensors can hold.

    Matrices inside blocks are stepped by Muon: momentum, orthogonalised, scaled by √max(1, rows/columns).
    All others, factors of low-rank updates among them, are stepped by AdamW without decay.
    """

    MOMENTUM = 0.95
    BETA2 = 0.95

    def __init__(
        self,
        named: Iterable[tuple[str, nn.Parameter]],
        matrix_lr: float,
        embedding_lr: float,
        weight_decay: float,
        ranks: Ranks = SINGLE_PROCESS,
        *,
        beta1: float = 0.9,
        bf16: bool = False,
        adapter_lr: float = 0.0,
    ) -> None:
        """Parameters may be sharded: each rank then steps its rows, but for a matrix's orthogonalisation.

        beta1: AdamW's momentum. bf16: orthogonalise in bf16, for hardware that multiplies it natively.
        adapter_lr: AdamW's rate where there is a low-rank update, for its factors and for what is trained next to them:
        the head of a reward model, which a rate made for small models would throw about. Frozen parameters are passed
        over.
        """
        self.beta1 = beta1
        self.orthogonalise = partial(orthogonalise, dtype=torch.bfloat16 if bf16 else torch.float32)
        self.ranks = ranks
        self.matrix_lr, self.weight_decay = matrix_lr, weight_decay
        self.matrices: dict[str, nn.Parameter] = {}
        self.others: dict[str, nn.Parameter] = {}
        for name, parameter in named:
            if not parameter.requires_grad:
                continue
            in_block = parameter.ndim == 2 and ".layers." in name and not is_adapter(name)
            (self.matrices if in_block else self.others)[name] = parameter
        self.others_lr = adapter_lr if any(map(is_adapter, self.others)) else embedding_lr
        self.by_shape: dict[torch.Size, list[str]] = defaultdict(list)
        for name, parameter in self.matrices.items():
            self.by_shape[parameter.shape].append(name)
        self.state = {f"momentum.{name}": torch.zeros_like(p) for name, p in self.matrices.items()}
        for name, p in self.others.items():
            self.state |= {f"mean.{name}": torch.zeros_like(p), f"square.{name}": torch.zeros_like(p)}

    @torch.no_grad()
    def step(self, step: int, scale: float, momentum: float = MOMENTUM) -> None:
        """Move all parameters by their gradients; `step` counts from 0, `scale` is the schedule's factor.

        momentum: Muon's at this step.
        """
        for names in self.by_shape.values():
            self._step_matrices(names, scale * self.matrix_lr, momentum)
        for name, parameter in self.others.items():
            self._step_adamw(name, parameter, step, scale * self.others_lr)

    def zero_grad(self) -> None:
        for parameter in (*self.matrices.values(), *self.others.values()):
            parameter.grad = None

    def _step_matrices(self, names: list[str], lr: float, momentum: float) -> None:
        parameters = [local(self.matrices[name]) for name in names]
        momenta = [local(self.state[f"momentum.{name}"]) for name in names]
        gradients = [local(p.grad) for name in names if (p := self.matrices[name]).grad is not None]
        torch._foreach_lerp_(momenta, gradients, 1 - momentum)
        # Nesterov: look ahead by one more decay of the momentum
        ahead = torch._foreach_lerp(gradients, momenta, momentum)
        updates = each_matrix(self.orthogonalise, ahead, self.matrices[names[0]], self.ranks)
        rows, columns = self.matrices[names[0]].shape
        torch._foreach_mul_(parameters, 1 - lr * self.weight_decay)
        torch._foreach_add_(parameters, updates, alpha=-lr * max(1.0, rows / columns) ** 0.5)

    def _step_adamw(self, name: str, parameter: nn.Parameter, step: int, lr: float) -> None:
        assert parameter.grad is not None
        gradient, mean, square = (
            local(t) for t in (parameter.grad, self.state[f"mean.{name}"], self.state[f"square.{name}"])
        )
        beta1, beta2 = self.beta1, self.BETA2
        mean.lerp_(gradient, 1 - beta1)
        square.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        unbiased = (square / (1 - beta2 ** (step + 1))).sqrt_().add_(1e-8)
        local(parameter).addcdiv_(mean, unbiased, value=-lr / (1 - beta1 ** (step + 1)))


def lr_scale(step: int, steps: int, warmup: float, decay: float) -> float:
    """Factor on the learning rate at `step` of `steps` (WSD, arXiv 2405.18392; linear to zero, 2502.15938).

    Rises linearly over the first `warmup` share of the steps, falls linearly over the last `decay` share.
    The first step already moves and the last one still does.
    """
    rise = (step + 1) / max(1.0, warmup * steps)
    fall = (steps - step) / max(1.0, decay * steps)
    return min(1.0, rise, fall)


def muon_momentum(step: int, steps: int, warmup: float) -> float:
    """Muon's momentum at `step` of `steps`: rises linearly from 0.85 to 0.95 over the first `warmup` share.

    Early gradients turn quickly, so a long memory of them misleads (modded-nanogpt raises it over 300 steps).
    """
    return 0.95 - 0.1 * max(0.0, 1 - step / max(1.0, warmup * steps)) if warmup else 0.95
