"""Keys and values of what was read, so that a new token costs one forward pass of one token."""

import math

import numpy as np
import torch
from torch import Tensor

from crawl2chat.model.transformer import ModelConfig


class KVCache:
    """Memory for `rows` sequences of up to `max_length` tokens; which token stands where is the caller's to know.

    A query at position p sees the keys at positions ≤ p only, so what an earlier sequence left behind is never seen
    and need not be erased. There is one row more than asked for, `spare_row`, to write what nobody reads.
    Memory: 2 · layers · key-value heads · head width · bytes a number, for each token of each row.

    Shapes: L layers, X rows, H key-value heads, S tokens, D head width, N tokens to write.
    """

    def __init__(
        self, config: ModelConfig, rows: int, max_length: int, *, dtype: torch.dtype, device: torch.device | str = "cpu"
    ) -> None:
        c = config
        shape = (c.num_hidden_layers, 2, rows + 1, c.num_key_value_heads, max_length, c.head_dim)
        self.content = _zeros(shape, dtype, device)  # keys and values together: one write a layer
        self.spare_row, self.max_length = rows, max_length
        self.heads_h = torch.arange(c.num_key_value_heads, device=device)

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
        D = kv_nhd.shape[-1]
        self.content[layer].view(-1, D).index_copy_(0, places, kv_nhd.reshape(-1, D))

    def read(self, layer: int, rows: slice | Tensor, n_keys: int) -> tuple[Tensor, Tensor]:
        """Keys and values of the first tokens of some rows, (rows · H, n_keys, D) each; a slice is not copied."""
        keys, values = (kind[rows].flatten(0, 1)[:, :n_keys] for kind in self.content[layer])
        return keys, values

    @torch.inference_mode()
    def copy(self, source: int, target: int, n: int) -> None:
        """Give row `target` the first n tokens of row `source`."""
        self.content[:, :, target, :, :n] = self.content[:, :, source, :, :n]


def _zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device | str) -> Tensor:
    """Zeros, on a CPU without touching their memory: what no sequence reaches is never taken from the system."""
    if torch.device(device).type != "cpu":
        return torch.zeros(shape, dtype=dtype, device=device)
    return torch.from_numpy(np.zeros(math.prod(shape) * dtype.itemsize, dtype=np.uint8)).view(dtype).view(shape)
