"""The transformer's forward pass over a cache of keys and values: what generation runs.

The same mathematics as `Transformer.features`, arranged for few tokens at a time, where the time goes into starting
operations and into reading weights: q, k and v come from one product, gate and up from another, and on a CPU matrices
are laid out as oneDNN reads them (`matrices.py`), or a step is one compiled function (`cpu_kernel.py`), of which what
is here is the reference. On a GPU a step is a CUDA graph: its launches are recorded once for each of a few sizes and
replayed with other numbers in the same places. With `replays` off the same operations run one by one, as on a CPU.

A token's numbers do not depend on which others share its batch. On a CPU that holds to the last bit: the kernels used
here sum in an order that changes only for fewer than ROWS rows, or with the number of keys modulo KEYS. So both are
padded; only a cache with a single row, which has no batches, does without.
A prompt that is read in other pieces, or whose beginning was copied, may differ in the last bit.

Shapes: N tokens, B rows of the cache, T tokens per row, S keys, C width, H key-value heads, R queries per key-value
head, D head width, V vocabulary.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from importlib import import_module
from types import ModuleType
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crawl2chat.model.cuda_graph import CudaGraph
from crawl2chat.model.kv_cache import KVCache
from crawl2chat.model.matrices import Embedding, FloatMatrix, Matrix, WeightForm, make_matrix
from crawl2chat.model.transformer import Block, RMSNorm, Transformer

ROWS, KEYS = 4, 16
GRAPH_KEYS = 64  # the smallest number that a CUDA graph is recorded for; then 128, 256, …
Span = tuple[slice, int]  # rows, and how many keys their queries are multiplied with


@dataclass(frozen=True)
class _Layer:
    """A block's weights, joined and laid out."""

    input_norm: Tensor
    qkv: Matrix
    qk_norm_hd: Tensor | None  # of each query and key head; the queries' with attention's factor 1/√D in it
    o: Matrix
    mlp_norm: Tensor
    gate_up: Matrix
    down: Matrix


class CachedTransformer:
    """Reads tokens into a cache. Holds copies of the model's matrices: `refresh` renews them after training."""

    def __init__(
        self,
        model: Transformer,
        rows: int,
        max_length: int,
        *,
        empties_model: bool = False,
        weights: WeightForm | None = None,
        compiled: bool = False,
    ) -> None:
        """rows: sequences at a time; max_length: tokens of each; empties_model: leave the model without its matrices,
        to save their memory where it is only generated with.
        weights: in what form matrices are kept, on a CPU; all else is float32 then. None: all as in the model.
        compiled: on a CPU, decode by numba (`cpu_kernel`), if that is installed, where numbers other than weights are
        float32; it takes another copy of the weights. The last bits of results are others then.
        """
        self.model, self.config, self.max_length = model, model.config, max_length
        self.weights = weights
        self.empties_model = empties_model
        self.alone, self.compiled = rows == 1, compiled
        self.n_rows = rows_made(rows) - 1
        self.replays = True  # on a GPU
        self.graphs: dict[tuple[int, int], CudaGraph] = {}
        self.cache = self._new_cache()
        self.version: tuple[tuple[int, int], ...] = ()
        self.refresh()

    @property
    def device(self) -> torch.device:
        return self.model.model.embed_tokens.weight.device

    @property
    def dtype(self) -> torch.dtype:
        return torch.float32 if self.weights else self.model.model.embed_tokens.weight.dtype

    def _new_cache(self) -> KVCache:
        return KVCache(self.config, self.n_rows, self.max_length, dtype=self.dtype, device=self.device)

    @torch.inference_mode()
    def refresh(self) -> bool:
        """Copy the weights again if they have changed or moved, and forget what was read; returns whether they had."""
        version = self._version()
        if version == self.version:
            return False
        if self.graphs and [place for place, _ in version] == [place for place, _ in self.version]:
            self._copy_again()
        else:
            self._copy_weights()
        self.version = self._version()
        return True

    def _copy_weights(self) -> None:
        if (self.cache.content.dtype, self.cache.content.device) != (self.dtype, self.device):
            self.cache = self._new_cache()
        blocks = [cast(Block, block) for block in self.model.model.layers]
        make = partial(make_matrix, alone=self.alone)
        self.layers = [self._lay_out(block, make) for block in blocks]
        self.last_norm = self.model.model.norm.weight.to(self.dtype)
        self.head = self._matrix(make, self.model.lm_head)
        self.step: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None
        self.keys_s = torch.arange(self.max_length, device=self.device)
        self.rope_s1d = self._rope(self.keys_s[:, None], self.keys_s + 1)  # of a token that is the last one so far
        c = self.config
        narrowest = min(c.hidden_size, c.intermediate_size, c.num_key_value_heads * c.head_dim, c.vocab_size)
        on_cpu = self.device.type == "cpu" and self.dtype == torch.float32
        if self.compiled and on_cpu and narrowest >= 8 and (kernel := _kernel()):  # it computes eight outputs at a time
            layers = [self._lay_out(block, kernel.KernelMatrix) for block in blocks]
            head = self._matrix(kernel.KernelMatrix, self.model.lm_head)
            self.step = kernel.Step(self.config, layers, self.last_norm, head, self.cache, self.rope_s1d)
        if self.empties_model:
            for parameter in (parameter for block in blocks for parameter in block.parameters()):
                if parameter.ndim == 2:
                    parameter.data = parameter.data.new_empty(0, 0)
        self.embedding = Embedding(self.model.model.embed_tokens.weight, self.weights)
        if self.empties_model and not (self.weights is None and self.config.tie_word_embeddings):
            self.model.lm_head.weight.data = self.model.lm_head.weight.data.new_empty(0, 0)
        if self.empties_model and self.weights:
            self.model.model.embed_tokens.weight.data = self.model.model.embed_tokens.weight.data.new_empty(0, 0)
        self.zero, self.minus_inf = torch.tensor([[0.0], [-torch.inf]], dtype=self.dtype, device=self.device)
        self.graphs = {}
        self.pool = torch.cuda.graph_pool_handle() if self.device.type == "cuda" else None

    def _copy_again(self) -> None:
        """Write weights that have changed in place over what was made of them, where the graphs read it."""
        for layer, block in zip(self.layers, self.model.model.layers, strict=True):
            for old, new in zip(
                _tensors(layer),
                _tensors(self._lay_out(cast(Block, block), partial(make_matrix, alone=self.alone))),
                strict=True,
            ):
                if old.data_ptr() != new.data_ptr():  # else it is the model's own, as embedding, last norm and head are
                    old.copy_(new)

    def _version(self) -> tuple[tuple[int, int], ...]:
        """Changes whenever a weight is changed in place or put elsewhere."""
        return tuple((p.data_ptr(), 0 if p.is_inference() else p._version) for p in self.model.parameters())

    def _lay_out(self, block: Block, make: Callable[..., Matrix]) -> _Layer:
        attention, mlp, c = block.self_attn, block.mlp, self.config
        qk_norm_hd = None
        scale = c.head_dim**-0.5  # attention's; in the queries' norms, or where there are none in their weights
        if c.qk_norm:
            q_norm_d, k_norm_d = (cast(RMSNorm, norm).weight for norm in (attention.q_norm, attention.k_norm))
            q_norm_hd = q_norm_d.expand(c.num_attention_heads, -1) * scale
            qk_norm_hd = torch.cat([q_norm_hd, k_norm_d.expand(c.num_key_value_heads, -1)])
        layer = _Layer(
            block.input_layernorm.weight.to(self.dtype),
            self._matrix(make, attention.q_proj, attention.k_proj, attention.v_proj, scale=1.0 if c.qk_norm else scale),
            None if qk_norm_hd is None else qk_norm_hd.to(self.dtype),
            self._matrix(make, attention.o_proj),
            block.post_attention_layernorm.weight.to(self.dtype),
            self._matrix(make, mlp.gate_proj, mlp.up_proj),
            self._matrix(make, mlp.down_proj),
        )
        return layer

    def _matrix(self, make: Callable[..., Matrix], *linears: nn.Linear, scale: float = 1.0) -> Matrix:
        """The linear layers as one product with their joined weights, of which the first's are multiplied by scale."""
        weights: list[Tensor] = [linear.weight.float() if self.weights else linear.weight for linear in linears]
        biases: list[Tensor] = [linear.bias for linear in linears if linear.bias is not None]
        if scale != 1.0:
            weights[0] = weights[0] * scale
            biases = [biases[0] * scale, *biases[1:]] if biases else []
        weight, bias = weights[0], biases[0] if biases else None
        if len(linears) > 1:
            weight, bias = torch.cat(weights), torch.cat(biases) if biases else None
        return make(weight, bias, self.weights)

    def _rope(self, positions_bt: Tensor, lengths_b: Tensor) -> tuple[Tensor, Tensor]:
        """Cosine and sine (B·T, 1, D) so that rotating is x · cos + roll(x, D/2) · sin.

        For that, sines have the sign of what comes from the other half. lengths_b: as in `rope_angles`.
        """
        cos, sin = self.config.rope(positions_bt, lengths_b)
        half = self.config.head_dim // 2
        sin = torch.cat([-sin[..., :half], sin[..., half:]], dim=-1)
        return cos.flatten(0, 2)[:, None], sin.flatten(0, 2)[:, None]

    @torch.inference_mode()
    def prefill(self, rows: Sequence[int], starts: Sequence[int], ids: Sequence[Sequence[int]]) -> Tensor:
        """Read some tokens of each row, the first at position `starts`; returns the last norm's output (B, T, C).

        T is the greatest number of tokens, rounded up; what comes after a row's own tokens means nothing.
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
        masks = self._masks(positions_n.view(B, T), n_keys)
        rope = self._rope_of(positions_n)
        if self.config.rope_scaling and self.config.rope_scaling.kind == "dynamic":
            rope = self._rope(positions_n.view(B, T), ends_b)

        def attend(layer: int, q_nhd: Tensor) -> Tensor:
            return _attend(q_nhd, *self.cache.gather(layer, rows_b, n_keys), masks[layer], T)

        places = self.cache.places(write_rows_bt.flatten(), positions_n)
        return self._blocks(ids_bt.flatten(), rope, places, attend, many=True).view(B, T, -1)

    @torch.inference_mode()
    def decode(self, tokens: Sequence[tuple[int, int] | None]) -> Tensor:
        """Read one token in each of the first B rows, (id, position); returns the logits that follow, (B, V).

        A row with None is left as it is, and its logits mean nothing.
        """
        if self.step:
            read = [(*token, row) if token else (0, 0, self.cache.spare_row) for row, token in enumerate(tokens)]
            ids_n, positions_n, rows_n = torch.tensor(list(zip(*read, strict=True)))
            return self.step(self.embedding(ids_n), positions_n, rows_n)
        padded = tokens if self.alone else [*tokens, *[None] * (batch_size(len(tokens)) - len(tokens))]
        read = [(*token, row) if token else (0, 0, self.cache.spare_row) for row, token in enumerate(padded)]
        inputs = torch.tensor(list(zip(*read, strict=True)))
        if self.replays and self.device.type == "cuda":
            return self._replay(inputs, max(position for _, position, _ in read) + 1)[: len(tokens)]
        spans = attention_spans([min(_up_to(position + 1, KEYS), self.max_length) for _, position, _ in read])
        return self._decode(inputs.to(self.device), spans)[: len(tokens)]

    def _decode(self, inputs: Tensor, spans: Sequence[Span]) -> Tensor:
        """inputs: (3, N) ids, positions, rows to write to. Padding is computed like all else and means nothing."""
        ids_n, positions_n, write_rows_n = inputs
        masks = [self._masks(positions_n[rows, None], n_keys) for rows, n_keys in spans]

        def attend(layer: int, q_nhd: Tensor) -> Tensor:
            y_nc, *longer = (
                _attend(q_nhd[rows], *self.cache.read(layer, rows, n_keys), mask[layer], 1)
                for (rows, n_keys), mask in zip(spans, masks, strict=True)
            )
            for (rows, _), y in zip(spans[1:], longer, strict=True):
                y_nc[rows] = y
            return y_nc

        places = self.cache.places(write_rows_n, positions_n)
        return self.head(self._blocks(ids_n, self._rope_of(positions_n), places, attend))

    def _blocks(
        self,
        ids_n: Tensor,
        rope_n1d: tuple[Tensor, Tensor],
        places: Tensor,
        attend: Callable[[int, Tensor], Tensor],
        *,
        many: bool = False,
    ) -> Tensor:
        """All blocks and the last norm, (N, C). `attend(layer, queries (N, H·R, D))` gives (N, H·R·D)."""
        c, eps = self.config, self.config.rms_norm_eps
        n_q, D = c.num_attention_heads, c.head_dim
        n_qk, N = n_q + c.num_key_value_heads, len(ids_n)
        cos_n1d, sin_n1d = rope_n1d
        x_nc = self.embedding(ids_n)
        for i, layer in enumerate(self.layers):
            qkv_nhd = layer.qkv(_rms_norm(x_nc, layer.input_norm, eps), many=many).view(N, -1, D)
            qk_nhd = qkv_nhd[:, :n_qk]
            if layer.qk_norm_hd is not None:
                qk_nhd = _rms_norm(qk_nhd, layer.qk_norm_hd, eps)
            qkv_nhd[:, :n_qk] = torch.addcmul(qk_nhd * cos_n1d, qk_nhd.roll(D // 2, dims=-1), sin_n1d)
            self.cache.write(i, places, qkv_nhd[:, n_q:])
            x_nc = x_nc + layer.o(attend(i, qkv_nhd[:, :n_q]), many=many)
            gate, up = layer.gate_up(_rms_norm(x_nc, layer.mlp_norm, eps), many=many).chunk(2, dim=-1)
            x_nc = x_nc + layer.down(F.silu(gate).mul_(up), many=many)
        return _rms_norm(x_nc, self.last_norm, eps)

    def _rope_of(self, positions_n: Tensor) -> tuple[Tensor, Tensor]:
        cos_s1d, sin_s1d = self.rope_s1d
        return cos_s1d[positions_n], sin_s1d[positions_n]

    def _masks(self, positions_bt: Tensor, n_keys: int) -> list[Tensor]:
        """`_mask` for each layer; those of a kind share it."""
        c = self.config
        whole = self._mask(positions_bt, n_keys, None)
        near = whole
        if c.sliding_window and n_keys > c.sliding_window:
            near = self._mask(positions_bt, n_keys, c.sliding_window)
        return [near if c.window_of(layer) else whole for layer in range(c.num_hidden_layers)]

    def _mask(self, positions_bt: Tensor, n_keys: int, window: int | None) -> Tensor:
        """0 for the keys up to a query's own position, −inf for later ones: (B·H, R·T, S), of one token (B·H, 1, S).

        window: −inf also for keys that many positions before the query, and earlier.
        On a GPU, whose kernels repeat it themselves, without H: (B, R·T, S).
        """
        H, T = self.config.num_key_value_heads, positions_bt.shape[1]
        if not _on_gpu(positions_bt):
            positions_bt = positions_bt.repeat_interleave(H, dim=0)
        unseen_xts = self.keys_s[:n_keys] > positions_bt[:, :, None]
        if window:
            unseen_xts |= self.keys_s[:n_keys] <= positions_bt[:, :, None] - window
        mask_xts = torch.where(unseen_xts, self.minus_inf, self.zero)
        return mask_xts if T == 1 else mask_xts.repeat(1, self.config.num_attention_heads // H, 1)

    def _replay(self, inputs: Tensor, n_keys: int) -> Tensor:
        """Decode by a CUDA graph: a step's launches, recorded once for each of a few sizes of batch and of keys."""
        size = inputs.shape[1], min(max(GRAPH_KEYS, 1 << (n_keys - 1).bit_length()), self.max_length)
        if size not in self.graphs:
            spans = [(slice(0, size[0]), size[1])]
            step = partial(self._decode, spans=spans)
            self.graphs[size] = CudaGraph(step, inputs.to(self.device), self.pool)
        return self.graphs[size](inputs)


@cache
def _kernel() -> ModuleType | None:
    """`cpu_kernel`, if numba is installed, for this numpy, and finds a folder to keep what it compiled."""
    try:
        return import_module("crawl2chat.model.cpu_kernel")
    except (ImportError, RuntimeError):
        return None


def _tensors(part: object) -> Iterator[Tensor]:
    """The tensors of a layer and its matrices, in a fixed order."""
    if isinstance(part, Tensor):
        yield part
    elif isinstance(part, _Layer | FloatMatrix):
        for value in vars(part).values():
            yield from _tensors(value)


def attention_spans(keys: Sequence[int]) -> list[Span]:
    """How to attend with rows that need this many keys each: all with a few keys, then the longest ones once more.

    One product for all rows is best while they are about equally long; a much longer one would make all others pay.
    The first span holds every row; each further one is a row to be computed again, over all its keys.
    """
    restart = 256  # keys, whose products take as long as starting a product of its own

    def cost(limit: int) -> int:
        return len(keys) * limit + sum(n + restart for n in keys if n > limit)

    limit = min(sorted(set(keys)), key=cost)
    return [(slice(0, len(keys)), limit), *((slice(i, i + 1), n) for i, n in enumerate(keys) if n > limit)]


def _on_gpu(x: Tensor) -> bool:
    """Whether to take the fused kernels of a GPU; a function, so that tests can have their results on a CPU."""
    return x.is_cuda


def _rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """As the model's RMSNorm; in fewer operations than F.rms_norm takes on a CPU."""
    if _on_gpu(x):
        return F.rms_norm(x, x.shape[-1:], None, eps) * weight
    if x.dtype == torch.float32:
        return (x * x).mean(dim=-1, keepdim=True).add_(eps).rsqrt_() * x * weight
    x32 = x.float()
    return (x32 * (x32 * x32).mean(dim=-1, keepdim=True).add_(eps).rsqrt_()).to(x.dtype) * weight


def _attend(q_nhd: Tensor, k_xsd: Tensor, v_xsd: Tensor, mask: Tensor, n_tokens: int) -> Tensor:
    """Attention of T queries per row and head, (B·T, H·R, D), over the keys that the mask lets them see: (B·T, H·R·D).

    Queries come scaled; keys and values are (B·H, S, D).
    """
    (X, _, D), T = k_xsd.shape, n_tokens
    B = len(q_nhd) // T
    H, R = X // B, q_nhd.shape[1] * B // X
    # of one token, queries lie as they are needed
    q_xrd = (q_nhd if T == 1 else q_nhd.view(B, T, H, R, D).permute(0, 2, 3, 1, 4)).reshape(X, R * T, D)
    if _on_gpu(q_nhd):  # with four dimensions its fused kernels never hold all scores at once
        q, k, v = (x.view(B, H, *x.shape[1:]) for x in (q_xrd, k_xsd, v_xsd))
        bias = mask[:, None].expand(B, H, R * T, -1)
        y_xrd = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=1.0).flatten(0, 1)
    else:
        shares = torch.baddbmm(mask, q_xrd, k_xsd.mT).softmax(dim=-1, dtype=torch.float32)
        y_xrd = torch.bmm(shares.to(v_xsd.dtype), v_xsd)
    return (y_xrd if T == 1 else y_xrd.view(B, H, R, T, D).permute(0, 3, 1, 2, 4)).reshape(B * T, -1)


def rows_made(rows: int) -> int:
    """How many rows the cache of this many sequences has: one of the sizes of batches, and the spare one."""
    return (rows if rows == 1 else batch_size(rows)) + 1


def batch_size(n: int) -> int:
    """The next of 4, 8, 12, 16, 24, 32, 48, …: few sizes, as each has to be prepared for once."""
    power = max(ROWS, 1 << (n - 1).bit_length())
    return power * 3 // 4 if power > 8 and n <= power * 3 // 4 else power


def _up_to(n: int, multiple: int) -> int:
    return -(-n // multiple) * multiple
