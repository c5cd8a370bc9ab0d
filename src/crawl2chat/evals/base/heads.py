"""What attention heads do, by three patterns that are known to look for (Olsson et al., arXiv 2209.11895)."""

from collections.abc import Generator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from crawl2chat.evals.base.induction import Repeats, find_repeats
from crawl2chat.model.inside import Change, Inside

RANDOM_TOKENS = 32  # that come twice in `random_twice`


@dataclass(frozen=True)
class HeadScores:
    """Mean attention, 0 to 1, of each head to three kinds of places; all (L, H)."""

    induction_lh: Tensor  # from a pair's first token to what followed it earlier; 0 if no pair comes again
    previous_lh: Tensor  # to the token before
    first_lh: Tensor  # to the first token, where heads look that have nothing else to look for
    pairs: int  # that come again


def repeats_in(ids: list[int]) -> Repeats:
    """The pairs of tokens that come again in a text, as `find_repeats` counts them."""
    return find_repeats(np.array(ids, dtype=np.uint32))


def random_twice(start: list[int], vocabulary: int, room: int, seed: int = 0) -> list[int]:
    """`start` and then different random tokens twice in the same order, at most `room` ids in all."""
    others = np.setdiff1d(np.arange(vocabulary), start)
    n = max(0, min(RANDOM_TOKENS, (room - len(start)) // 2, len(others)))
    drawn = np.random.default_rng(seed).choice(others, n, replace=False).tolist()
    return [*start, *drawn, *drawn]


def score_layer(attention_htt: Tensor, repeats: Repeats) -> Tensor:
    """Induction, previous and first scores of a layer's heads, (3, H), as `HeadScores` has them."""
    followed_tt = repeats.followed_tt.to(attention_htt.device)
    n = max(1, int(followed_tt.any(1).sum()))
    induction_h = (attention_htt * followed_tt).sum((1, 2)) / n
    if attention_htt.shape[-1] == 1:  # a token with none before it
        return torch.stack([induction_h, torch.zeros_like(induction_h), torch.ones_like(induction_h)])
    previous_h = attention_htt.diagonal(-1, dim1=1, dim2=2).mean(dim=-1)
    return torch.stack([induction_h, previous_h, attention_htt[:, 1:, 0].mean(dim=-1)])


def score_heads(inside: Inside) -> HeadScores:
    """The scores of all heads in a complete pass."""
    repeats = repeats_in(inside.ids)
    layers = range(inside.config.num_hidden_layers)
    scores_l3h = torch.stack([score_layer(inside.layer(i).attention_htt, repeats) for i in layers])
    induction_lh, previous_lh, first_lh = scores_l3h.unbind(1)
    return HeadScores(induction_lh, previous_lh, first_lh, int(repeats.followed_tt.any(1).sum()))


def ablation_effects(inside: Inside, at: int, id: int) -> Generator[None, None, Tensor]:
    """The probability of token `id` after position `at` without each head and without each MLP, (L, H + 1).

    The last column is the MLP's. The pass's own changes stay in force. A generator that yields between blocks, for
    callers that have other things to do, and returns the result.
    """
    config = inside.config
    L, H = config.num_hidden_layers, config.num_attention_heads
    probabilities = torch.zeros(L, H + 1)
    for layer in range(L):
        for part in range(H + 1):
            without = Change("mlp", layer) if part == H else Change("head", layer, head=part)
            ablated = Inside(inside.model, inside.ids, [*inside.changes, without], inside.other)
            while ablated.advance():
                yield
            probabilities[layer, part] = ablated.logits(L, slice(at, at + 1))[0].softmax(dim=-1)[id]
            yield
    return probabilities
