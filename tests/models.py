"""Small models with random weights, for tests."""

import torch
import torch.nn.functional as F

from crawl2chat.model import ModelConfig, Transformer
from crawl2chat.tokenizer import Tokenizer

PROSE = [
    "The miller's daughter went down to the river at dawn; nobody had told her that the bridge was gone.",
    "In 1842 they counted 17 mills, 3 bridges and one inn. By 1850 there were 23 mills.",
    "„Straße“ und café: naïve words, 東京, emoji 🙂 and tabs\tand\n\nempty lines.",
] * 4

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


LINE = "In 1842 they counted 17 mills, 3 bridges and one inn. By 1850 there were 23 mills. "


def taught_model(tokenizer: Tokenizer) -> Transformer:
    """One with a context of 32 tokens that has learned LINE by heart, in a second."""
    model = Transformer(ModelConfig(tokenizer.vocab_size, 32, 64, 2, 2, 1, 16, max_position_embeddings=32))
    model.init_weights(0)
    ids = torch.tensor(tokenizer.encode(LINE * 8))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for step in range(150):
        places = [(7 * row + step) % (len(ids) - 33) for row in range(8)]
        rows = torch.stack([ids[place : place + 33] for place in places])
        loss = F.cross_entropy(model(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()
