"""Small models with random weights, for tests."""

import torch

from crawl2chat.model import ModelConfig, Transformer

SHAPES = {
    "tied": {"num_attention_heads": 4, "num_key_value_heads": 4, "tie_word_embeddings": True},
    "untied": {"num_attention_heads": 4, "num_key_value_heads": 4, "tie_word_embeddings": False},
    "grouped heads": {"num_attention_heads": 8, "num_key_value_heads": 2, "tie_word_embeddings": True},
}


def random_model(shape: str, vocab_size: int = 97) -> Transformer:
    config = ModelConfig(
        vocab_size=vocab_size, hidden_size=32, intermediate_size=80, num_hidden_layers=3, head_dim=16,
        max_position_embeddings=64, rope_theta=5_000.0, **SHAPES[shape],
    )  # fmt: skip
    model = Transformer(config)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3 + (parameter.ndim == 1))
    return model.eval()
