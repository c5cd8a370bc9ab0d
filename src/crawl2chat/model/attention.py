"""Softmax attention in the form that is fastest where it runs, over all of a row or within its documents only.

documents_bt: the number of each token's document within its row; a document's tokens are neighbours.
"""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

from crawl2chat.model.cpu_attention import BLOCKS, MAX_TOKENS, BlockwiseCausal

Mask = Tensor | BlockMask  # (B, 1, T, T), true where a token is seen


def attend(q_bhtd: Tensor, k_bhtd: Tensor, v_bhtd: Tensor, mask: Mask | None) -> Tensor:
    """Attention of each token over those that the mask lets it see, or without a mask over those before it and itself.

    Returns (B, H, T, D).
    """
    if isinstance(mask, BlockMask):
        y_bhtd = flex_attention(q_bhtd, k_bhtd, v_bhtd, block_mask=mask)
        assert isinstance(y_bhtd, Tensor)
        return y_bhtd
    T = q_bhtd.shape[2]
    if T <= MAX_TOKENS and q_bhtd.is_cpu and torch.compiler.is_compiling():
        in_blocks = BlockwiseCausal.apply(  # type: ignore[no-untyped-call]
            q_bhtd, k_bhtd, v_bhtd, -(-T // BLOCKS), mask
        )
        return cast(Tensor, in_blocks)
    return F.scaled_dot_product_attention(q_bhtd, k_bhtd, v_bhtd, attn_mask=mask, is_causal=mask is None)


def positions_within(documents_bt: Tensor) -> Tensor:
    """How many tokens of its document come before each token, (B, T)."""
    place_t = torch.arange(documents_bt.shape[1], device=documents_bt.device)
    begins_bt = documents_bt != documents_bt.roll(1, dims=1)
    begins_bt[:, 0] = True
    return place_t - torch.where(begins_bt, place_t, 0).cummax(dim=1).values


def mask_in_window(mask: Mask | None, positions_bt: Tensor, window: int) -> Tensor:
    """Each token sees what the mask lets it see less than `window` positions before it, itself included.

    mask: None for all before a token and itself. Returns (B, 1, T, T) (Mistral 7B, arXiv 2310.06825, section 2).
    """
    assert not isinstance(mask, BlockMask)  # those are made by `mask_within`, which takes a window itself
    if mask is None:
        place_t = torch.arange(positions_bt.shape[1], device=positions_bt.device)
        mask = place_t <= place_t[:, None]
    return mask & (positions_bt[:, None, :] > positions_bt[:, :, None] - window)[:, None]


def mask_within(documents_bt: Tensor, *, blocks: bool, window: int | None = None) -> Mask:
    """Each token sees those before it in its document, and itself (Llama 3, arXiv 2407.21783, section 3.2).

    window: only the last ones of these, as in `mask_in_window`.
    blocks: for FlexAttention, which passes over blocks that no token sees, but only in compiled code on a GPU.
    """
    B, T = documents_bt.shape
    if not blocks:
        place_t = torch.arange(T, device=documents_bt.device)
        same_btt = documents_bt[:, :, None] == documents_bt[:, None, :]
        mask_b1tt = (same_btt & (place_t[:, None] >= place_t))[:, None]
        return mask_in_window(mask_b1tt, place_t[None], window) if window else mask_b1tt

    def sees(b: Tensor, h: Tensor, query: Tensor, key: Tensor) -> Tensor:
        seen = (query >= key) & (documents_bt[b, query] == documents_bt[b, key])
        return seen & (key > query - window) if window else seen

    return create_block_mask(sees, B, None, T, T, device=documents_bt.device)
