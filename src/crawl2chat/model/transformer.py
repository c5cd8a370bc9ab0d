"""A decoder of exactly Qwen3's shape (arXiv 2505.09388): transformers, vLLM, SGLang and llama.cpp load it.

Pre-norm with RMSNorm, grouped-query attention, learned RMSNorm on each head's queries and keys before RoPE,
SwiGLU, tied or untied embeddings. Parameters have transformers' names, so a checkpoint needs no translation.

The forward pass is here for whole rows (training, scoring) and in `cached.py` over a cache (generation).
Shape suffixes: see `crawl2chat.model`.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crawl2chat.model.attention import Mask, attend, mask_within, positions_within
from crawl2chat.model.head_loss import ChunkLoss, HeadLoss


@dataclass(frozen=True)
class ModelConfig:
    """The fields of a Qwen3 `config.json` that shape the model, under their names there."""

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

    def __post_init__(self) -> None:
        if self.num_attention_heads % self.num_key_value_heads:
            raise ValueError(
                f"{self.num_attention_heads} attention heads can't share {self.num_key_value_heads} "
                "key-value heads evenly"
            )

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


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


def rope_angles(positions_bt: Tensor, head_dim: int, theta: float) -> tuple[Tensor, Tensor]:
    """Cosine and sine (B, 1, T, D) of the rotations at these positions (Su et al., arXiv 2104.09864)."""
    exponents = torch.arange(0, head_dim, 2, device=positions_bt.device, dtype=torch.float32) / head_dim
    angles = positions_bt[:, None, :, None].float() * theta**-exponents
    angles = torch.cat([angles, angles], dim=-1)
    return angles.cos(), angles.sin()


def apply_rope(x_bhtd: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate pairs of channels half a head apart, which is how Qwen and Llama checkpoints lay them out."""
    first, second = x_bhtd.chunk(2, dim=-1)
    return x_bhtd * cos + torch.cat([-second, first], dim=-1) * sin


def joined(x_btc: Tensor, *linears: nn.Linear) -> list[Tensor]:
    """What each of several linear layers makes of one input, by one product with their joined weights.

    One wide product is faster than narrow ones, forward and backward. Layers that are trained by products of their own,
    such as fp8's, are called one by one.
    """
    if any(type(linear) is not nn.Linear and linear.training for linear in linears):
        return [linear(x_btc) for linear in linears]
    weights = [linear.weight for linear in linears]
    return list(torch.split(F.linear(x_btc, torch.cat(weights)), [len(weight) for weight in weights], dim=-1))


class Attention(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.n_heads, self.n_kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.head_dim = config.head_dim
        C, D = config.hidden_size, config.head_dim
        self.q_proj = nn.Linear(C, self.n_heads * D, bias=False)
        self.k_proj = nn.Linear(C, self.n_kv_heads * D, bias=False)
        self.v_proj = nn.Linear(C, self.n_kv_heads * D, bias=False)
        self.o_proj = nn.Linear(self.n_heads * D, C, bias=False)
        self.q_norm = RMSNorm(D, config.rms_norm_eps)
        self.k_norm = RMSNorm(D, config.rms_norm_eps)

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
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

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

    def forward(
        self,
        ids_bt: Tensor,
        documents_bt: Tensor | None = None,
        *,
        targets_bt: Tensor | None = None,
        weights_bt: Tensor | None = None,
        at_bt: Tensor | None = None,
    ) -> Tensor:
        """The loss if there are targets, else logits: (B, T, V), or (N, V) of the N places where `at_bt` is true.

        All that trains the model goes through this call, since it is what DDP and FSDP wrap.
        documents_bt: as in `features`. weights_bt: as in `loss`; without them every target weighs 1.
        """
        features_btc = self.features(ids_bt, documents_bt)
        if targets_bt is not None:
            return self.loss(features_btc, targets_bt, torch.ones_like(ids_bt) if weights_bt is None else weights_bt)
        return self.logits(features_btc if at_bt is None else features_btc[at_bt])

    def logits(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.lm_head(x))

    def loss(self, features_btc: Tensor, targets_bt: Tensor, weights_bt: Tensor) -> Tensor:
        """Sum over all tokens of weight · cross-entropy, in nats; products in autocast's type, all else in fp32."""
        device = features_btc.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else torch.float32
        with torch.autocast(device, enabled=False):
            loss = HeadLoss.apply(  # type: ignore[no-untyped-call]
                features_btc.flatten(0, 1), self.lm_head.weight, targets_bt.flatten(), weights_bt.flatten(), dtype,
                self.chunk_loss,
            )  # fmt: skip
        return cast(Tensor, loss)

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
        if documents_bt is not None:
            positions_bt = positions_within(documents_bt)
            mask = mask_within(documents_bt, blocks=documents_bt.is_cuda)
        if positions_bt is None:
            positions_bt = torch.arange(ids_bt.shape[1], device=ids_bt.device)[None]
        rope = rope_angles(positions_bt, self.config.head_dim, self.config.rope_theta)
        x_btc = self.model.embed_tokens(ids_bt)
        for block in self.model.layers:
            x_btc = block(x_btc, rope, mask)
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
                weight.fill_(1.0)
            elif name.endswith(("o_proj.weight", "down_proj.weight")):
                weight.zero_()
            else:
                deviation = 1 / math.sqrt(weight.shape[1]) if ".layers." in name else 0.02
                weight.copy_(torch.randn(weight.shape, generator=generator) * deviation)

    def n_parameters(self) -> int:
        return sum(p.numel() for p in self.parameters())

    def flops_per_token(self, context: int) -> int:
        """FLOP of a training token, forward and backward, in rows of `context` tokens: 6·N + 6·L·H·D·context.

        N: weights of all matrices, the head's too (a tied one is multiplied by like any other), not the embedding's,
        which is looked up. A product is 2 FLOP per weight, a multiplication and an addition, and the backward pass has
        two for each of the forward pass: 6.
        L layers, H heads, D head width: a pair of tokens takes 4·H·D forward (its score, and its share of the
        values), 12·H·D with the backward pass. A token sees context/2 on average, since attention is causal: what
        a kernel computes beyond the mask is not counted, and what documents hide from each other is.
        Left out, as in PaLM's formula (arXiv 2204.02311, appendix B): norms, RoPE, activations, softmax, the loss.
        """
        c = self.config
        matrices = sum(p.numel() for name, p in self.named_parameters() if p.ndim == 2 and "embed_tokens" not in name)
        if c.tie_word_embeddings:
            matrices += c.vocab_size * c.hidden_size
        return 6 * matrices + 6 * c.num_hidden_layers * c.num_attention_heads * c.head_dim * context
