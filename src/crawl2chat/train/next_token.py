"""The objective of pretraining and fine-tuning: the next token of each row of a batch."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from crawl2chat.model import Transformer
from crawl2chat.train.data import Batch, Batches, prefetched
from crawl2chat.train.distributed import Ranks
from crawl2chat.train.guard import NOTHING_COUNTS
from crawl2chat.train.loop import Learner, Objective
from crawl2chat.train.memory import MicroBatch, rows_within
from crawl2chat.train.settings import TrainerSettings, TrainSettings


class NextToken(Objective):
    """Cross-entropy of the next tokens, averaged over a batch by their weights."""

    def __init__(
        self, model: Transformer, batches: Batches, settings: TrainSettings, tokens_per_epoch: int | None = None
    ) -> None:
        """tokens_per_epoch: padding included, if the metrics are to count epochs."""
        self.model, self.batches, self.settings = model, batches, settings
        self.tokens_per_epoch = tokens_per_epoch
        self.step_tokens, self.seq_len = settings.batch_tokens, settings.seq_len
        self.flops_per_token = model.flops_per_token(settings.seq_len)

    @contextlib.contextmanager
    def running(self, steps: int) -> Iterator[None]:
        given = self.batches
        with prefetched(given, steps) as self.batches:
            yield
        self.batches = given

    def micro_batch(self, settings: TrainerSettings, device: str, label: str, ranks: Ranks) -> MicroBatch:
        return MicroBatch(settings, device, label, of_step=self.step_tokens, alone=ranks.size == 1)

    def accumulate_gradients(self, step: int, learner: Learner) -> dict[str, Any]:
        """The loss, in nats per token, and how many tokens and epochs of them have been learned from."""
        batch = self.batches(step)
        n_tokens = (step + 1) * self.settings.batch_tokens
        line: dict[str, Any] = {"tokens": n_tokens}
        if self.tokens_per_epoch:
            line["epoch"] = round(n_tokens / self.tokens_per_epoch, 4)
        total_weight = batch.weights_bt.sum().item()
        if not total_weight:  # the data's fault, not the rates', and Muon would go on by its momentum at full length
            return {"skipped": NOTHING_COUNTS} | line
        share = rows_of_rank(batch, learner.ranks)
        loss = learner.micro_batch.fitting(
            lambda tokens: add_gradients(learner, share, tokens, total_weight),
            learner.optimiser.zero_grad,
            rows=len(share.inputs_bt),
            row_tokens=share.inputs_bt.shape[1],
        )
        return {"loss": learner.ranks.gather([loss]).sum().item()} | line


def rows_of_rank(batch: Batch, ranks: Ranks) -> Batch:
    """The rows of a batch that are this rank's, equally many on each: missing ones are repeated with weight 0."""
    n = len(batch.inputs_bt)
    lacking = -n % ranks.size
    rows = torch.arange(n + lacking).clamp(max=n - 1)[ranks.rows(n + lacking)]
    weights_bt = torch.cat([batch.weights_bt, torch.zeros_like(batch.weights_bt[:1]).expand(lacking, -1)])
    inputs_bt, targets_bt, _, *documents = (part[rows] for part in batch.parts())
    return Batch(inputs_bt, targets_bt, weights_bt[ranks.rows(n + lacking)], *documents)


def add_gradients(learner: Learner, batch: Batch, tokens: int, total_weight: float, scale: float = 1.0) -> float:
    """Add `scale` times the gradients of the batch's mean loss; returns that mean, in nats per token.

    tokens: that go through the model at once. The weights are divided by `total_weight`, their sum over all ranks, so
    any split into micro-batches gives one loss. On several ranks what is returned is this one's part of the mean.
    """
    loss = torch.zeros((), device=learner.device)
    n, seq_len = batch.inputs_bt.shape
    rows = rows_within(tokens // seq_len, n)
    for i in range(0, n, rows):
        inputs, targets, weights, *documents = (
            _on_device(part[i : i + rows], learner.device) for part in batch.parts()
        )
        with learner.model.micro_batch(last=i + rows >= n):
            micro_loss = learner.model(inputs, *documents, targets_bt=targets, weights_bt=weights / total_weight)
            torch.autograd.backward(scale * learner.ranks.size * micro_loss)  # gradients are averaged over the ranks
        loss += micro_loss.detach()
    return loss.item()


def _on_device(tensor: Tensor, device: str) -> Tensor:
    """From pinned memory a copy to a GPU waits for nothing."""
    return tensor.pin_memory().to(device, non_blocking=True) if device == "cuda" else tensor.to(device)
