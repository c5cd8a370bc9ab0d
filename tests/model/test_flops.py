import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from crawl2chat.model import ModelConfig, Transformer


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
