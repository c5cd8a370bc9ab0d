"""What training holds in a device's memory, by formula; tests compare it with what torch keeps."""

from dataclasses import dataclass

import torch

from crawl2chat.model import ModelConfig, Transformer
from crawl2chat.train.optim import MuonAdamW

STEP_COPIES = 6  # of the largest stack of equal matrices, while Muon orthogonalises it


@dataclass(frozen=True)
class TrainingMemory:
    """Bytes a device."""

    weights: float  # fp32, which the optimiser steps, and the copy in bf16 that the forward pass makes
    gradients: float  # fp32
    optimiser: float  # its state
    activations: float  # of a micro-batch, kept for the backward pass
    logits: float  # with their gradients
    step: float  # what the optimiser needs besides, once the activations are gone

    @property
    def kept(self) -> float:
        return self.weights + self.gradients + self.optimiser

    @property
    def peak(self) -> float:
        return self.kept + max(self.activations + self.logits, self.step)


def training_memory(config: ModelConfig, tokens: int, *, bf16: bool, compiled: bool, shards: int = 1) -> TrainingMemory:
    """Memory of a device that takes micro-batches of so many tokens.

    shards: devices that share weights, gradients and optimiser state (FSDP), of which each then gathers two blocks at
    a time; 1 where each has all of them (DDP).
    """
    with torch.device("meta"):
        model = Transformer(config)
        optimiser = MuonAdamW(model.named_parameters(), matrix_lr=1.0, embedding_lr=1.0, weight_decay=0.0)
    weights = model.n_parameters()
    in_blocks = sum(p.numel() for p in model.model.layers.parameters())
    gathered = (
        weights
        if shards == 1
        else weights - in_blocks + min(2, len(model.model.layers)) * in_blocks / len(model.model.layers)
    )
    stacks = [sum(optimiser.matrices[name].nbytes for name in names) for names in optimiser.by_shape.values()]
    copies = gathered * (2 if bf16 else 4 * (shards > 1))
    return TrainingMemory(
        weights=4 * weights / shards + copies,
        gradients=4 * weights / shards,
        optimiser=sum(tensor.nbytes for tensor in optimiser.state.values()) / shards,
        activations=tokens * config.num_hidden_layers * activation_bytes(config, bf16=bf16, compiled=compiled),
        logits=tokens * logits_bytes(config, bf16=bf16, compiled=compiled),
        step=STEP_COPIES * max(stacks) / shards,
    )


def activation_bytes(config: ModelConfig, *, bf16: bool, compiled: bool) -> int:
    """Bytes that a block keeps of a token for the backward pass.

    Compiled: the residual stream before attention and before the MLP, in fp32; in the precision of the products what
    goes into them: both normed inputs, queries and keys before their norm, then queries, keys and values (these two
    repeated for each query head) and what attention gives, gate, up and their product. Statistics of norms and
    softmax, a few numbers a head. Eager, norms and casts keep copies of their own.
    """
    C, M = config.hidden_size, config.intermediate_size
    H, H_kv = config.num_attention_heads, config.num_key_value_heads
    Q, K = H * config.head_dim, H_kv * config.head_dim
    statistics = 4 * (2 + 2 * H + H_kv)
    if compiled:
        return statistics + 8 * C + (2 if bf16 else 4) * (2 * C + 5 * Q + K + 3 * M)
    if bf16:
        return statistics + 16 * C + 4 * (Q + K) + 2 * (5 * C + 5 * Q + K + 4 * M)
    return statistics + 4 * (6 * C + 6 * Q + 2 * K + 4 * M)


def logits_bytes(config: ModelConfig, *, bf16: bool, compiled: bool) -> int:
    """Bytes of a token's logits at their most: during the loss's backward pass.

    Compiled, logits and their gradient; eager also log-probabilities and two gradients in fp32.
    """
    width = 2 if bf16 else 4
    return config.vocab_size * (2 * width if compiled else width + 12)
