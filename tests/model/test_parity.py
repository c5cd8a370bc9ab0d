"""Our logits are transformers' Qwen3 logits, on the same random weights."""

import json

import pytest
import torch

from crawl2chat.model import ModelConfig, Transformer, load_model, save_model
from crawl2chat.run import StageError

SHAPES = {
    "tied": {"num_attention_heads": 4, "num_key_value_heads": 4, "tie_word_embeddings": True},
    "untied": {"num_attention_heads": 4, "num_key_value_heads": 4, "tie_word_embeddings": False},
    "grouped heads": {"num_attention_heads": 8, "num_key_value_heads": 2, "tie_word_embeddings": True},
}


def random_model(shape: str) -> Transformer:
    config = ModelConfig(
        vocab_size=97, hidden_size=32, intermediate_size=80, num_hidden_layers=3, head_dim=16,
        max_position_embeddings=64, rope_theta=5_000.0, **SHAPES[shape],
    )  # fmt: skip
    model = Transformer(config)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3 + (parameter.ndim == 1))
    return model.eval()


@pytest.fixture(params=SHAPES)
def pair(request, tmp_path):
    transformers = pytest.importorskip("transformers")
    ours = random_model(request.param)
    save_model(ours, tmp_path, stop_ids=[1], pad_id=0)
    theirs = transformers.Qwen3ForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    return ours, theirs, tmp_path


def test_logits_equal_transformers(pair):
    ours, theirs, _ = pair
    ids = torch.randint(97, (2, 40), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(ours(ids), theirs(ids).logits, atol=1e-4, rtol=1e-4)


def test_cached_logits_equal_transformers_without_a_cache(pair):
    ours, theirs, _ = pair
    ids = torch.randint(97, (2, 24), generator=torch.Generator().manual_seed(2))
    cache = ours.new_cache(2, 24)
    with torch.no_grad():
        parts = [ours(ids[:, :10], cache), ours(ids[:, 10:13], cache)]
        parts += [ours(ids[:, i : i + 1], cache) for i in range(13, 24)]
        torch.testing.assert_close(torch.cat(parts, dim=1), theirs(ids).logits, atol=1e-4, rtol=1e-4)


def test_their_saved_model_loads_into_ours(pair):
    ours, theirs, folder = pair
    theirs.save_pretrained(folder / "theirs")
    again = load_model(folder / "theirs")
    ids = torch.arange(20)[None]
    with torch.no_grad():
        torch.testing.assert_close(again(ids), ours(ids), atol=1e-5, rtol=1e-5)


def test_a_model_of_another_shape_is_refused_rather_than_read_wrongly(tmp_path):
    save_model(random_model("tied"), tmp_path, stop_ids=[1], pad_id=0)
    config = json.loads((tmp_path / "config.json").read_text())
    wrong = {
        "model_type": "llama", "use_sliding_window": True, "rope_scaling": {"type": "yarn"},
        "rope_parameters": {"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e6}, "hidden_size": 64,
    }  # fmt: skip
    for name, value in wrong.items():
        (tmp_path / "config.json").write_text(json.dumps(config | {name: value}))
        with pytest.raises(StageError):
            load_model(tmp_path)


def test_padded_prompts_in_one_cache_give_the_logits_they_give_alone():
    model = random_model("grouped heads")
    long, short = torch.arange(1, 13), torch.arange(40, 45)
    padded = torch.zeros(2, 12, dtype=torch.long)
    padded[0], padded[1, :5] = long, short
    cache = model.new_cache(2, 20)
    lengths = torch.tensor([12, 5])
    step = torch.tensor([[50], [60]])
    with torch.no_grad():
        model(padded, cache)
        cache.advance(lengths, 12)
        together = model(step, cache)[:, 0]
        alone_long = model(torch.cat([long, step[0]])[None])[0, -1]
        alone_short = model(torch.cat([short, step[1]])[None])[0, -1]
    torch.testing.assert_close(together, torch.stack([alone_long, alone_short]), atol=1e-5, rtol=1e-5)
