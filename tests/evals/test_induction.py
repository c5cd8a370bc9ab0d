"""Induction heads: what the score says of models that copy, and of those that don't."""

import numpy as np
import pytest
import torch

from crawl2chat.evals.base.induction import find_repeats, measure_induction, most_repetitive
from crawl2chat.model import ModelConfig, Transformer
from crawl2chat.tokenizer.shards import TokenizedDocuments

CONFIG = ModelConfig(50, 16, 32, 2, 2, 2, 8, 64)


def repeats_of(*ids: int):
    return find_repeats(np.array(ids, dtype=np.uint16))


def twice(n: int, seed: int):
    """The token 0, and n others that come twice in the same order."""
    drawn = np.random.default_rng(seed).permutation(np.arange(1, 50))[:n]
    return repeats_of(0, *drawn, *drawn)


def test_a_pair_counts_when_it_comes_again_with_all_places_of_its_second_token():
    pairs = {t.item(): found.nonzero()[:, 0].tolist() for t, found in enumerate_found(7, 8, 1, 7, 8, 2, 7, 8)}
    assert pairs == {3: [1], 6: [1, 4]}


def test_a_pair_does_not_count_whose_tokens_stood_apart_before():
    assert not repeats_of(7, 8, 7, 9, 7, 8).followed_tt.any()  # 7 went on otherwise
    assert not repeats_of(7, 8, 3, 8, 1, 7, 8).followed_tt.any()  # 8 had another one before it
    assert not repeats_of(5, 5, 5, 5).followed_tt.any()


def enumerate_found(*ids: int):
    followed = repeats_of(*ids).followed_tt
    return [(t, followed[t]) for t in followed.any(1).nonzero()[:, 0]]


def test_the_documents_with_most_pairs_are_taken_and_those_without_are_not():
    documents = [[1, 2, 3, 4], [5, 6, 9, 5, 6, 8], [7, 8, 1, 7, 8, 2, 7, 8], [3, 3, 3, 3]]
    starts = np.cumsum([0, *map(len, documents)])
    all_of_them = TokenizedDocuments(np.concatenate(documents).astype(np.uint16), starts, np.diff(starts))
    assert [text.ids_t.tolist() for text in most_repetitive(all_of_them, 64)] == [documents[2], documents[1]]
    assert [text.ids_t.tolist() for text in most_repetitive(all_of_them, 5)] == [documents[1][:5], documents[2][:5]]


def test_attention_is_that_of_the_models_own_forward_pass():
    model = Transformer(CONFIG)
    model.init_weights(1)
    with torch.no_grad():  # layers that write nothing would hide a wrong one
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)))
    texts = [twice(20, seed=0), twice(31, seed=1)]
    found = measure_induction(model, texts)
    right = []
    for text in texts:
        predicted, n = model(text.ids_t[None])[0].argmax(-1), len(text.ids_t) // 2
        right += (predicted[n + 1 : -1] == text.ids_t[n + 2 :]).tolist()
    assert found.copied == pytest.approx(sum(right) / len(right))
    assert found.attention_lh.shape == (2, 2)
    assert 0 < found.strongest < 1


def test_a_head_that_looks_back_by_one_period_has_a_score_of_one():
    """Its keys and queries are the same for all tokens, and turned so that the right distance fits best."""
    model = Transformer(CONFIG)
    model.init_weights(0)
    n, head_dim = 31, CONFIG.head_dim
    attention = model.model.layers[1].self_attn
    with torch.no_grad():
        model.model.embed_tokens.weight[:, 0] = 10.0  # all tokens share this
        fast = torch.zeros(head_dim)
        fast[0] = 1.0  # the pair of channels that turns by one radian a token
        turned = torch.zeros(head_dim)
        angle = torch.tensor(float(n - 1))
        turned[0], turned[head_dim // 2] = angle.cos(), -angle.sin()
        attention.q_proj.weight.zero_()
        attention.k_proj.weight.zero_()
        attention.k_proj.weight[:head_dim, 0] = fast
        attention.q_proj.weight[:head_dim, 0] = turned
        attention.q_norm.weight.fill_(30.0)
        attention.k_norm.weight.fill_(30.0)
    assert measure_induction(model, [twice(n, seed=3)]).attention_lh[1, 0] > 0.99
