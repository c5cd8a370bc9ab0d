"""Induction heads: attention that finds where the current token appeared before and looks at what followed it.

Olsson et al. ("In-context Learning and Induction Heads", arXiv 2209.11895) score heads on random tokens that come
twice. A small model's heads work on the words alone that its text uses so, so here they are scored on text: on pairs
of tokens that come again.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crawl2chat.model import Transformer
from crawl2chat.model.transformer import Attention
from crawl2chat.tokenizer.shards import TokenizedDocuments

DOCUMENTS, TOKENS = 8, 256  # that are looked at, and of each: attention takes layers · heads · tokens² numbers


@dataclass(frozen=True)
class Repeats:
    """A document's beginning, ids_t, and the pairs of tokens in it that come again.

    followed_tt[t, s]: the token at t is the first of such a pair, and at s the second one appeared, an earlier time.
    """

    ids_t: Tensor
    followed_tt: Tensor


@dataclass(frozen=True)
class Induction:
    """What a model makes of pairs that come again."""

    attention_lh: Tensor  # (layers, heads) mean attention from a pair's first token to its second one's earlier places
    copied: float  # share of the second tokens that are held for the most probable ones

    @property
    def strongest(self) -> float:
        """The score of the head that has the highest: 0 for none, 1 for a perfect induction head."""
        return self.attention_lh.max().item()


def find_repeats(ids: NDArray[np.unsignedinteger]) -> Repeats:
    """Pairs of two tokens of which, as far as the text goes, neither ever appeared without the other."""
    followed = torch.zeros(len(ids), len(ids), dtype=torch.bool)
    after: dict[int, set[int]] = defaultdict(set)  # a token: those that came next
    ahead: dict[int, set[int]] = defaultdict(set)
    places: dict[int, list[int]] = defaultdict(list)
    tokens = ids.tolist()
    for t, (first, second) in enumerate(pairwise(tokens)):
        if first != second and after[first] == {second} and ahead[second] == {first}:
            followed[t, places[second]] = True
        after[first].add(second)
        ahead[second].add(first)
        places[second].append(t + 1)
    return Repeats(torch.from_numpy(ids.astype(np.int64)), followed)


def most_repetitive(documents: TokenizedDocuments, context: int) -> list[Repeats]:
    """The documents whose first tokens have the most pairs that come again; those without are left out.

    context: the model's, which is more than is looked at if it is large.
    """
    found = [find_repeats(documents[i][: min(context, TOKENS)]) for i in range(len(documents))]
    pairs = [int(repeats.followed_tt.any(1).sum()) for repeats in found]
    order = sorted(range(len(found)), key=lambda i: (-pairs[i], i))[:DOCUMENTS]
    return [found[i] for i in order if pairs[i]]


@torch.inference_mode()
def measure_induction(model: Transformer, texts: Sequence[Repeats]) -> Induction:
    """Attention and predictions at the first tokens of all pairs that come again; there must be some."""
    device = next(model.parameters()).device
    attention_lh = torch.zeros(model.config.num_hidden_layers, model.config.num_attention_heads)
    copied = count = 0
    for text in texts:
        ids_t, followed_tt = text.ids_t.to(device), text.followed_tt.to(device)
        attention_lhtt, predicted_t = _look(model, ids_t)
        first = followed_tt.any(1).nonzero()[:, 0]
        attention_lh += (attention_lhtt * followed_tt).sum((2, 3)).cpu()
        copied += int((predicted_t[first] == ids_t[first + 1]).sum())
        count += len(first)
    return Induction(attention_lh / count, copied / count)


def _look(model: Transformer, ids_t: Tensor) -> tuple[Tensor, Tensor]:
    """All heads' attention (layers, heads, T, T), and the most probable token after each."""
    unseen_tt = torch.ones(len(ids_t), len(ids_t), device=ids_t.device).triu(1).bool()
    layers: list[Tensor] = []

    def keep(attention: Attention, inputs: tuple[Tensor, tuple[Tensor, Tensor], None], output: Tensor) -> None:
        x_btc, rope, _ = inputs
        q_bhtd, k_bhtd, _ = attention.heads(x_btc, rope)
        scores_bhtt = (q_bhtd @ k_bhtd.mT).float() * attention.head_dim**-0.5
        window = model.config.window_of(len(layers)) or len(ids_t)
        hidden_tt = unseen_tt | unseen_tt.new_ones(unseen_tt.shape).tril(-window)
        layers.append(scores_bhtt.masked_fill(hidden_tt, float("-inf")).softmax(dim=-1)[0])

    attentions = [module for module in model.modules() if isinstance(module, Attention)]
    handles = [attention.register_forward_hook(keep) for attention in attentions]
    try:
        predicted_t = model(ids_t[None])[0].argmax(dim=-1)
    finally:
        for handle in handles:
            handle.remove()
    return torch.stack(layers), predicted_t
