import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from crawl2chat.model import ModelConfig, Transformer
from crawl2chat.model.adapters import AdaptedTransformer, AdapterShape


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kv_heads", [4, 2])
def test_flops_are_those_that_torch_counts_but_for_the_pairs_that_the_mask_hides(tied, kv_heads):
    config = ModelConfig(
        vocab_size=96, hidden_size=32, intermediate_size=80, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=kv_heads, head_dim=16, max_position_embeddings=24, tie_word_embeddings=tied,
    )  # fmt: skip
    model = Transformer(config)
    rows, context = 2, 24
    # as plain products, since torch counts none of the CPU's own attention kernel
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(torch.zeros(rows, context, dtype=torch.long)).sum().backward()
    tokens = rows * context
    causal_attention = 6 * 3 * 4 * 16 * context  # of a token: half of the square that plain products fill
    assert counter.get_total_flops() == tokens * (model.flops_per_token(context) + causal_attention)


@pytest.mark.parametrize("tied", [True, False])
def test_under_an_adapter_frozen_matrices_count_without_the_gradients_that_they_do_not_get(tied):
    config = ModelConfig(96, 32, 80, 3, 4, 2, 16, max_position_embeddings=24, tie_word_embeddings=tied)
    whole = Transformer(config)
    flops = whole.flops_per_token(24)
    in_blocks = sum(p.numel() for p in whole.model.layers.parameters() if p.ndim == 2)
    model = AdaptedTransformer.on(whole, AdapterShape(rank=4, scale=2.0))
    factors = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert model.flops_per_token(24) == flops - 2 * (in_blocks + 96 * 32) + 6 * factors
