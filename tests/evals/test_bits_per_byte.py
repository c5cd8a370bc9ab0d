import math

import pytest
import torch
import torch.nn.functional as F

from crawl2chat.evals.bits_per_byte import bits_per_byte, token_nats, unigram_bits_per_byte
from crawl2chat.model import ModelConfig, Transformer
from crawl2chat.tokenizer.shards import write_tokens

TEXTS = ["The mill stood by the river.", "Nobody knew who had built it, nor when.", "ünï"]


@pytest.fixture
def documents(tokenizer, tmp_path):
    return write_tokens(TEXTS, tokenizer, tmp_path / "tokens")


@pytest.fixture
def model(tokenizer):
    model = Transformer(ModelConfig(tokenizer.vocab_size, 32, 64, 1, 2, 2, 16, max_position_embeddings=8))
    model.init_weights(0)
    return model.eval()


def test_a_model_that_knows_nothing_takes_log2_of_the_vocabulary_a_token(tokenizer, documents, model):
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    n_bytes = sum(len(text.encode()) for text in TEXTS)
    expected = (len(documents.ids) - 1) * math.log2(tokenizer.vocab_size) / n_bytes  # the first token has no context
    assert bits_per_byte(model, documents).value == pytest.approx(expected, rel=1e-5)


def test_each_token_is_scored_once_in_its_row(documents, model):
    nats = token_nats(model, documents)
    assert nats[0] == 0
    ids = torch.tensor(documents.ids.astype(int))
    with torch.no_grad():
        second_row = F.cross_entropy(model(ids[None, 8:16])[0], ids[9:17], reduction="none")
    torch.testing.assert_close(torch.tensor(nats[9:17]).float(), second_row, atol=1e-5, rtol=1e-5)
    assert len(nats) == len(ids)


def test_the_unigram_baseline_is_the_cross_entropy_with_training_frequencies(tokenizer, documents, tmp_path):
    training = write_tokens(["The mill"] * 3, tokenizer, tmp_path / "training")
    counts = torch.bincount(torch.tensor(training.ids.astype(int)), minlength=tokenizer.vocab_size) + 1
    bits = -(counts / counts.sum()).log2()[torch.tensor(documents.ids.astype(int))].sum().item()
    n_bytes = sum(len(text.encode()) for text in TEXTS)
    assert unigram_bits_per_byte(training, documents, tokenizer.vocab_size).value == pytest.approx(
        bits / n_bytes, rel=1e-5
    )
