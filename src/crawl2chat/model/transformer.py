"""The dense decoder of the Llama family: Llama 2 and 3, Mistral, Qwen2, Qwen3, SmolLM2, by config.

Pre-norm with RMSNorm, grouped-query attention, RoPE, SwiGLU, tied or untied embeddings. A config adds what a family
has: learned RMSNorm on each head's queries and keys before RoPE (Qwen3, arXiv 2505.09388), biases (Qwen2), stretched
RoPE (Llama 3.1), sliding windows (Mistral). Models that are made here have exactly Qwen3's shape: transformers, vLLM,
SGLang and llama.cpp load it. Parameters have transformers' names, so a checkpoint needs no translation.

The forward pass is here for whole rows (training, scoring) and in `cached.py` over a cache (generation).
Shape suffixes: see `crawl2chat.model`.
"""

import math
from dataclasses import dataclass, field
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from crawl2chat.model.attention import Mask, attend, mask_in_window, mask_within, positions_within
from crawl2chat.model.head_loss import ChunkLoss, HeadLogprobs, HeadLoss
from crawl2chat.model.lora import LoraLinear, adapted
from crawl2chat.model.rope import RopeScaling, apply_rope, rope_angles


@dataclass(frozen=True)
class ModelConfig:
    """The fields of a `config.json` that shape the model, under their names there; `families` reads and writes it."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    max_position_embeddings: int
    rope_theta: float = 10_000.0
    rms_norm_eps: float = 1e-6
    tie_word_embeddings: bool = True
    family: str = "qwen3"  # transformers' model_type
    qk_norm: bool = True
    qkv_bias: bool = False
    o_bias: bool = False
    mlp_bias: bool = False
    rope_scaling: RopeScaling | None = None
    sliding_window: int | None = None  # how many tokens the layers in `sliding_layers` see, a token itself included
    sliding_layers: tuple[int, ...] = ()
    original: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)  # the config.json it is from

    def __post_init__(self) -> None:
        if self.num_attention_heads % self.num_key_value_heads:
            raise ValueError(
                f"{self.num_attention_heads} attention heads can't share {self.num_key_value_heads} "
                "key-value heads evenly"
            )

    def rope(self, positions_bt: Tensor, lengths_b: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """`rope_angles` of this model."""
        return rope_angles(positions_bt, self.head_dim, self.rope_theta, self.rope_scaling, lengths_b)

    def window_of(self, layer: int) -> int | None:
        """How many tokens a token of this layer sees; None for all before it."""
        return self.sliding_window if layer in self.sliding_layers else None


class RMSNorm(nn.Module):
    """x / rms(x) · weight, in float32 whatever comes in (Zhang & Sennrich, arXiv 1910.07467)."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        x32 = x.float()
        normed = x32 * torch.rsqrt(x32.square().mean(-1, keepdim=True) + self.eps)
        return self.weight * normed.to(x.dtype)


def joined(x_btc: Tensor, *linears: nn.Linear | LoraLinear) -> list[Tensor]:
    """What each of several linear layers makes of one input, by one product with their joined weights.

    One wide product is faster than narrow ones, forward and backward. Layers that are trained by products of their own,
    such as fp8's, are called one by one.
    """
    lora = [linear for linear in linears if isinstance(linear, LoraLinear)]
    if len(lora) == len(linears):
        return adapted(lora, x_btc)
    if any(type(linear) is not nn.Linear and linear.training for linear in linears):
        return [linear(x_btc) for linear in linears]
    weights = [linear.weight for linear in linears]
    bias = None if linears[0].bias is None else torch.cat([linear.bias for linear in linears])
    return list(torch.split(F.linear(x_btc, torch.cat(weights), bias), [len(weight) for weight in weights], dim=-1))


class Attention(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.n_heads, self.n_kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.head_dim = config.head_dim
        C, D = config.hidden_size, config.head_dim
        self.q_proj = nn.Linear(C, self.n_heads * D, bias=config.qkv_bias)
        self.k_proj = nn.Linear(C, self.n_kv_heads * D, bias=config.qkv_bias)
        self.v_proj = nn.Linear(C, self.n_kv_heads * D, bias=config.qkv_bias)
        self.o_proj = nn.Linear(self.n_heads * D, C, bias=config.o_bias)
        self.q_norm = RMSNorm(D, config.rms_norm_eps) if config.qk_norm else nn.Identity()
        self.k_norm = RMSNorm(D, config.rms_norm_eps) if config.qk_norm else nn.Identity()

    def forward(self, x_btc: Tensor, rope: tuple[Tensor, Tensor], mask: Mask | None) -> Tensor:
        B, T, _ = x_btc.shape
        y_bhtd = attend(*self.heads(x_btc, rope), mask)
        return cast(Tensor, self.o_proj(y_bhtd.transpose(1, 2).reshape(B, T, -1)))

    def heads(self, x_btc: Tensor, rope: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values (B, H, T, D), normed and rotated; shared keys and values are repeated."""
        B, T, _ = x_btc.shape
        projections = joined(x_btc, self.q_proj, self.k_proj, self.v_proj)
        q, k, v = (y.view(B, T, -1, self.head_dim) for y in projections)
        q, k, v = self.q_norm(q).transpose(1, 2), self.k_norm(k).transpose(1, 2), v.transpose(1, 2)
        q, k = apply_rope(q, *rope).to(v.dtype), apply_rope(k, *rope).to(v.dtype)
        if self.n_kv_heads != self.n_heads:
            k, v = (t.repeat_interleave(self.n_heads // self.n_kv_heads, dim=1) for t in (k, v))
        return q, k, v


class MLP(nn.Module):
    """SwiGLU: down(silu(gate(x)) · up(x)) (Shazeer, arXiv 2002.05202)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=config.mlp_bias)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=config.mlp_bias)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=config.mlp_bias)

    def forward(self, x_btc: Tensor) -> Tensor:
        gate, up = joined(x_btc, self.gate_proj, self.up_proj)
        return cast(Tensor, self.down_proj(F.silu(gate) * up))


class Block(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = Attention(config)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = MLP(config)

    def forward(self, x_btc: Tensor, rope: tuple[Tensor, Tensor], mask: Mask | None) -> Tensor:
        x_btc = x_btc + self.self_attn(self.input_layernorm(x_btc), rope, mask)
        return cast(Tensor, x_btc + self.mlp(self.post_attention_layernorm(x_btc)))


class Decoder(nn.Module):
    """Embedding, blocks and the last norm: what transformers calls `model` in its parameter names."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Block(config) for _ in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)


class Transformer(nn.Module):
    """Next-token logits of token ids, or the loss of predicting given ones."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.model = Decoder(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        if config.tie_word_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight
        self.chunk_loss = ChunkLoss()
        self.recomputes_blocks = False  # in the backward pass, so that of each block only the input is kept
        self.compiled = False  # whether its blocks are

    def forward(
        self,
        ids_bt: Tensor,
        documents_bt: Tensor | None = None,
        *,
        targets_bt: Tensor | None = None,
        weights_bt: Tensor | None = None,
        at_bt: Tensor | None = None,
    ) -> Tensor:
        """Logits (B, T, V); with targets the loss, or with `at_bt` too what `logprobs` gives for the N places it marks.

        All that trains the model goes through this call, since it is what DDP and FSDP wrap.
        documents_bt: as in `features`. weights_bt: as in `loss`; without them every target weighs 1.
        """
        features_btc = self.features(ids_bt, documents_bt)
        if targets_bt is None:
            return self.logits(features_btc)
        if at_bt is not None:
            return self.logprobs(features_btc[at_bt], targets_bt[at_bt])
        return self.loss(features_btc, targets_bt, torch.ones_like(ids_bt) if weights_bt is None else weights_bt)

    def logits(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.lm_head(x))

    def loss(self, features_btc: Tensor, targets_bt: Tensor, weights_bt: Tensor) -> Tensor:
        """Sum over all tokens of weight · cross-entropy, in nats; products in autocast's type, all else in fp32."""
        dtype = _product_dtype(features_btc)
        with torch.autocast(features_btc.device.type, enabled=False):
            loss = HeadLoss.apply(  # type: ignore[no-untyped-call]
                features_btc.flatten(0, 1), self.lm_head.weight, targets_bt.flatten(), weights_bt.flatten(), dtype,
                self.chunk_loss,
            )  # fmt: skip
        return cast(Tensor, loss)

    def logprobs(self, features_nc: Tensor, targets_n: Tensor) -> Tensor:
        """Log-probability of each target, and below it the entropy that it is drawn with, (2, N), in nats and fp32."""
        dtype = _product_dtype(features_nc)
        with torch.autocast(features_nc.device.type, enabled=False):
            found = HeadLogprobs.apply(  # type: ignore[no-untyped-call]
                features_nc, self.lm_head.weight, targets_n, dtype
            )
        return torch.stack(found)

    def features(
        self,
        ids_bt: Tensor,
        documents_bt: Tensor | None = None,
        *,
        positions_bt: Tensor | None = None,
        mask: Mask | None = None,
    ) -> Tensor:
        """The last norm's output (B, T, C), of which `logits` makes logits.

        documents_bt, (B, T), numbers each token's document within its row: each is then read as if it stood alone.
        positions_bt and mask, in its place: any positions, and what each token attends to, true for what it sees.
        """
        T, window = ids_bt.shape[1], self.config.sliding_window
        if positions_bt is None:
            positions_bt = torch.arange(T, device=ids_bt.device)[None]
        windowed = mask
        if documents_bt is not None:
            positions_bt = positions_within(documents_bt)
            in_blocks = documents_bt.is_cuda and self.compiled
            mask = windowed = mask_within(documents_bt, blocks=in_blocks)
        if window and window < T:  # else it cuts off nothing
            if documents_bt is not None:
                windowed = mask_within(documents_bt, blocks=in_blocks, window=window)
            else:
                windowed = mask_in_window(mask, positions_bt, window)
        rope = self.config.rope(positions_bt)
        x_btc = self.model.embed_tokens(ids_bt)
        recompute = self.recomputes_blocks and torch.is_grad_enabled()
        for i, block in enumerate(self.model.layers):
            seen = windowed if self.config.window_of(i) else mask
            if recompute:  # gradient checkpointing (Chen et al., arXiv 1604.06174)
                x_btc = checkpoint(block, x_btc, rope, seen, use_reentrant=False, preserve_rng_state=False)
            else:
                x_btc = block(x_btc, rope, seen)
        return cast(Tensor, self.model.norm(x_btc))

    @torch.no_grad()
    def init_weights(self, seed: int) -> None:
        """Matrices: normal, deviation 1/√fan-in, but zero where they write to the residual stream.

        A block is then the identity at first, which lets Muon's large steps begin without a long warm-up
        (nanochat and the speedruns do the same). Embedding and head: deviation 0.02, so that the first
        predictions are close to uniform.
        """
        generator = torch.Generator().manual_seed(seed)
        for name, weight in self.named_parameters():
            if weight.ndim == 1:
                weight.fill_(0.0 if name.endswith(".bias") else 1.0)
            elif name.endswith(("o_proj.weight", "down_proj.weight")):
                weight.zero_()
            else:
                deviation = 1 / math.sqrt(weight.shape[1]) if ".layers." in name else 0.02
                weight.copy_(torch.randn(weight.shape, generator=generator) * deviation)

    def n_parameters(self) -> int:
        return sum(p.numel() for p in self.parameters())

    def flops_per_token(self, context: int) -> int:
        """FLOP of a training token, forward and backward, in rows of `context` tokens: 6·N + 4·F + 6·L·H·D·context.

        N: trained weights of all matrices, the head's too (a tied one is multiplied by like any other), not the
        embedding's, which is looked up. A product is 2 FLOP per weight, a multiplication and an addition, and the
        backward pass has two for each of the forward pass: 6.
        F: frozen ones, under an adapter, whose own gradient is not computed: 4. An adapter's factors are among N.
        L layers, H heads, D head width: a pair of tokens takes 4·H·D forward (its score, and its share of the
        values), 12·H·D with the backward pass. A token sees context/2 on average, since attention is causal: what
        a kernel computes beyond the mask is not counted, and what documents hide from each other is.
        Left out, as in PaLM's formula (arXiv 2204.02311, appendix B): norms, RoPE, activations, softmax, the loss.
        """
        c = self.config
        matrices: dict[str, Tensor] = {
            name: p for name, p in self.named_parameters() if p.ndim == 2 and "embed_tokens" not in name
        }
        matrices["lm_head.weight"] = self.lm_head.weight  # which has only the embedding's name if it is tied
        products = sum((6 if p.requires_grad else 4) * p.numel() for p in matrices.values())
        return products + 6 * c.num_hidden_layers * c.num_attention_heads * c.head_dim * context


def _product_dtype(x: Tensor) -> torch.dtype:
    """Of products where autocast does not reach: its type if it is on."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else torch.float32
