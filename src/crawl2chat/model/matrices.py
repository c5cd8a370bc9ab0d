"""Matrices to multiply by while generating: as they are, in 16 bits or in 8, whichever form is asked for.

A step of generation reads every weight once, and few tokens share that read, so fewer bytes take less time: SmolLM2
writes 1.5 to 2 times as many tokens per second in 16 bits as in float32, on two cores with AVX2. There int8, whose
products are twice as many, saves memory but is slower than 16 bits (`bench/generate_forms.py`). Where a CPU multiplies
bfloat16 itself (AVX-512 BF16, AMX), activations are rounded to it, too, as in training, and from about 16 rows on
products take less than half the time. Elsewhere they stay float32: there the products are FBGEMM's, which torch
carries on x86; where it does not, the forms save memory and cost time (`_Widened`).

A row's product does not depend, to the last bit, on which rows it is computed with: int8 sums integers, FBGEMM's 16
bits are padded to a number of rows that it sums in the same order (`_rows_that_agree`), oneDNN's products, in float32
and bfloat16, are for the caller to pad.

Shapes: N rows, C in, M out, V vocabulary.
"""

import warnings
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Literal, Protocol, cast, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

WeightForm = Literal["float32", "bfloat16", "int8"]
FORMS: tuple[WeightForm, ...] = get_args(WeightForm)
LARGE = 200_000  # weights of a matrix
GREATEST_HALF = 65_504.0
LEVELS = 63  # of an activation on either side of 0: with 7 bits FBGEMM's sums of two products fit 16, on any CPU
FINE = 127  # parts of a level
TINY = 1e-30  # so that nothing is divided by 0


class Matrix(Protocol):
    """The product x · Wᵀ of rows (N, C) with a matrix, (N, M). many: N is seldom the same, as of prompts."""

    def __call__(self, x_nc: Tensor, *, many: bool = False) -> Tensor: ...


def make_matrix(weight: Tensor, bias: Tensor | None, form: WeightForm | None, *, alone: bool) -> Matrix:
    """Return the product with a matrix kept in this form, plus a bias; form None: as it is. alone: N is 1 as a rule."""
    weight, bias = weight.detach(), None if bias is None else bias.detach()
    if form is None:
        return FloatMatrix(weight, bias, alone=alone)
    bias = None if bias is None else bias.float()
    if form == "int8":
        return Int8Matrix(weight, bias)
    if form == "bfloat16" and multiplies_bf16():
        return Bf16Matrix(weight, bias, alone=alone)
    if form == "bfloat16" and _fits_half(weight):
        return HalfMatrix(weight, bias, alone=alone)
    return FloatMatrix(weight.float(), bias, alone=alone)


class FloatMatrix:
    """A matrix as it is, on a CPU as oneDNN lays it out: 1.4 to 3 times as fast as F.linear.

    But oneDNN takes 2 ms to prepare for each number of rows that it has not met, and 15 µs for each call. So F.linear
    is kept for small matrices, with `many` rows, whose number is seldom the same, and for a single row.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None = None, *, alone: bool) -> None:
        large = weight.numel() >= LARGE
        packed = _packed(weight, bias) if large or not alone else None
        self.weight = None if packed and large else weight
        self.bias, self.packed = bias, packed

    def __call__(self, x_nc: Tensor, *, many: bool = False) -> Tensor:
        if self.packed is None or (many and self.weight is not None):
            assert self.weight is not None
            return F.linear(x_nc, self.weight, self.bias)
        return self.packed(x_nc)


class Bf16Matrix:
    """A matrix in bfloat16; products of rounded activations with it, summed and returned in float32."""

    def __init__(self, weight: Tensor, bias: Tensor | None = None, *, alone: bool) -> None:
        self.product, self.bias = FloatMatrix(weight.bfloat16(), alone=alone), bias

    def __call__(self, x_nc: Tensor, *, many: bool = False) -> Tensor:
        y_nm = self.product(x_nc.bfloat16(), many=many).float()
        return y_nm if self.bias is None else y_nm.add_(self.bias)


class HalfMatrix:
    """A matrix in 16 bits; products of float32 with it, summed in float32.

    FBGEMM's format is float16, which holds bfloat16's values exactly from 6e-5 to 65504, and smaller ones to within
    3e-8: far below what a weight's last bit is worth.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None = None, *, alone: bool) -> None:
        self.bias, self.alone = bias, alone
        self.product = _half_product(weight)

    def __call__(self, x_nc: Tensor, *, many: bool = False) -> Tensor:
        n = len(x_nc)
        padding = 0 if self.alone and n == 1 else _rows_that_agree(n, torch.get_num_threads()) - n
        y_nm = self.product(F.pad(x_nc, (0, 0, 0, padding)))[:n] if padding else self.product(x_nc)
        return y_nm if self.bias is None else y_nm.add_(self.bias)


class Int8Matrix:
    """A matrix in int8 with a scale for each output; products with activations of 14 bits, summed as integers.

    An activation is split in two of 7 bits, a coarse and a fine one, which are two rows of one product: that
    reads the weights once. With the coarse one alone, SmolLM2 chooses
    another next token than in float32 in 1 place of 5; with both, in 1 of 25, as with float32 activations.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        whole, scale_m = quantised(weight)
        self.bias, self.product = bias, _int8_product(whole, scale_m / LEVELS)
        # as tensors, since an operation with a number takes twice as long as with a tensor of one
        self.levels, self.fine, self.part = (torch.tensor(number) for number in (float(LEVELS), float(FINE), 1 / FINE))

    def __call__(self, x_nc: Tensor, *, many: bool = False) -> Tensor:
        n = len(x_nc)
        greatest_n1 = x_nc.abs().amax(dim=-1, keepdim=True).add_(TINY)
        scaled_nc = x_nc * (self.levels / greatest_n1)
        coarse_nc = scaled_nc.round()
        y = self.product(torch.cat([coarse_nc, scaled_nc.sub_(coarse_nc).mul_(self.fine)]))
        y_nm = torch.addcmul(y[:n], y[n:], self.part).mul_(greatest_n1)
        return y_nm if self.bias is None else y_nm.add_(self.bias)


class Embedding:
    """The embedding in a form: rows looked up as float32, in int8 with a scale for each."""

    def __init__(self, weight: Tensor, form: WeightForm | None) -> None:
        weight = weight.detach()
        self.scale_v: Tensor | None = None
        if form == "int8":
            self.weight, self.scale_v = quantised(weight)
        elif form == "bfloat16":
            wide = weight.dtype == torch.float32
            self.weight = weight.half() if wide and _fits_half(weight) else weight
        else:
            self.weight = weight if form is None else weight.float()
        self.widens = form is not None

    def __call__(self, ids_n: Tensor) -> Tensor:
        x_nc = F.embedding(ids_n, self.weight)
        if self.widens:
            x_nc = x_nc.float()
        return x_nc if self.scale_v is None else x_nc.mul_(self.scale_v[ids_n, None])


def quantised(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return the int8 matrix (M, C) and the scales (M,) whose product is nearest to a matrix, row by row."""
    rows = weight.float()
    scale_m = (rows.abs().amax(dim=1) / 127).clamp_min(TINY)
    return (rows / scale_m[:, None]).round_().to(torch.int8), scale_m


def _fits_half(weight: Tensor) -> bool:
    return bool(torch.stack(torch.aminmax(weight)).abs().max() <= GREATEST_HALF)


def _packed(weight: Tensor, bias: Tensor | None) -> Callable[[Tensor], Tensor] | None:
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
    return lambda x_nc: product(x_nc, packed, bias, "none", [], "")


def multiplies_bf16() -> bool:
    """Whether this CPU multiplies bfloat16 by instructions of its own."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def has_fbgemm() -> bool:
    """Whether this build of torch multiplies by 8 and 16 bit matrices fast: all for x86 do."""
    return "fbgemm" in torch.backends.quantized.supported_engines


def _half_product(weight: Tensor) -> Callable[[Tensor], Tensor]:
    if not has_fbgemm():
        return _Widened(weight.half(), None)
    packed = _prepared(torch.ops.quantized.linear_prepack_fp16, weight.float().contiguous(), None)
    product = torch.ops.quantized.linear_dynamic_fp16.default
    return lambda x_nc: product(x_nc, packed)


def _int8_product(weight: Tensor, scale_m: Tensor) -> Callable[[Tensor], Tensor]:
    """The product of whole numbers from −64 to 64 with an int8 matrix, times its scales, in float32."""
    if not has_fbgemm():
        return _Widened(weight, scale_m)
    zeros_m = torch.zeros(len(weight), dtype=torch.long)
    scaled = _prepared(torch._make_per_channel_quantized_tensor, weight, scale_m.double(), zeros_m, 0)
    packed = _prepared(torch.ops.quantized.linear_prepack, scaled, None)
    product = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32.default
    return lambda x_nc: product(x_nc, 1.0, LEVELS + 1, packed)  # FBGEMM rounds, and adds the last but one


class _Widened:
    """A product with a narrow matrix that is made float32 each time, where there is no FBGEMM."""

    def __init__(self, weight: Tensor, scale_m: Tensor | None) -> None:
        self.weight, self.scale_m = weight, scale_m

    def __call__(self, x_nc: Tensor) -> Tensor:
        whole_nc = x_nc if self.scale_m is None else x_nc.round()
        y_nm = F.linear(whole_nc, self.weight.float())
        return y_nm if self.scale_m is None else y_nm.mul_(self.scale_m)


@lru_cache(maxsize=1024)
def _rows_that_agree(n: int, threads: int) -> int:
    """The next number of rows for which FBGEMM's 16-bit product is that of 12 rows, to the last bit.

    It divides rows into blocks of up to 6 (AVX2) or 14 (AVX-512), and some small blocks are summed in another order.
    Which ones is not documented, so it is tried.
    """
    if not has_fbgemm():
        return max(n, 4)
    generator = torch.Generator().manual_seed(0)
    weight, x_nc = torch.randn(32, 100, generator=generator), torch.randn(12, 100, generator=generator)
    product = _half_product(weight)
    expected = product(x_nc)
    for rows in range(n, n + 24):
        repeats = -(-rows // 12)
        if torch.equal(product(x_nc.repeat(repeats, 1)[:rows]), expected.repeat(repeats, 1)[:rows]):
            return rows
    return n


def _prepared(prepare: Callable[..., Any], *arguments: Any) -> Any:
    """What an operator makes of a matrix, without torch's notice that eager quantisation has moved to torchao."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", category=UserWarning)
        warnings.simplefilter("ignore", category=DeprecationWarning)
        return cast(Any, prepare(*arguments))
