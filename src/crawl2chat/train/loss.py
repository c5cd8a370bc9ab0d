"""The loss of a batch and its gradients, however the batch is split."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from crawl2chat.model import Transformer
from crawl2chat.model.transformer import call_module
from crawl2chat.train.data import Batch
from crawl2chat.train.distributed import Ranks
from crawl2chat.train.head_loss import HeadLoss, in_pieces


def rows_of_rank(batch: Batch, ranks: Ranks) -> Batch:
    """The rows of a batch that are this rank's, as many for each: what lacks is repeated with a weight of 0."""
    n = len(batch.inputs_bt)
    lacking = -n % ranks.size
    rows = torch.arange(n + lacking).clamp(max=n - 1)[ranks.rows(n + lacking)]
    weights_bt = torch.cat([batch.weights_bt, torch.zeros_like(batch.weights_bt[:1]).expand(lacking, -1)])
    inputs_bt, targets_bt, _, *documents = (part[rows] for part in batch.parts())
    return Batch(inputs_bt, targets_bt, weights_bt[ranks.rows(n + lacking)], *documents)


def add_gradients(
    loss_of: Callable[..., Tensor],
    batch: Batch,
    rows: int,
    device: str,
    scale: float = 1.0,
    *,
    total_weight: float | None = None,
    micro_batch: Callable[[bool], AbstractContextManager[Any]] = nullcontext,
) -> float:
    """Add to the gradients those of `scale` times the batch's mean loss; returns that mean, in nats a token.

    `rows` go through the model at once, within `micro_batch(is it the last)`. The weights are divided by their sum
    over the whole batch, so any split into micro-batches gives one loss. Where this is but one rank's share of the
    batch, that sum is given as `total_weight`, and what is returned is the share's part of the mean.
    """
    if total_weight is None:
        total_weight = batch.weights_bt.sum().item()
    loss = torch.zeros((), device=device)
    for i in range(0, len(batch.inputs_bt), rows):
        inputs, targets, weights, *documents = (_on_device(part[i : i + rows], device) for part in batch.parts())
        with micro_batch(i + rows >= len(batch.inputs_bt)):
            micro_loss = loss_of(inputs, targets, weights / total_weight, *documents)
            (scale * micro_loss).backward()
        loss += micro_loss.detach()
    return loss.item()


def _on_device(tensor: Tensor, device: str) -> Tensor:
    """From pinned memory a copy to a GPU waits for nothing."""
    return tensor.pin_memory().to(device, non_blocking=True) if device == "cuda" else tensor.to(device)


def weighted_loss(
    model: Transformer,
    inputs_bt: Tensor,
    targets_bt: Tensor,
    weights_bt: Tensor,
    documents_bt: Tensor | None = None,
    *,
    bf16: bool = False,
    compiled: bool = False,
) -> Tensor:
    """Sum over all tokens of weight · cross-entropy, in nats; `compiled` block by block."""
    with torch.autocast(inputs_bt.device.type, dtype=torch.bfloat16, enabled=bf16):
        call = in_pieces(call_module) if compiled else call_module
        features_btc = model.features(inputs_bt, documents_bt=documents_bt, call=call)
    loss: Tensor = HeadLoss.apply(
        features_btc.flatten(0, 1), model.lm_head.weight, targets_bt.flatten(), weights_bt.flatten(),
        torch.bfloat16 if bf16 else torch.float32, compiled,
    )  # fmt: skip
    return loss
