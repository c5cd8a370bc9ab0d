"""What training holds in a device's memory, by formula; tests compare it with what torch keeps."""

from dataclasses import dataclass

import torch

from crawl2chat.model import ModelConfig, Transformer
from crawl2chat.model.attention import BLOCKS, SHORT
from crawl2chat.train.head_loss import chunk_size
from crawl2chat.train.optim import MuonAdamW

STEP_COPIES = 6  # of the largest stack of equal matrices, while Muon orthogonalises it


@dataclass(frozen=True)
class TrainingMemory:
    """Bytes a device."""

    weights: float  # fp32, which the optimiser steps, and the copy in bf16 that the forward pass makes
    gradients: float  # fp32
    optimiser: float  # its state
    activations: float  # of a micro-batch, kept for the backward pass
    logits: float  # of a chunk, and the gradients that the loss leaves
    step: float  # what the optimiser needs besides, once the activations are gone

    @property
    def kept(self) -> float:
        return self.weights + self.gradients + self.optimiser

    @property
    def peak(self) -> float:
        return self.kept + max(self.activations + self.logits, self.step)


def training_memory(
    config: ModelConfig, tokens: int, device: str, *, bf16: bool, compiled: bool, shards: int = 1
) -> TrainingMemory:
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
        activations=tokens * config.num_hidden_layers * activation_bytes(config, device, bf16=bf16, compiled=compiled),
        logits=logits_bytes(config, tokens, device, bf16=bf16, compiled=compiled),
        step=STEP_COPIES * max(stacks) / shards,
    )


def activation_bytes(config: ModelConfig, device: str, *, bf16: bool, compiled: bool) -> float:
    """Bytes that a block keeps of a token for the backward pass, in rows of the model's whole context.

    Compiled: the residual stream, in fp32; in the precision of the products both normed inputs and what attention
    adds, queries, keys and values as they are projected, queries and keys as attention takes them (and where query
    heads share keys and values, these once for each), attention's result, and of the MLP gate, up and their product.
    Statistics of norms and softmax, a few numbers a head; on a CPU, where short rows are attended to in blocks, the
    softmax's result too. Eager, norms and casts keep copies of their own.
    """
    C, M, T = config.hidden_size, config.intermediate_size, config.max_position_embeddings
    H, H_kv = config.num_attention_heads, config.num_key_value_heads
    Q, K = H * config.head_dim, H_kv * config.head_dim
    repeated = Q if H_kv < H else 0
    statistics = 4 * (2 + 2 * H + H_kv)
    if compiled:
        in_blocks = device == "cpu" and T <= SHORT
        shares = H * T * (BLOCKS + 1) / (2 * BLOCKS) if in_blocks else 0
        products = 3 * C + 4 * Q + repeated + 2 * K + 3 * M + shares
        return statistics + 4 * C + (2 if bf16 else 4) * products
    if bf16:
        return statistics + 16 * C + 4 * (Q + K) + 2 * (2 * C + 4 * Q + K + (repeated or Q + 2 * K) + 4 * M)
    return statistics + 4 * (6 * C + 5 * Q + repeated + 3 * K + 4 * M)


def logits_bytes(config: ModelConfig, tokens: int, device: str, *, bf16: bool, compiled: bool) -> float:
    """Bytes of the head's loss: a chunk's logits and their gradient, with fp32 steps between (more of them eager),
    and the gradients by all tokens' features and by the head, the latter twice while it is scaled.
    """
    a_logit = 2 * (2 if bf16 else 4) + (4 if compiled else 16)
    chunk = chunk_size(tokens, config.vocab_size, device)
    return chunk * config.vocab_size * a_logit + 4 * config.hidden_size * (tokens + 2 * config.vocab_size)
