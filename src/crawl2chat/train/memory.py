"""Memory: what training holds of it, by formula; how much goes through the model at once; what to do when it runs out.

Tests compare the formula with what torch keeps.
"""

import contextlib
import gc
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch

from crawl2chat.model import ModelConfig, Transformer
from crawl2chat.model.adapters import AdaptedTransformer
from crawl2chat.model.cpu_attention import BLOCKS, MAX_TOKENS
from crawl2chat.model.head_loss import chunk_size
from crawl2chat.model.lora import LoraLinear
from crawl2chat.stages.files import StageError
from crawl2chat.train.lora import halve, shape_of
from crawl2chat.train.optim import MuonAdamW
from crawl2chat.train.settings import LoraSettings, TrainerSettings

T = TypeVar("T")

CPU_TOKENS, GPU_TOKENS = 2048, 65_536  # of a forward pass, where neither setting nor objective says how many
CPU_ACTIVATIONS = 2**29  # bytes that a forward pass of `cpu_tokens` keeps for the backward pass
MIN_CPU_TOKENS = 256  # with fewer, reading the weights takes as long as multiplying by them
STEP_COPIES = 6  # of the largest stack of equal matrices, while Muon orthogonalises it


@dataclass(frozen=True)
class TrainingMemory:
    """Bytes per device."""

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
    config: ModelConfig,
    tokens: int,
    device: str,
    *,
    bf16: bool,
    compiled: bool,
    shards: int = 1,
    lora: LoraSettings | None = None,
) -> TrainingMemory:
    """Memory of a device that takes micro-batches of this many tokens.

    lora: with a rank, only an adapter has gradients and optimiser state. Of the frozen matrices, which `auto` counts
    as fp32, the products' copies are made block by block, and only the largest is ever there.
    shards: devices that share weights, gradients and optimiser state (FSDP), of which each then gathers two blocks at
    a time; 1 where each has all of them (DDP).
    """
    with torch.device("meta"):
        model = Transformer(config)
        if lora and lora.rank:
            if lora.frozen == "bf16":
                halve(model, lora.targets)
            model = AdaptedTransformer.on(model, shape_of(lora))
        optimiser = MuonAdamW(model.named_parameters(), matrix_lr=1.0, embedding_lr=1.0, weight_decay=0.0)
    layers = model.model.layers
    in_blocks = sum(p.numel() for p in layers.parameters())
    outside = model.n_parameters() - in_blocks
    gathered = outside + in_blocks * (1 if shards == 1 else min(2, len(layers)) / len(layers))
    stacks = [sum(optimiser.matrices[name].nbytes for name in names) for names in optimiser.by_shape.values()]
    copies = gathered * (2 if bf16 else 4 * (shards > 1))
    adapted = isinstance(model, AdaptedTransformer)
    if adapted:
        composed = 2 * config.hidden_size * config.intermediate_size  # of gate and up, the widest
        copies = composed * (6 if bf16 else 4) + outside * 2 * bf16 + gathered * 4 * (shards > 1)
    of_block = activation_bytes(config, device, bf16=bf16, compiled=compiled, frozen=adapted)
    kept = config.num_hidden_layers * of_block
    if lora and lora.dora:  # each product is kept before it gets its length
        outputs = sum(layer.out_features for layer in model.modules() if isinstance(layer, LoraLinear))
        kept += outputs * (2 if bf16 else 4)
    return TrainingMemory(
        weights=sum(p.nbytes for p in model.parameters()) / shards + copies,
        gradients=4 * sum(p.numel() for p in model.parameters() if p.requires_grad) / shards,
        optimiser=sum(tensor.nbytes for tensor in optimiser.state.values()) / shards,
        activations=tokens * kept,
        logits=logits_bytes(config, tokens, device, bf16=bf16, compiled=compiled, frozen=adapted),
        step=STEP_COPIES * max(stacks, default=0) / shards,
    )


def activation_bytes(config: ModelConfig, device: str, *, bf16: bool, compiled: bool, frozen: bool = False) -> float:
    """Bytes that a block keeps of a token for the backward pass, in rows of the model's whole context.

    Compiled: the residual stream, in fp32; in the precision of the products both normed inputs and what attention
    adds, queries, keys and values as they are projected, queries and keys as attention takes them (and where query
    heads share keys and values, these once for each), attention's result, and of the MLP gate, up and their product.
    Statistics of norms and softmax, a few numbers per head; on a CPU, where short rows are attended to in blocks, the
    softmax's result too. Eager, norms and casts keep copies of their own, but where the
    norms' weights are frozen, not what these are multiplied with.
    """
    C, M, T = config.hidden_size, config.intermediate_size, config.max_position_embeddings
    H, H_kv = config.num_attention_heads, config.num_key_value_heads
    Q, K = H * config.head_dim, H_kv * config.head_dim
    repeated = Q if H_kv < H else 0
    statistics = 4 * (2 + 2 * H + H_kv)
    if compiled:
        in_blocks = device == "cpu" and T <= MAX_TOKENS
        shares = H * T * (BLOCKS + 1) / (2 * BLOCKS) if in_blocks else 0
        products = 3 * C + 4 * Q + repeated + 2 * K + 3 * M + shares
        return statistics + 4 * C + (2 if bf16 else 4) * products
    if frozen:
        statistics -= 8 * C + (2 if bf16 else 4) * (Q + K)
    if bf16:
        return statistics + 16 * C + 4 * (Q + K) + 2 * (2 * C + 4 * Q + K + (repeated or Q + 2 * K) + 4 * M)
    return statistics + 4 * (6 * C + 5 * Q + repeated + 3 * K + 4 * M)


def logits_bytes(
    config: ModelConfig, tokens: int, device: str, *, bf16: bool, compiled: bool, frozen: bool = False
) -> float:
    """Bytes of the head's loss: a chunk's logits and their gradient, with fp32 steps between (more of them eager),
    and the gradients by all tokens' features and, unless frozen, by the head, the latter twice while it is scaled.
    """
    per_logit = 2 * (2 if bf16 else 4) + (4 if compiled else 16)
    chunk = chunk_size(tokens, config.vocab_size, device, frozen=frozen)
    gradients = tokens + (0 if frozen else 2 * config.vocab_size)
    return chunk * config.vocab_size * per_logit + 4 * config.hidden_size * gradients


def cpu_tokens(model: Transformer, most: int = CPU_TOKENS) -> int:
    """Return how many tokens a CPU may take at once, up to `most`: fewer of a large model, since products of hundreds
    of rows are as fast as larger ones, and memory is what others use too.
    """
    frozen = isinstance(model, AdaptedTransformer)
    of_block = activation_bytes(model.config, "cpu", bf16=False, compiled=False, frozen=frozen)
    return min(most, max(MIN_CPU_TOKENS, int(CPU_ACTIVATIONS / (model.config.num_hidden_layers * of_block))))


class MicroBatch:
    """The tokens of a forward pass; where the setting leaves them open, the most that have fitted so far.

    A step that doesn't fit is done again with half as many at once, its gradients discarded: the optimiser's step is
    that of the whole batch, whatever the split. Of several ranks none can do so, since the others would wait for it.
    """

    def __init__(
        self,
        settings: TrainerSettings,
        device: str,
        label: str,
        *,
        of_step: int = GPU_TOKENS,
        on_cpu: int = CPU_TOKENS,
        alone: bool = True,
        otherwise: str = "",
    ) -> None:
        """of_step: tokens of a whole step, which a GPU tries at first; on_cpu: what a CPU does.

        otherwise: what to lower when not even one sequence fits; by default its length or the model.
        """
        self.label = label
        self.tokens = settings.micro_batch_tokens or (of_step if device == "cuda" else on_cpu)
        self.alone, self.open = alone, alone and not settings.micro_batch_tokens
        self.otherwise = otherwise or f"{label}.seq_len or the model's depth or width"
        self.networks: Sequence[Transformer] = ()  # that may compute their blocks again in the backward pass
        self.rows, self.row_tokens = 1, self.tokens  # of a forward pass, at the last attempt

    def fitting(self, attempt: Callable[[int], T], discard: Callable[[], None], *, rows: int, row_tokens: int) -> T:
        """`attempt(tokens)`, again after memory ran out and `discard()`: with fewer at once, then with checkpointing.

        rows: sequences of the step, of `row_tokens` tokens each; of unequal ones, the longest's.
        Where the tokens were set, or one sequence is too much, memory's error goes on to `explain_out_of_memory`.
        """
        while True:
            self.rows, self.row_tokens = rows_within(self.tokens // row_tokens, rows), row_tokens
            try:
                return attempt(self.tokens)
            except (RuntimeError, MemoryError) as error:
                fewer = self.open and self.rows > 1
                checkpointing = self.alone and any(not network.recomputes_blocks for network in self.networks)
                if not ((fewer or checkpointing) and ran_out_of_memory(error)):
                    raise
            # the error is gone here, and with its traceback the tensors of the attempt
            discard()
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            if not fewer:
                for network in self.networks:
                    network.recomputes_blocks = True
                print(f"{self.label}: memory ran out; going on with gradient checkpointing", file=sys.stderr)
                continue
            self.tokens = self.rows // 2 * row_tokens
            print(
                f"{self.label}: memory ran out; going on with {rows_within(self.rows // 2, rows) * row_tokens} tokens "
                f"per forward pass, {rows * row_tokens} per step as before",
                file=sys.stderr,
            )

    def advice(self) -> str:
        """What to lower, and to what."""
        if self.rows < 2:
            return f"one sequence of {self.row_tokens} tokens at a time doesn't fit; lower {self.otherwise}"
        now, fewer = self.rows * self.row_tokens, self.rows // 2 * self.row_tokens
        return f"set {self.label}.micro_batch_tokens = {fewer} (now {now}); a step keeps its size"


def rows_within(most: int, n: int) -> int:
    """The most rows, up to `most` but one at least, that divide n evenly."""
    return next(rows for rows in range(max(1, min(most, n)), 0, -1) if n % rows == 0)


def ran_out_of_memory(error: BaseException) -> bool:
    """CUDA has an error of its own for it; torch's CPU allocator says it in words; Python and numpy raise theirs."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "DefaultCPUAllocator: can't allocate" in str(
        error
    )


@contextlib.contextmanager
def explain_out_of_memory(label: str, advice: Callable[[], str]) -> Iterator[None]:
    """Turn an error that means that memory ran out into a StageError with advice."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not ran_out_of_memory(error):
            raise
        raise StageError(f"{label}: out of memory; {advice()}") from error
