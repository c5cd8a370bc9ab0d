"""Keys and values of what was read, so that a new token costs one forward pass of one token."""

import torch
from torch import Tensor


class KVCache:
    """One slot a sequence, each with its own length, so that prompts of different lengths share a batch.

    Prompts are padded on the right. A query at position p sees the keys at positions ≤ p only, and the slot of
    a padding token is overwritten when the sequence reaches it, so padding is never seen and needs no mask.
    """

    def __init__(
        self,
        n_layers: int,
        batch: int,
        n_kv_heads: int,
        max_length: int,
        head_dim: int,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        shape = (n_layers, batch, n_kv_heads, max_length, head_dim)
        self.keys_lbhsd = torch.zeros(shape, dtype=dtype, device=device)
        self.values_lbhsd = torch.zeros(shape, dtype=dtype, device=device)
        self.lengths_b = torch.zeros(batch, dtype=torch.long, device=device)
        self.longest = 0  # max of lengths_b, kept on the host so that no step waits for the device

    @property
    def max_length(self) -> int:
        return self.keys_lbhsd.shape[3]

    def positions(self, n_new: int) -> Tensor:
        """Positions (B, T) of the next `n_new` tokens of each sequence."""
        return self.lengths_b[:, None] + torch.arange(n_new, device=self.lengths_b.device)

    def write(self, layer: int, positions_bt: Tensor, k_bhtd: Tensor, v_bhtd: Tensor) -> tuple[Tensor, Tensor]:
        """Store a layer's new keys and values; returns all up to the longest sequence, (B, H, S, D) each."""
        keys, values = self.keys_lbhsd[layer], self.values_lbhsd[layer]
        rows = torch.arange(keys.shape[0], device=keys.device)[:, None]
        keys[rows, :, positions_bt] = k_bhtd.transpose(1, 2).to(keys.dtype)
        values[rows, :, positions_bt] = v_bhtd.transpose(1, 2).to(values.dtype)
        end = self.longest + k_bhtd.shape[2]
        return keys[:, :, :end], values[:, :, :end]

    def advance(self, lengths_b: Tensor, longest: int) -> None:
        """Say how long each sequence is now; `longest` is the greatest of them."""
        self.lengths_b, self.longest = lengths_b, longest

    def keep(self, rows: Tensor) -> None:
        """Drop all sequences but these (indices), in this order. Those that keep their place are not copied."""
        to = torch.nonzero(rows != torch.arange(len(rows), device=rows.device))[:, 0]
        for cached_lbhsd in (self.keys_lbhsd, self.values_lbhsd):
            cached_lbhsd[:, to, :, : self.longest] = cached_lbhsd[:, rows[to], :, : self.longest]
        self.keys_lbhsd = self.keys_lbhsd[:, : len(rows)]
        self.values_lbhsd = self.values_lbhsd[:, : len(rows)]
        self.lengths_b = self.lengths_b[rows]
