"""Look inside a forward pass: every intermediate value of `Transformer`, and what follows if one is changed.

A third forward pass, next to `Transformer.features` and `cached.py`, since hooks could not change what a head reads
from its values within a layer.
A pass keeps the residual stream alone, 2·L + 1 tensors (T, C), which is little. All else of a layer, such as its
attention of T² numbers per head, is computed again from the stream when somebody asks for that layer.
Everything is computed in float32, whatever the weights' type, and outside of autograd.

Shapes: T tokens, L layers, C width, H heads, G key-value heads, D head width, M width of the MLP, V vocabulary.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crawl2chat.model.rope import apply_rope
from crawl2chat.model.transformer import Block, Transformer

Part = Literal["head", "attention", "mlp", "block", "residual"]


@dataclass(frozen=True)
class Change:
    """An activation that is set to zero (ablated), or to its value in another pass (patched).

    part: what a head reads from its values; the same of all heads; what the MLP writes; both writes of a block; or the
    residual stream that enters `layer`, of which there are L + 1, as the last one enters the final norm.
    at: the position that is changed, or None for all. source: the other pass's position, or None for the same one(s).
    """

    part: Part
    layer: int
    head: int | None = None
    at: int | None = None
    patched: bool = False
    source: int | None = None

    def touches(self, part: Part) -> bool:
        within = {"attention": ("head",), "block": ("head", "mlp")}
        return part in within.get(self.part, (self.part,))


@dataclass(frozen=True)
class Layer:
    """The values inside one block, in the order in which they arise, with the changes that are in force."""

    entering_tc: Tensor  # the residual stream
    normed_tc: Tensor
    q_raw_htd: Tensor
    k_raw_gtd: Tensor
    q_htd: Tensor  # normed and rotated
    k_gtd: Tensor
    v_gtd: Tensor
    scores_htt: Tensor  # q · k / √D, before the mask
    attention_htt: Tensor  # after mask and softmax: each row adds up to 1
    mixed_htd: Tensor  # of the values, by attention
    attended_tc: Tensor  # what attention adds to the stream
    between_tc: Tensor  # the stream with that
    mlp_normed_tc: Tensor
    gate_tm: Tensor
    up_tm: Tensor
    active_tm: Tensor  # silu(gate) · up
    written_tc: Tensor  # what the MLP adds to the stream
    leaving_tc: Tensor  # the stream with that


@dataclass(frozen=True)
class Lens:
    """The most probable next tokens if the stream at some layer were read as the last one is."""

    ids_tk: Tensor
    probabilities_tk: Tensor  # best first
    log_total_t: Tensor  # log of the sum of exp(logit), which turns any token's logit into its probability


class Inside:
    """One forward pass over `ids`. Call `advance` until it returns False; each call reads one block.

    changes: in force during the whole pass. other: the complete pass that patched activations come from.
    Raises ValueError for ids, changes or positions that this model or these passes do not have.
    """

    def __init__(
        self, model: Transformer, ids: Sequence[int], changes: Sequence[Change] = (), other: "Inside | None" = None
    ) -> None:
        self.model, self.config, self.other = model, model.config, other
        self.changes = tuple(changes)
        self.ids = list(ids)
        _check_ids(self.ids, model)
        for change in self.changes:
            self._check(change)
        device = model.model.embed_tokens.weight.device
        with torch.no_grad():
            ids_t = torch.tensor(self.ids, device=device)
            places_t = torch.arange(len(self.ids), device=device)
            cos, sin = self.config.rope(places_t[None])
            self.cos_td, self.sin_td = cos[0, 0], sin[0, 0]
            self.unseen_tt = places_t[None] > places_t[:, None]
            window = self.config.sliding_window or len(self.ids)
            self.unseen_in_window_tt = self.unseen_tt | (places_t[None] <= places_t[:, None] - window)
            embedded_tc = F.embedding(ids_t, model.model.embed_tokens.weight).float()
            self.stream = [self._changed_stream(0, embedded_tc)]  # entering each layer that was read, and the next
            self.between: list[Tensor] = []

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def complete(self) -> bool:
        return len(self.between) == self.config.num_hidden_layers

    @property
    def n_bytes(self) -> int:
        """The memory that the pass keeps."""
        return sum(t.numel() * t.element_size() for t in (*self.stream, *self.between))

    @torch.no_grad()
    def advance(self) -> bool:
        """Read the next block; returns whether there is another one after it."""
        if not self.complete:
            layer = len(self.between)
            found = self._look(layer, self.stream[layer])
            self.between.append(found.between_tc)
            self.stream.append(self._changed_stream(layer + 1, found.leaving_tc))
        return not self.complete

    @torch.no_grad()
    def layer(self, layer: int) -> Layer:
        """All values inside a block that was read, computed again from the stream that enters it."""
        return self._look(layer, self.stream[layer])

    @torch.no_grad()
    def logits(self, layer: int, positions: slice = slice(None)) -> Tensor:
        """Logits (positions, V) of the stream that enters `layer`; L gives those of the model itself."""
        normed_tc = self.model.model.norm(self.stream[layer][positions])
        return F.linear(normed_tc, self.model.lm_head.weight.float())

    @torch.no_grad()
    def lens(self, layer: int, k: int, positions: slice = slice(None)) -> Lens:
        """The logit lens (nostalgebraist, 2020) at the stream that enters `layer`."""
        logits_tv = self.logits(layer, positions)
        log_total_t = logits_tv.logsumexp(dim=-1)
        top = logits_tv.topk(min(k, logits_tv.shape[-1]), dim=-1)
        return Lens(top.indices, (top.values - log_total_t[:, None]).exp(), log_total_t)

    @torch.no_grad()
    def logits_of(self, layer: int, ids: Sequence[int]) -> Tensor:
        """The logits (T, ids) of a few tokens alone. Raises ValueError for ids outside the vocabulary."""
        _check_ids(ids, self.model)
        rows_nc = self.model.lm_head.weight[list(ids)].float()
        return F.linear(self.model.model.norm(self.stream[layer]), rows_nc)

    @torch.no_grad()
    def head_writes(self, layer: int, found: Layer, head: int) -> Tensor:
        """What one head adds to the residual stream, (T, C); all heads', and a bias, add up to `attended_tc`."""
        D = self.config.head_dim
        weight_cd = self._block(layer).self_attn.o_proj.weight[:, head * D : (head + 1) * D]
        return F.linear(found.mixed_htd[head], weight_cd.float())

    def _block(self, layer: int) -> Block:
        block = self.model.model.layers[layer]
        assert isinstance(block, Block)
        return block

    def _look(self, layer: int, x_tc: Tensor) -> Layer:
        """`Block.forward` for a single row, with a name for every value."""
        block, D = self._block(layer), self.config.head_dim
        attention, mlp = block.self_attn, block.mlp
        group = self.config.num_attention_heads // self.config.num_key_value_heads

        def heads(x_tc: Tensor, projection: nn.Linear) -> Tensor:
            return _linear(x_tc, projection).view(len(x_tc), -1, D).transpose(0, 1)

        normed_tc = block.input_layernorm(x_tc)
        q_raw, k_raw, v = (heads(normed_tc, p) for p in (attention.q_proj, attention.k_proj, attention.v_proj))
        q = apply_rope(attention.q_norm(q_raw), self.cos_td, self.sin_td)
        k = apply_rope(attention.k_norm(k_raw), self.cos_td, self.sin_td)
        scores_htt = q @ k.repeat_interleave(group, dim=0).mT * D**-0.5
        unseen_tt = self.unseen_in_window_tt if self.config.window_of(layer) else self.unseen_tt
        attention_htt = scores_htt.masked_fill(unseen_tt, -torch.inf).softmax(dim=-1)
        mixed_htd = attention_htt @ v.repeat_interleave(group, dim=0)
        mixed_htd = self._changed(layer, "head", mixed_htd, lambda other: other.mixed_htd)
        attended_tc = _linear(mixed_htd.transpose(0, 1).flatten(1), attention.o_proj)
        between_tc = x_tc + attended_tc
        mlp_normed_tc = block.post_attention_layernorm(between_tc)
        gate_tm = _linear(mlp_normed_tc, mlp.gate_proj)
        up_tm = _linear(mlp_normed_tc, mlp.up_proj)
        active_tm = F.silu(gate_tm) * up_tm
        written_tc = _linear(active_tm, mlp.down_proj)
        written_tc = self._changed(layer, "mlp", written_tc, lambda other: other.written_tc)
        return Layer(
            x_tc, normed_tc, q_raw, k_raw, q, k, v, scores_htt, attention_htt, mixed_htd, attended_tc, between_tc,
            mlp_normed_tc, gate_tm, up_tm, active_tm, written_tc, between_tc + written_tc,
        )  # fmt: skip

    def _changed(self, layer: int, part: Part, value: Tensor, of: Callable[[Layer], Tensor]) -> Tensor:
        """The value (…, T, ·) with this layer's changes of that part."""
        changes = [change for change in self.changes if change.layer == layer and change.touches(part)]
        if not changes:
            return value
        value = value.clone()
        theirs = of(self.other.layer(layer)) if self.other and any(change.patched for change in changes) else None
        for change in changes:
            pick = slice(None) if change.head is None else slice(change.head, change.head + 1)
            ours, others = (t if t is None or part != "head" else t[pick] for t in (value, theirs))
            assert ours is not None
            _set(ours, others, change)
        return value

    def _changed_stream(self, layer: int, x_tc: Tensor) -> Tensor:
        changes = [change for change in self.changes if change.layer == layer and change.part == "residual"]
        if changes:
            x_tc = x_tc.clone()
            for change in changes:
                _set(x_tc, self.other.stream[layer] if self.other else None, change)
        return x_tc

    def _check(self, change: Change) -> None:
        layers, heads = self.config.num_hidden_layers + (change.part == "residual"), self.config.num_attention_heads
        if not 0 <= change.layer < layers:
            raise ValueError(f"layer {change.layer} of a change: expected 0 to {layers - 1} for {change.part}")
        if (change.head is not None) != (change.part == "head"):
            raise ValueError(
                f"head {change.head} of a change of {change.part}: expected one for part head, and only there"
            )
        if change.head is not None and not 0 <= change.head < heads:
            raise ValueError(f"head {change.head} of a change: expected 0 to {heads - 1}")
        if change.at is not None and not 0 <= change.at < len(self):
            raise ValueError(f"position {change.at} of a change: expected 0 to {len(self) - 1}")
        if not change.patched:
            if change.source is not None:
                raise ValueError("a change to zero has no source position; expected a patched one")
            return
        if self.other is None or not self.other.complete or self.other.model is not self.model:
            raise ValueError("a patched change needs another complete pass of the same model")
        length = len(self.other)
        if change.at is None and (length != len(self) or change.source is not None):
            raise ValueError(
                f"to patch all positions at once, both texts must have as many tokens: this one has {len(self)}, "
                f"the other one {length}; choose one position of each"
            )
        source = change.at if change.source is None else change.source
        if source is not None and not 0 <= source < length:
            raise ValueError(f"position {source} of the other text: expected 0 to {length - 1}")


def look_inside(
    model: Transformer, ids: Sequence[int], changes: Sequence[Change] = (), other: Inside | None = None
) -> Inside:
    """A complete pass, from the arguments of `Inside`."""
    inside = Inside(model, ids, changes, other)
    while inside.advance():
        pass
    return inside


def flop_per_token(model: Transformer) -> int:
    """FLOP of one token in a pass with the lens at every layer: 2 per weight, and 2·C·V for each of L + 1 lenses."""
    c = model.config
    blocks = sum(p.numel() for p in model.model.layers.parameters())
    return 2 * blocks + 2 * (c.num_hidden_layers + 1) * c.hidden_size * c.vocab_size


def _linear(x: Tensor, linear: nn.Linear) -> Tensor:
    return F.linear(x, linear.weight.float(), None if linear.bias is None else linear.bias.float())


def _set(ours: Tensor, theirs: Tensor | None, change: Change) -> None:
    """Overwrite (…, T, ·) at the change's positions."""
    at = slice(None) if change.at is None else change.at
    if not change.patched:
        ours[..., at, :] = 0
        return
    assert theirs is not None
    ours[..., at, :] = theirs[..., at if change.source is None else change.source, :]


def _check_ids(ids: Sequence[int], model: Transformer) -> None:
    vocabulary = model.config.vocab_size
    if not ids:
        raise ValueError("no tokens to look at; expected at least one")
    wrong = next((id for id in ids if not 0 <= id < vocabulary), None)
    if wrong is not None:
        raise ValueError(f"there is no token {wrong}; ids are 0 to {vocabulary - 1}")
