"""The transformer's forward pass over a cache of keys and values: what generation runs.

The same mathematics as `Transformer.features`, arranged for few tokens at a time, where the time goes into starting
operations and into reading weights: q, k and v come from one product, gate and up from another, and on a CPU matrices
are laid out as oneDNN reads them (`_Matrix`). On a GPU a step is a CUDA graph.

A token's numbers do not depend on which others share its batch. On a CPU that holds to the last bit: the kernels used
here sum in an order that changes only for fewer than ROWS rows, or with the number of keys modulo KEYS. So both are
padded; only a cache with a single row, which has no batches, does without.
A prompt that is read in other pieces, or whose beginning was copied, may differ in the last bit.

Shapes: N tokens, B rows of the cache, T tokens a row, S keys, C width, H key-value heads, R queries a key-value head,
D head width, V vocabulary.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from crawl2chat.model.kv_cache import KVCache
from crawl2chat.model.transformer import Block, Transformer, rope_angles

ROWS, KEYS = 4, 16
LARGE = 200_000  # weights of a matrix
GRAPH_KEYS = 64  # the fewest that a CUDA graph is recorded for; then 128, 256, …
Span = tuple[slice, int]  # rows, and how many keys their queries are multiplied with


class _Matrix:
    """A matrix to multiply by, on a CPU as oneDNN lays it out: 1.4 to 3 times as fast as F.linear.

    But oneDNN takes 2 ms to prepare for each number of rows that it has not met, and 15 µs for each call. So F.linear
    is kept for small matrices, with `many` rows, whose number is seldom the same, and for a single row.
    """

    def __init__(self, weight: Tensor, *, alone: bool) -> None:
        weight = weight.detach()
        large = weight.numel() >= LARGE
        packed = _packed(weight) if large or not alone else None
        self.weight = None if packed and large else weight
        self.packed = packed

    def __call__(self, x_nc: Tensor, *, many: bool = False) -> Tensor:
        if self.packed is None or (many and self.weight is not None):
            assert self.weight is not None
            return F.linear(x_nc, self.weight)
        return self.packed(x_nc)


@dataclass(frozen=True)
class _Layer:
    """A block's weights, joined and laid out."""

    input_norm: Tensor
    qkv: _Matrix
    qk_norm_hd: Tensor  # of each query and key head; the queries' with attention's factor 1/√D in it
    o: _Matrix
    mlp_norm: Tensor
    gate_up: _Matrix
    down: _Matrix


class CachedTransformer:
    """Reads tokens into a cache. Holds copies of the model's matrices: `refresh` renews them after training."""

    def __init__(self, model: Transformer, rows: int, max_length: int, *, empties_model: bool = False) -> None:
        """rows: sequences at a time; max_length: tokens of each; empties_model: leave the model without its matrices,
        to save their memory where it is only generated with.
        """
        self.model, self.config, self.max_length = model, model.config, max_length
        self.empties_model = empties_model
        self.alone = rows == 1
        self.n_rows = rows_made(rows) - 1
        self.cache = self._new_cache()
        self.version: tuple[tuple[int, int], ...] = ()
        self.refresh()

    @property
    def device(self) -> torch.device:
        return self.model.model.embed_tokens.weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.model.model.embed_tokens.weight.dtype

    def _new_cache(self) -> KVCache:
        return KVCache(self.config, self.n_rows, self.max_length, dtype=self.dtype, device=self.device)

    @torch.inference_mode()
    def refresh(self) -> bool:
        """Copy the weights anew if they have changed or moved, and forget what was read; returns whether they had."""
        version = self._version()
        if version == self.version:
            return False
        if (self.cache.content.dtype, self.cache.content.device) != (self.dtype, self.device):
            self.cache = self._new_cache()
        self.layers = [self._lay_out(cast(Block, block)) for block in self.model.model.layers]
        self.head = self._matrix(self.model.lm_head.weight)
        if self.empties_model and not self.config.tie_word_embeddings:
            self.model.lm_head.weight.data = self.model.lm_head.weight.data.new_empty(0, 0)
        positions_1t = torch.arange(self.max_length, device=self.device)[None]
        cos, sin = rope_angles(positions_1t, self.config.head_dim, self.config.rope_theta)
        half = self.config.head_dim // 2
        self.cos_s1d = cos[0, 0][:, None]
        # rotating is x · cos + roll(x, half) · sin, if sin has the sign of what comes from the other half
        self.sin_s1d = torch.cat([-sin[0, 0, :, :half], sin[0, 0, :, half:]], dim=-1)[:, None]
        self.keys_s = torch.arange(self.max_length, device=self.device)
        self.zero, self.minus_inf = torch.tensor([[0.0], [-torch.inf]], dtype=self.dtype, device=self.device)
        self.graphs: dict[tuple[int, int], _Graph] = {}
        self.version = self._version()
        return True

    def _version(self) -> tuple[tuple[int, int], ...]:
        """Changes whenever a weight is changed in place or put elsewhere."""
        return tuple((p.data_ptr(), 0 if p.is_inference() else p._version) for p in self.model.parameters())

    def _lay_out(self, block: Block) -> _Layer:
        attention, mlp, c = block.self_attn, block.mlp, self.config
        q_norm_hd = attention.q_norm.weight.expand(c.num_attention_heads, -1) * c.head_dim**-0.5
        k_norm_hd = attention.k_norm.weight.expand(c.num_key_value_heads, -1)
        layer = _Layer(
            block.input_layernorm.weight,
            self._matrix(torch.cat([attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight])),
            torch.cat([q_norm_hd, k_norm_hd]),
            self._matrix(attention.o_proj.weight),
            block.post_attention_layernorm.weight,
            self._matrix(torch.cat([mlp.gate_proj.weight, mlp.up_proj.weight])),
            self._matrix(mlp.down_proj.weight),
        )
        if self.empties_model:
            for parameter in block.parameters():
                if parameter.ndim == 2:
                    parameter.data = parameter.data.new_empty(0, 0)
        return layer

    def _matrix(self, weight: Tensor) -> _Matrix:
        return _Matrix(weight, alone=self.alone)

    @torch.inference_mode()
    def prefill(self, rows: Sequence[int], starts: Sequence[int], ids: Sequence[Sequence[int]]) -> Tensor:
        """Read some tokens of each row, the first at position `starts`; returns the last norm's output (B, T, C).

        T is the greatest number of tokens, rounded up; what stands behind a row's own tokens means nothing.
        """
        B, T = len(rows), _up_to(max(map(len, ids)), ROWS)
        ends = [start + len(row) for start, row in zip(starts, ids, strict=True)]
        n_keys = min(_up_to(max(ends), KEYS), self.max_length)
        ids_bt = torch.tensor([[*row, *[0] * (T - len(row))] for row in ids], device=self.device)
        rows_b, ends_b = (torch.tensor(numbers, device=self.device) for numbers in (rows, ends))
        positions_bt = torch.tensor(starts, device=self.device)[:, None] + self.keys_s.new_tensor(range(T))
        padding_bt = positions_bt >= ends_b[:, None]
        write_rows_bt = rows_b[:, None].expand(B, T).masked_fill(padding_bt, self.cache.spare_row)
        positions_n = positions_bt.clamp(max=self.max_length - 1).flatten()
        mask = self._mask(positions_n.view(B, T), n_keys)

        def attend(layer: int, q_nhd: Tensor) -> Tensor:
            return _attend(q_nhd, *self.cache.gather(layer, rows_b, n_keys), mask, T)

        places = self.cache.places(write_rows_bt.flatten(), positions_n)
        return self._blocks(ids_bt.flatten(), positions_n, places, attend, many=True).view(B, T, -1)

    @torch.inference_mode()
    def decode(self, tokens: Sequence[tuple[int, int] | None]) -> Tensor:
        """Read one token in each of the first B rows, (id, position); returns the logits that follow, (B, V).

        A row with None is left as it is, and its logits mean nothing.
        """
        padded = tokens if self.alone else [*tokens, *[None] * (batch_size(len(tokens)) - len(tokens))]
        read = [(*token, row) if token else (0, 0, self.cache.spare_row) for row, token in enumerate(padded)]
        inputs = torch.tensor(list(zip(*read, strict=True)))
        if self.device.type == "cuda":
            return self._replay(inputs, max(position for _, position, _ in read) + 1)[: len(tokens)]
        spans = attention_spans([min(_up_to(position + 1, KEYS), self.max_length) for _, position, _ in read])
        return self._decode(inputs, spans)[: len(tokens)]

    def _decode(self, inputs: Tensor, spans: Sequence[Span]) -> Tensor:
        """inputs: (3, N) ids, positions, rows to write to. Padding is computed like all else and means nothing."""
        ids_n, positions_n, write_rows_n = inputs
        masks = [self._mask(positions_n[rows, None], n_keys) for rows, n_keys in spans]

        def attend(layer: int, q_nhd: Tensor) -> Tensor:
            y_nc, *longer = (
                _attend(q_nhd[rows], *self.cache.read(layer, rows, n_keys), mask, 1)
                for (rows, n_keys), mask in zip(spans, masks, strict=True)
            )
            for (rows, _), y in zip(spans[1:], longer, strict=True):
                y_nc[rows] = y
            return y_nc

        return self.head(self._blocks(ids_n, positions_n, self.cache.places(write_rows_n, positions_n), attend))

    def _blocks(
        self,
        ids_n: Tensor,
        positions_n: Tensor,
        places: Tensor,
        attend: Callable[[int, Tensor], Tensor],
        *,
        many: bool = False,
    ) -> Tensor:
        """All blocks and the last norm, (N, C). `attend(layer, queries (N, H·R, D))` gives (N, H·R·D)."""
        c, eps = self.config, self.config.rms_norm_eps
        n_q, D = c.num_attention_heads, c.head_dim
        n_qk, N = n_q + c.num_key_value_heads, len(ids_n)
        cos_n1d, sin_n1d = self.cos_s1d[positions_n], self.sin_s1d[positions_n]
        x_nc = F.embedding(ids_n, self.model.model.embed_tokens.weight)
        for i, layer in enumerate(self.layers):
            qkv_nhd = layer.qkv(_rms_norm(x_nc, layer.input_norm, eps), many=many).view(N, -1, D)
            qk_nhd = _rms_norm(qkv_nhd[:, :n_qk], layer.qk_norm_hd, eps)
            qkv_nhd[:, :n_qk] = torch.addcmul(qk_nhd * cos_n1d, qk_nhd.roll(D // 2, dims=-1), sin_n1d)
            self.cache.write(i, places, qkv_nhd[:, n_q:])
            x_nc = x_nc + layer.o(attend(i, qkv_nhd[:, :n_q]), many=many)
            gate, up = layer.gate_up(_rms_norm(x_nc, layer.mlp_norm, eps), many=many).chunk(2, dim=-1)
            x_nc = x_nc + layer.down(F.silu(gate).mul_(up), many=many)
        return _rms_norm(x_nc, self.model.model.norm.weight, eps)

    def _mask(self, positions_bt: Tensor, n_keys: int) -> Tensor:
        """0 for the keys up to a query's own position, −inf for later ones: (B·H, R·T, S), of one token (B·H, 1, S).

        On a GPU, whose kernels repeat it themselves, without H: (B, R·T, S).
        """
        H, T = self.config.num_key_value_heads, positions_bt.shape[1]
        if not positions_bt.is_cuda:
            positions_bt = positions_bt.repeat_interleave(H, dim=0)
        mask_xts = torch.where(self.keys_s[:n_keys] > positions_bt[:, :, None], self.minus_inf, self.zero)
        return mask_xts if T == 1 else mask_xts.repeat(1, self.config.num_attention_heads // H, 1)

    def _replay(self, inputs: Tensor, n_keys: int) -> Tensor:
        """Decode by a CUDA graph: a step's launches, recorded once for each of a few sizes of batch and of keys."""
        size = inputs.shape[1], min(max(GRAPH_KEYS, 1 << (n_keys - 1).bit_length()), self.max_length)
        if size not in self.graphs:
            spans = [(slice(0, size[0]), size[1])]
            self.graphs[size] = _Graph(lambda static: self._decode(static, spans), inputs.to(self.device))
        return self.graphs[size](inputs)


class _Graph:
    """A function of one tensor, recorded as a CUDA graph; its output is overwritten by the next call."""

    def __init__(self, function: Callable[[Tensor], Tensor], inputs: Tensor) -> None:
        self.inputs = inputs
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):  # libraries make their work space before anything is recorded
            function(self.inputs)
        torch.cuda.current_stream().wait_stream(stream)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.output = function(self.inputs)

    def __call__(self, inputs: Tensor) -> Tensor:
        self.inputs.copy_(inputs)
        self.graph.replay()
        return self.output


def attention_spans(keys: Sequence[int]) -> list[Span]:
    """How to attend with rows that need so many keys each: all with a few keys, then the longest ones once more.

    One product for all rows is best while they are about equally long; a much longer one would make all others pay.
    The first span holds every row; each further one is a row to be computed again, over all its keys.
    """
    restart = 256  # keys, whose products take as long as starting a product of its own

    def cost(limit: int) -> int:
        return len(keys) * limit + sum(n + restart for n in keys if n > limit)

    limit = min(sorted(set(keys)), key=cost)
    return [(slice(0, len(keys)), limit), *((slice(i, i + 1), n) for i, n in enumerate(keys) if n > limit)]


def _rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """As the model's RMSNorm; in fewer operations than F.rms_norm takes on a CPU."""
    if x.is_cuda:
        return F.rms_norm(x, x.shape[-1:], None, eps) * weight
    if x.dtype == torch.float32:
        return (x * x).mean(dim=-1, keepdim=True).add_(eps).rsqrt_() * x * weight
    x32 = x.float()
    return (x32 * (x32 * x32).mean(dim=-1, keepdim=True).add_(eps).rsqrt_()).to(x.dtype) * weight


def _attend(q_nhd: Tensor, k_xsd: Tensor, v_xsd: Tensor, mask: Tensor, n_tokens: int) -> Tensor:
    """Attention of T queries a row and head, (B·T, H·R, D), over the keys that the mask lets them see: (B·T, H·R·D).

    Queries come scaled; keys and values are (B·H, S, D).
    """
    (X, _, D), T = k_xsd.shape, n_tokens
    B = len(q_nhd) // T
    H, R = X // B, q_nhd.shape[1] * B // X
    # of one token, queries lie as they are needed
    q_xrd = (q_nhd if T == 1 else q_nhd.view(B, T, H, R, D).permute(0, 2, 3, 1, 4)).reshape(X, R * T, D)
    if q_nhd.is_cuda:  # with four dimensions its fused kernels never hold all scores at once
        q, k, v = (x.view(B, H, *x.shape[1:]) for x in (q_xrd, k_xsd, v_xsd))
        bias = mask[:, None].expand(B, H, R * T, -1)
        y_xrd = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=1.0).flatten(0, 1)
    else:
        shares = torch.baddbmm(mask, q_xrd, k_xsd.mT).softmax(dim=-1, dtype=torch.float32)
        y_xrd = torch.bmm(shares.to(v_xsd.dtype), v_xsd)
    return (y_xrd if T == 1 else y_xrd.view(B, H, R, T, D).permute(0, 3, 1, 2, 4)).reshape(B * T, -1)


def _packed(weight: Tensor) -> Callable[[Tensor], Tensor] | None:
    """The product with a matrix laid out for oneDNN, by the operators that torch.compile uses; None without them."""
    if weight.device.type != "cpu" or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return None
    bf16 = weight.dtype == torch.bfloat16 and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return None
    if not (bf16 or weight.dtype == torch.float32):
        return None
    packed = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), None)
    product = torch.ops.mkldnn._linear_pointwise.default
    return lambda x_nc: product(x_nc, packed, None, "none", [], "")


def rows_made(rows: int) -> int:
    """How many rows the cache of so many sequences has: one of the sizes of batches, and the spare one."""
    return (rows if rows == 1 else batch_size(rows)) + 1


def batch_size(n: int) -> int:
    """The next of 4, 8, 12, 16, 24, 32, 48, …: few sizes, as each has to be prepared for once."""
    power = max(ROWS, 1 << (n - 1).bit_length())
    return power * 3 // 4 if power > 8 and n <= power * 3 // 4 else power


def _up_to(n: int, multiple: int) -> int:
    return -(-n // multiple) * multiple
