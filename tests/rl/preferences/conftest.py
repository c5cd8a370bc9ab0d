import pytest
import torch

from crawl2chat.model import ModelConfig, Transformer


@pytest.fixture
def model(tokenizer) -> Transformer:
    transformer = Transformer(ModelConfig(tokenizer.vocab_size, 32, 64, 2, 2, 1, 16, max_position_embeddings=96))
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in transformer.parameters():
            if parameter.ndim == 2:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return transformer.eval()
