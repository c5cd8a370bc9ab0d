"""Keys and values of what was read, so that a new token costs one forward pass of one token."""

import contextlib
import math
import mmap

import torch
from torch import Tensor

from crawl2chat.model.transformer import ModelConfig


class KVCache:
    """Memory for `rows` sequences of up to `max_length` tokens; the caller tracks which token occupies which slot.

    A query at position p sees the keys at positions ≤ p only, so what an earlier sequence left behind is never seen
    and need not be erased. There is one row more than asked for, `spare_row`, to write what nobody reads.
    Memory: 2 · layers · key-value heads · head width · bytes per number, for each token of each row.

    Shapes: L layers, X rows, H key-value heads, S tokens, D head width, N tokens to write.
    """

    def __init__(
        self, config: ModelConfig, rows: int, max_length: int, *, dtype: torch.dtype, device: torch.device | str = "cpu"
    ) -> None:
        c = config
        shape = (c.num_hidden_layers, 2, rows + 1, c.num_key_value_heads, max_length, c.head_dim)
        self.content = _zeros(shape, dtype, device)  # keys and values together: one write per layer
        self.spare_row, self.max_length = rows, max_length
        self.heads_h = torch.arange(c.num_key_value_heads, device=device)
        # views of a layer, made once: as vectors, and keys and values by row and head, (X · H, S, D) each
        self.vectors = [layer.view(-1, c.head_dim) for layer in self.content]
        self.kinds = [tuple(kind.flatten(0, 1) for kind in layer) for layer in self.content]

    @staticmethod
    def bytes_per_token(config: ModelConfig, dtype: torch.dtype) -> int:
        return 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * dtype.itemsize

    def places(self, rows_n: Tensor, positions_n: Tensor) -> Tensor:
        """Where `write` puts N tokens' keys and values: indices (N · 2H,) of vectors in a layer."""
        X, H = self.spare_row + 1, len(self.heads_h)
        keys_nh = (rows_n[:, None] * H + self.heads_h) * self.max_length + positions_n[:, None]
        return torch.cat([keys_nh, keys_nh + X * H * self.max_length], dim=1).flatten()

    def write(self, layer: int, places: Tensor, kv_nhd: Tensor) -> None:
        """Store N tokens' keys and then values, (N, 2H, D)."""
        self.vectors[layer].index_copy_(0, places, kv_nhd.flatten(0, 1))

    def read(self, layer: int, rows: slice, n_keys: int) -> tuple[Tensor, Tensor]:
        """Keys and values of the first tokens of neighbouring rows, (rows · H, n_keys, D) each, not copied."""
        H = len(self.heads_h)
        keys, values = self.kinds[layer]
        return keys[rows.start * H : rows.stop * H, :n_keys], values[rows.start * H : rows.stop * H, :n_keys]

    def gather(self, layer: int, rows_b: Tensor, n_keys: int) -> tuple[Tensor, Tensor]:
        """The same of any rows, copied."""
        keys, values = (kind[rows_b, :, :n_keys].flatten(0, 1) for kind in self.content[layer])
        return keys, values

    @torch.inference_mode()
    def copy(self, source: int, target: int, n: int) -> None:
        """Give row `target` the first n tokens of row `source`."""
        self.content[:, :, target, :, :n] = self.content[:, :, source, :, :n]


def _zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device | str) -> Tensor:
    """Zeros, on a CPU without touching their memory: what no sequence reaches is never allocated.

    numpy would ask for huge pages, of which the first keys of a row take 2 MB each.
    """
    if torch.device(device).type != "cpu":
        return torch.zeros(shape, dtype=dtype, device=device)
    private = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}
    memory = mmap.mmap(-1, math.prod(shape) * dtype.itemsize, **private)
    if hasattr(mmap, "MADV_NOHUGEPAGE"):  # where the system has them for all that is asked for
        with contextlib.suppress(OSError):  # of a system without any
            memory.madvise(mmap.MADV_NOHUGEPAGE)
    return torch.frombuffer(memory, dtype=dtype).view(shape)
