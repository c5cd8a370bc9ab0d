"""Numbers for a page as one binary body: what a page draws in a moment would take seconds as nested lists of JSON."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from starlette.responses import Response

ALIGNMENT = 8  # bytes, so that a browser can look at each array where it lies
DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64")  # that JavaScript has arrays of


def tensors(header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Response:
    """A body of four bytes (little-endian: the length of the header), a header in JSON, and the arrays behind it.

    The header gains `arrays`: of each its name, dtype, shape, and offset from the first one's beginning; `tensors.js`
    reads it. float16 becomes float32, which JavaScript knows. Raises TypeError for other dtypes that it does not know.
    """
    told = [(name, np.ascontiguousarray(array.astype(np.float32) if array.dtype == np.float16 else array))
            for name, array in arrays.items()]  # fmt: skip
    for name, array in told:
        if array.dtype.name not in DTYPES:
            raise TypeError(f"{name} has dtype {array.dtype}; expected one of {', '.join(DTYPES)}")
    offsets = [0]
    for _, array in told:
        offsets.append(_aligned(offsets[-1] + array.nbytes))
    layout = [
        {"name": name, "dtype": array.dtype.name, "shape": array.shape, "offset": offset}
        for (name, array), offset in zip(told, offsets, strict=False)
    ]
    # offsets count from the first array, which lies behind the header, whose length they would otherwise change
    head = json.dumps({**header, "arrays": layout}, ensure_ascii=False, allow_nan=False).encode()
    head += b" " * (_aligned(4 + len(head)) - 4 - len(head))
    body = bytearray(len(head).to_bytes(4, "little") + head)
    for (_, array), end in zip(told, offsets[1:], strict=True):
        body += array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
        body += b"\0" * (4 + len(head) + end - len(body))
    return Response(bytes(body), media_type="application/octet-stream")


def _aligned(n: int) -> int:
    return -(-n // ALIGNMENT) * ALIGNMENT
