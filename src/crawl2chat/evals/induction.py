"""Induction heads: attention that finds where the present token stood before and looks at what followed it.

Measured as by Olsson et al., "In-context Learning and Induction Heads" (arXiv 2209.11895), on tokens in random order
that come twice: nothing but the first time tells what comes the second time.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crawl2chat.model import Transformer
from crawl2chat.model.transformer import Block, rope_angles

ROWS = 8
LONGEST = 64  # tokens that come twice


@dataclass(frozen=True)
class Induction:
    """What a model makes of tokens that come a second time."""

    attention_lh: Tensor  # (layers, heads) mean attention to the token behind the present one's first time
    copied: float  # share of the tokens, from the second on, that are held for the most probable ones

    @property
    def strongest(self) -> float:
        """The prefix-matching score of the head that has the highest: 0 for none, 1 for a perfect induction head."""
        return self.attention_lh.max().item()


def repeated_rows(ids: NDArray[np.unsignedinteger], first: int, context: int, seed: int = 0) -> Tensor:
    """Rows (ROWS, 1 + 2·n) of the token `first` and n tokens drawn from `ids`, which come twice.

    They come as often as in the text but in random order. n: at most LONGEST, fewer for a short context.
    """
    n = min(LONGEST, (context - 1) // 2)
    drawn = np.random.default_rng(seed).choice(ids, (ROWS, n)).astype(np.int64)
    return torch.from_numpy(np.concatenate([np.full((ROWS, 1), first), drawn, drawn], axis=1))


@torch.inference_mode()
def measure_induction(model: Transformer, rows_bt: Tensor) -> Induction:
    """Attention and predictions over rows that `repeated_rows` made."""
    rows_bt = rows_bt.to(next(model.parameters()).device)
    n = (rows_bt.shape[1] - 1) // 2
    again = torch.arange(n + 1, 2 * n, device=rows_bt.device)  # places of the second time, but for the last token
    positions_bt = torch.arange(rows_bt.shape[1], device=rows_bt.device)[None]
    rope = rope_angles(positions_bt, model.config.head_dim, model.config.rope_theta)
    unseen = torch.ones(len(positions_bt[0]), len(positions_bt[0]), device=rows_bt.device).triu(1).bool()
    x = model.model.embed_tokens(rows_bt)
    layers = []
    for block in model.model.layers:
        assert isinstance(block, Block)
        q, k, _ = block.self_attn.heads(block.input_layernorm(x), rope)
        scores = (q @ k.mT).float() * model.config.head_dim**-0.5
        attention_bhtt = scores.masked_fill(unseen, float("-inf")).softmax(dim=-1)
        layers.append(attention_bhtt[:, :, again, again - n + 1].mean(dim=(0, 2)).cpu())
        x = block(x, rope, None)
    predicted = model.logits(model.model.norm(x)).argmax(dim=-1)
    copied = (predicted[:, again] == rows_bt[:, again + 1]).float().mean().item()
    return Induction(torch.stack(layers), copied)
