"""Our logits are transformers' Qwen3 logits, on the same random weights."""

import json

import pytest
import torch
from models import SHAPES, random_model

from crawl2chat.model import load_model, save_model
from crawl2chat.stages.files import StageError


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


def test_their_saved_model_loads_into_ours(pair):
    ours, theirs, folder = pair
    theirs.save_pretrained(folder / "theirs")
    again = load_model(folder / "theirs")
    ids = torch.arange(20)[None]
    with torch.no_grad():
        torch.testing.assert_close(again(ids), ours(ids), atol=1e-5, rtol=1e-5)


PLAIN_ROPE = {
    "transformers 4": {"rope_theta": 5e3, "rope_scaling": None},
    "transformers 4, spelt out": {"rope_theta": 5e3, "rope_scaling": {"type": "default"}},
    "transformers 5": {"rope_theta": None, "rope_parameters": {"rope_type": "default", "rope_theta": 5e3}},
}


@pytest.mark.parametrize("spelling", PLAIN_ROPE)
def test_the_base_of_rope_is_read_from_either_spelling(spelling, tmp_path):
    model = random_model("untied")
    save_model(model, tmp_path, stop_ids=[1], pad_id=0)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | PLAIN_ROPE[spelling]))
    assert load_model(tmp_path).config == model.config


WRONG = {
    "model_type": ("gpt2", "model_type is 'gpt2', expected one of llama"),
    "quantization_config": ({"quant_method": "fp8"}, "quantization_config = .*quantised checkpoints are not supported"),
    "hidden_act": ("gelu", "hidden_act = 'gelu' is not supported"),
    "hidden_size": (64, "its weights don't fit its config.json"),
    "head_dim": (None, "its weights don't fit its config.json"),  # without one it is 128, as in transformers
    "num_key_value_heads": (3, "not a usable config of qwen3"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_model_of_another_shape_is_refused_rather_than_read_wrongly(name, tmp_path):
    save_model(random_model("tied"), tmp_path, stop_ids=[1], pad_id=0)
    config = json.loads((tmp_path / "config.json").read_text())
    value, told = WRONG[name]
    (tmp_path / "config.json").write_text(json.dumps(config | {name: value}))
    with pytest.raises(StageError, match=told):
        load_model(tmp_path)
