"""A whole decode step on a CPU in one call of code that numba compiles, where torch starts an operation for each part.

A step of a model of 1.4 M parameters is 200 operations of torch, of 4 to 6 µs each, a tenth of which is arithmetic.
Here it is a loop over layers. Products read each weight once, in float32, bfloat16 or int8, and sum in float32.

A row's numbers do not depend, to the last bit, on which rows it is computed with. Rows are multiplied in fours with two
outputs at a time, a single row with eight: either way there are eight sums, which a compiler should vectorise alike.
Where it does not (`_alone_as_in_fours`), a single row is made four.

Threads share rows, eight or more, not products: each takes its rows through the whole step, and none waits for another
in between, which on a machine with other work to do would take far longer than the work.

numba keeps what it compiled on disk; the first time takes some 10 s. Only this module imports it.

Shapes: N rows, C width, M outputs, F width of the MLP, H key-value heads, R queries per key-value head, D head width,
S positions, L layers, X rows of the cache, V vocabulary.
"""

import math
import os
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
import torch
from numba import njit, types
from numba.extending import overload
from numpy.typing import NDArray
from torch import Tensor

from crawl2chat.model.kv_cache import KVCache
from crawl2chat.model.matrices import WeightForm, quantised
from crawl2chat.model.transformer import ModelConfig

Floats = NDArray[np.float32]
# sums may be reordered and products fused, but NaN and infinity keep their meaning
COMPILED: dict[str, Any] = {
    "fastmath": {"reassoc", "contract", "nsz"}, "error_model": "numpy", "nogil": True, "cache": True,
}  # fmt: skip
BLOCK = 16  # outputs
LEAST_ROWS = 4  # of a thread
PARALLEL = 10_000_000  # products of two numbers from which a second thread pays
ONE, ZERO = np.float32(1), np.float32(0)
LOG2_E, LN_2, HALF = np.float32(1 / math.log(2)), np.float32(math.log(2)), np.float32(0.5)
TAYLOR = tuple(np.float32(1 / math.factorial(i)) for i in range(7))


class KernelMatrix:
    """A matrix (M, C) in a form, with its scales and its bias, which are empty where there are none."""

    def __init__(self, weight: Tensor, bias: Tensor | None, form: WeightForm | None) -> None:
        weight = weight.detach()
        scale_m = torch.empty(0)
        if form == "int8":
            weight, scale_m = quantised(weight)
        elif form == "bfloat16":
            weight = weight.bfloat16().view(torch.int16)
        else:
            weight = weight.float()
        kept = weight.contiguous().numpy()
        self.weight_mc: NDArray[Any] = kept.view(np.uint16) if form == "bfloat16" else kept
        self.scale_m: Floats = scale_m.numpy()
        self.bias_m: Floats = torch.empty(0).numpy() if bias is None else bias.detach().float().numpy()


class Step:
    """A decode step of a model whose matrices are KernelMatrices."""

    def __init__(
        self, config: ModelConfig, layers: Sequence[Any], last_norm: Tensor, head: KernelMatrix, cache: KVCache,
        rope_s1d: tuple[Tensor, Tensor],
    ) -> None:  # fmt: skip
        """layers: as `cached.CachedTransformer` lays them out, with KernelMatrices."""
        stacks = [_stacked([getattr(layer, name) for layer in layers]) for name in ("qkv", "o", "gate_up", "down")]
        unnormed_hd = torch.empty(config.num_attention_heads + config.num_key_value_heads, 0)
        norms = (
            [layer.input_norm for layer in layers],
            [unnormed_hd if layer.qk_norm_hd is None else layer.qk_norm_hd for layer in layers],
            [layer.mlp_norm for layer in layers],
        )
        self.head = head
        self.arguments = (
            *(array for stack in stacks for array in stack), *(torch.stack(norm).numpy() for norm in norms),
            last_norm.detach().numpy(), head.weight_mc, head.scale_m, head.bias_m, cache.content.numpy(),
            *(table_s1d[:, 0].contiguous().numpy() for table_s1d in rope_s1d),
            np.array([config.window_of(layer) or 0 for layer in range(len(layers))]), np.float32(config.rms_norm_eps),
        )  # fmt: skip
        self.n_weights = head.weight_mc.size + sum(weight_lmc.size for weight_lmc, _, _ in stacks)

    def __call__(self, x_nc: Tensor, positions_n: Tensor, rows_n: Tensor) -> Tensor:
        """Logits (N, V) of tokens whose embeddings are given; each is added to its row of the cache."""
        x = _padded(x_nc.numpy(), self.head.weight_mc.dtype.name)
        logits_nv = np.empty((len(x), len(self.head.weight_mc)), np.float32)
        positions, cache_rows = positions_n.numpy(), rows_n.numpy()
        _share_rows(
            len(x), self.n_weights,
            lambda rows: _decode(x[rows], positions[rows], cache_rows[rows], *self.arguments, logits_nv[rows]),
        )  # fmt: skip
        return torch.from_numpy(logits_nv[: len(x_nc)])


def _stacked(matrices: Sequence[KernelMatrix]) -> list[NDArray[Any]]:
    """The weights, scales and biases of a kind of matrix in all layers, each as one array with the layer first."""
    return [np.stack([getattr(matrix, name) for matrix in matrices]) for name in ("weight_mc", "scale_m", "bias_m")]


def _share_rows(n: int, products: int, work: Callable[[slice], None]) -> None:
    """Split n rows among as many threads as torch has, if there are enough products per row to make up for it."""
    threads = min(torch.get_num_threads(), n // LEAST_ROWS) if n * products >= PARALLEL else 1
    each = -(-n // max(1, threads) // LEAST_ROWS) * LEAST_ROWS
    # the last part has four rows or more
    begins = [begin for begin in range(0, n, each) if begin == 0 or n - begin >= LEAST_ROWS]
    mine, *others = (slice(begin, end) for begin, end in zip(begins, [*begins[1:], n], strict=True))
    if not _decode.signatures:  # nothing was compiled or loaded yet
        notice = threading.Timer(3, _say_that_it_compiles)
        notice.daemon = True
        notice.start()
        try:
            return work(slice(0, n))
        finally:
            notice.cancel()
    done = [_workers().submit(work, part) for part in others]
    work(mine)
    for part in done:
        part.result()


@cache
def _workers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max(1, (os.cpu_count() or 2) - 1), "decode")


@cache
def _say_that_it_compiles() -> None:
    print("compiling the steps of generation, once on this machine", file=sys.stderr)


def _padded(x_nc: Floats, kind: str) -> Floats:
    """Two or three rows are made four, and a single one where it must be; four and more are multiplied as they are."""
    N, C = x_nc.shape
    if N > 3 or (N == 1 and _alone_as_in_fours(kind)):
        return x_nc
    return np.concatenate([x_nc, np.zeros((4 - N, C), np.float32)])


@cache
def _alone_as_in_fours(kind: str) -> bool:
    """Whether this CPU's code gives a row alone the last bit that it has among others; kind: of the weights."""
    rng = np.random.default_rng(0)
    x_nc, w_mc = rng.standard_normal((4, 1007), np.float32), (100 * rng.standard_normal((24, 1007))).astype(kind)
    none, alone, in_fours = np.empty(0, np.float32), np.empty((1, 24), np.float32), np.empty((4, 24), np.float32)
    _product(w_mc, none, none, x_nc[:1], alone)
    _product(w_mc, none, none, x_nc, in_fours)
    return np.array_equal(alone, in_fours[:1], equal_nan=True)


def _wide(weight: Any) -> Any:
    """A stored weight as float32; compiled code has `_widen` in its place, which knows bfloat16."""
    return np.float32(weight)


@overload(_wide, inline="always")
def _widen(weight):  # type: ignore[no-untyped-def]
    if weight == types.uint16:  # bfloat16, the upper half of float32's bits
        return lambda weight: np.uint32(np.uint32(weight) << 16).view(np.float32)
    return lambda weight: np.float32(weight)


@njit(**COMPILED)
def _exp(x):  # type: ignore[no-untyped-def]
    """e^x to 2 parts in 10⁷, as a power of two and a Taylor polynomial: unlike the library's, it vectorises."""
    x = max(x, np.float32(-87))
    whole = np.float32(math.floor(x * LOG2_E + HALF))
    r = x - whole * LN_2
    p = TAYLOR[6]
    p = p * r + TAYLOR[5]
    p = p * r + TAYLOR[4]
    p = p * r + TAYLOR[3]
    p = p * r + TAYLOR[2]
    p = p * r + TAYLOR[1]
    p = p * r + TAYLOR[0]
    return p * np.int32(np.int32(np.int32(whole) + 127) << 23).view(np.float32)


@njit(**COMPILED)
def _product(w_mc, scale_m, bias_m, x_nc, y_nm):  # type: ignore[no-untyped-def]
    """y = x · Wᵀ · scale + bias. Where their numbers don't come out even, the last outputs and rows are made twice."""
    N, C = x_nc.shape
    M = len(w_mc)
    if N == 1:
        for block in range((M + 7) // 8):
            m = min(8 * block, M - 8)
            a0 = a1 = a2 = a3 = a4 = a5 = a6 = a7 = ZERO
            for c in range(C):
                x = x_nc[0, c]
                a0 += x * _wide(w_mc[m, c])
                a1 += x * _wide(w_mc[m + 1, c])
                a2 += x * _wide(w_mc[m + 2, c])
                a3 += x * _wide(w_mc[m + 3, c])
                a4 += x * _wide(w_mc[m + 4, c])
                a5 += x * _wide(w_mc[m + 5, c])
                a6 += x * _wide(w_mc[m + 6, c])
                a7 += x * _wide(w_mc[m + 7, c])
            for i, a in enumerate((a0, a1, a2, a3, a4, a5, a6, a7)):
                _put(y_nm, 0, m + i, a, scale_m, bias_m)
        return
    for block in range((M + BLOCK - 1) // BLOCK):  # its weights stay in a core's cache while all rows pass by
        for four in range(0, N, 4):
            n = min(four, N - 4)
            for two in range(BLOCK * block, min(BLOCK * (block + 1), M), 2):
                m = min(two, M - 2)
                a0 = a1 = a2 = a3 = b0 = b1 = b2 = b3 = ZERO
                for c in range(C):
                    w, v = _wide(w_mc[m, c]), _wide(w_mc[m + 1, c])
                    a0 += x_nc[n, c] * w
                    b0 += x_nc[n, c] * v
                    a1 += x_nc[n + 1, c] * w
                    b1 += x_nc[n + 1, c] * v
                    a2 += x_nc[n + 2, c] * w
                    b2 += x_nc[n + 2, c] * v
                    a3 += x_nc[n + 3, c] * w
                    b3 += x_nc[n + 3, c] * v
                for i, (a, b) in enumerate(((a0, b0), (a1, b1), (a2, b2), (a3, b3))):
                    _put(y_nm, n + i, m, a, scale_m, bias_m)
                    _put(y_nm, n + i, m + 1, b, scale_m, bias_m)


@njit(inline="always", **COMPILED)
def _put(y_nm, n, m, value, scale_m, bias_m):  # type: ignore[no-untyped-def]
    if len(scale_m):
        value *= scale_m[m]
    if len(bias_m):
        value += bias_m[m]
    y_nm[n, m] = value


@njit(**COMPILED)
def _norm(x_c, weight_c, eps, y_c):  # type: ignore[no-untyped-def]
    """RMSNorm of a vector."""
    squares = ZERO
    for c in range(len(x_c)):
        squares += x_c[c] * x_c[c]
    factor = ONE / np.float32(math.sqrt(squares / np.float32(len(x_c)) + eps))
    for c in range(len(x_c)):
        y_c[c] = x_c[c] * factor * weight_c[c]


@njit(**COMPILED)
def _rotate(x_d, norm_d, eps, cos_d, sin_d, y_d):  # type: ignore[no-untyped-def]
    """A head's query or key, normed where the model has that, turned by its position."""
    half = len(x_d) // 2
    if len(norm_d):
        _norm(x_d, norm_d, eps, x_d)
    for d in range(half):
        y_d[d] = x_d[d] * cos_d[d] + x_d[d + half] * sin_d[d]
        y_d[d + half] = x_d[d + half] * cos_d[d + half] + x_d[d] * sin_d[d + half]


@njit(**COMPILED)
def _see(q_d, keys_sd, values_sd, y_d):  # type: ignore[no-untyped-def]
    """Softmax attention of one query."""
    S, D = keys_sd.shape
    shares_s = np.empty(S, np.float32)
    for s in range(S):
        score = ZERO
        for d in range(D):
            score += q_d[d] * keys_sd[s, d]
        shares_s[s] = score
    greatest, total = shares_s.max(), ZERO
    for s in range(S):
        shares_s[s] = _exp(shares_s[s] - greatest)
        total += shares_s[s]
    y_d[:] = ZERO
    for s in range(S):
        share = shares_s[s] / total
        for d in range(D):
            y_d[d] += share * values_sd[s, d]


@njit(**COMPILED)
def _attend(qkv_nm, qk_norm_hd, eps, rows_n, positions_n, cache, cos_sd, sin_sd, window, y_nc):  # type: ignore[no-untyped-def]
    """Add each token's keys and values to the cache, (2, X, H, S, D), and let its queries see those up to its own."""
    H, D = cache.shape[2], cache.shape[4]
    R = y_nc.shape[1] // (H * D)
    for task in range(len(rows_n) * H):
        n, h = task // H, task % H
        last = positions_n[n]
        first = max(0, last + 1 - window) if window else 0
        keys_sd, values_sd = cache[0, rows_n[n], h], cache[1, rows_n[n], h]
        cos_d, sin_d = cos_sd[last], sin_sd[last]
        head = R * H + h
        _rotate(qkv_nm[n, head * D : (head + 1) * D], qk_norm_hd[head], eps, cos_d, sin_d, keys_sd[last])
        head += H
        values_sd[last] = qkv_nm[n, head * D : (head + 1) * D]
        q_d = np.empty(D, np.float32)
        for head in range(h * R, (h + 1) * R):
            _rotate(qkv_nm[n, head * D : (head + 1) * D], qk_norm_hd[head], eps, cos_d, sin_d, q_d)
            _see(q_d, keys_sd[first : last + 1], values_sd[first : last + 1], y_nc[n, head * D : (head + 1) * D])


@njit(**COMPILED)
def _gated(gate_up_nm, y_nf):  # type: ignore[no-untyped-def]
    """silu(gate) · up."""
    F = y_nf.shape[1]
    for n in range(len(y_nf)):
        for f in range(F):
            gate = gate_up_nm[n, f]
            y_nf[n, f] = gate / (ONE + _exp(-gate)) * gate_up_nm[n, F + f]


@njit(**COMPILED)
def _decode(  # type: ignore[no-untyped-def]
    x_nc, positions_n, rows_n,
    qkv_lmc, qkv_scale_lm, qkv_bias_lm, o_lcm, o_scale_lc, o_bias_lc,
    gate_up_lmc, gate_up_scale_lm, gate_up_bias_lm, down_lcf, down_scale_lc, down_bias_lc,
    attention_norm_lc, qk_norm_lhd, mlp_norm_lc, last_norm_c, head_vc, head_scale_v, head_bias_v,
    cache, cos_sd, sin_sd, windows_l, eps, logits_nv,
):  # fmt: skip
    N, C = x_nc.shape
    x_nc, normed_nc, added_nc = x_nc.copy(), np.empty_like(x_nc), np.empty_like(x_nc)
    qkv_nm = np.empty((N, qkv_lmc.shape[1]), np.float32)
    heads_nm = np.zeros((N, o_lcm.shape[2]), np.float32)
    gate_up_nm = np.empty((N, gate_up_lmc.shape[1]), np.float32)
    gated_nf = np.empty((N, down_lcf.shape[2]), np.float32)
    for layer in range(len(qkv_lmc)):
        for n in range(N):
            _norm(x_nc[n], attention_norm_lc[layer], eps, normed_nc[n])
        _product(qkv_lmc[layer], qkv_scale_lm[layer], qkv_bias_lm[layer], normed_nc, qkv_nm)
        _attend(
            qkv_nm, qk_norm_lhd[layer], eps, rows_n, positions_n, cache[layer], cos_sd, sin_sd, windows_l[layer],
            heads_nm,
        )  # fmt: skip
        _product(o_lcm[layer], o_scale_lc[layer], o_bias_lc[layer], heads_nm, added_nc)
        for n in range(N):
            for c in range(C):
                x_nc[n, c] += added_nc[n, c]
            _norm(x_nc[n], mlp_norm_lc[layer], eps, normed_nc[n])
        _product(gate_up_lmc[layer], gate_up_scale_lm[layer], gate_up_bias_lm[layer], normed_nc, gate_up_nm)
        _gated(gate_up_nm, gated_nf)
        _product(down_lcf[layer], down_scale_lc[layer], down_bias_lc[layer], gated_nf, added_nc)
        for n in range(N):
            for c in range(C):
                x_nc[n, c] += added_nc[n, c]
    for n in range(N):
        _norm(x_nc[n], last_norm_c, eps, normed_nc[n])
    _product(head_vc, head_scale_v, head_bias_v, normed_nc, logits_nv)
