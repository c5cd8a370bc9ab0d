"""A model of any family that goes out as GGUF comes in again as it was; damaged files are refused soon."""

import json
import struct
import time

import pytest
import torch
from checkpoints import KINDS

from crawl2chat.model import ModelConfig, Transformer, load_model, save_model
from crawl2chat.model.rope import RopeScaling
from crawl2chat.release.gguf_file import write_gguf
from crawl2chat.release.gguf_reading import convert_gguf
from crawl2chat.release.importing import import_model
from crawl2chat.stages.files import StageError
from crawl2chat.tokenizer import Tokenizer

gguf = pytest.importorskip("gguf")
FAMILIES = {
    "llama": {"family": "llama", "qk_norm": False},
    "llama with biases": {"family": "llama", "qk_norm": False, "qkv_bias": True, "o_bias": True},
    "llama 3.1": {
        "family": "llama", "qk_norm": False, "rope_theta": 500_000.0,
        "rope_scaling": RopeScaling("llama3", 8.0, 8192),
    },
    "llama, linear": {"family": "llama", "qk_norm": False, "rope_scaling": RopeScaling("linear", 2.0, 64)},
    "mistral": {"family": "mistral", "qk_norm": False, "tie_word_embeddings": False},
    "qwen2": {"family": "qwen2", "qk_norm": False, "qkv_bias": True},
    "qwen3, yarn": {"family": "qwen3", "rope_scaling": RopeScaling("yarn", 4.0, 32)},
}  # fmt: skip


def saved(tokenizer, folder, changes, vocab_size=None):
    config = ModelConfig(
        vocab_size or tokenizer.vocab_size, 32, 64, 2, 4, 2, 16, **{"max_position_embeddings": 64} | changes
    )
    model = Transformer(config)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3 + (parameter.ndim == 1))
    save_model(model, folder, stop_ids=[tokenizer.end_of_turn], pad_id=tokenizer.pad_id)
    tokenizer.save(folder)
    return model.eval()


@pytest.mark.parametrize("name", FAMILIES)
@torch.no_grad()
def test_a_model_comes_back_as_it_went(name, tokenizer, tmp_path):
    model = saved(tokenizer, tmp_path / "model", FAMILIES[name])
    write_gguf(tmp_path / "model", tmp_path / "m.gguf", "float32", name="A model")
    import_model(tmp_path / "m.gguf", tmp_path / "run")
    ids = torch.tensor([tokenizer.encode("In 1842 they counted 17 mills. " * 3)[:60]])
    again = load_model(tmp_path / "run" / "pretrain")
    torch.testing.assert_close(again(ids), model(ids), atol=1e-5, rtol=1e-5)
    read = Tokenizer.load(tmp_path / "run" / "pretrain")
    text = "The miller's daughter, 東京 and 1842 \n\n Don't"
    assert read.encode(text) == tokenizer.encode(text)
    chat = [{"role": "user", "content": "Hello?"}]
    assert read.encode_chat(chat) == tokenizer.encode_chat(chat)
    assert read.stop_ids == tokenizer.stop_ids


def test_a_sentencepiece_tokenizer_comes_back_with_its_ids(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "tokenizer.json").write_text(json.dumps(KINDS["llama 2"]()))
    (tmp_path / "model" / "tokenizer_config.json").write_text(json.dumps({"eos_token": "</s>", "bos_token": "<s>"}))
    tokenizer = Tokenizer.load(tmp_path / "model")
    saved(tokenizer, tmp_path / "model", FAMILIES["llama"])
    write_gguf(tmp_path / "model", tmp_path / "m.gguf", "float32", name="A model")
    convert_gguf(tmp_path / "m.gguf", tmp_path / "again")
    again = Tokenizer.load(tmp_path / "again")
    for text in ("In 1842 they counted 17 mills", " the river  at dawn", "東京 🙂 é", "tabs\tand\n\nempty lines"):
        assert again.encode(text) == tokenizer.encode(text)


IMPOSSIBLE = {
    "windows": ({"family": "mistral", "qk_norm": False, "sliding_window": 8, "sliding_layers": (0, 1)}, "windows of 8"),
    "dynamic": ({"family": "llama", "qk_norm": False, "rope_scaling": RopeScaling("dynamic", 2.0, 64)}, "dynamic"),
}


@pytest.mark.parametrize("what", IMPOSSIBLE)
def test_what_llama_cpp_does_not_do_is_not_written(what, tokenizer, tmp_path):
    changes, told = IMPOSSIBLE[what]
    saved(tokenizer, tmp_path / "model", changes)
    with pytest.raises(StageError, match=told):
        write_gguf(tmp_path / "model", tmp_path / "m.gguf", "float32", name="A model")
    assert not (tmp_path / "m.gguf").exists()


@pytest.fixture(scope="module")
def written(tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("written")
    saved(tokenizer, folder / "model", FAMILIES["llama"])
    write_gguf(folder / "model", folder / "m.gguf", "float32", name="A model")
    return (folder / "m.gguf").read_bytes()


DAMAGE = {
    "no GGUF": (lambda content: b"PK\x03\x04" + content[4:], "not a GGUF file"),
    "of version 1": (lambda content: content[:4] + struct.pack("<I", 1) + content[8:], "GGUF of version 1"),
    "of another byte order": (lambda content: content[:4] + struct.pack(">I", 3) + content[8:], "GGUF of version"),
    "cut in its weights": (lambda content: content[: len(content) * 3 // 4], "cut short"),
    "cut in its metadata": (lambda content: content[:200], "damaged"),
    "of nothing else": (lambda content: content[:8], "damaged"),
    "with 2^60 tensors": (lambda content: content[:8] + struct.pack("<Q", 1 << 60) + content[16:], "claims more"),
    "with 2^60 fields": (lambda content: content[:16] + struct.pack("<Q", 1 << 60) + content[24:], "claims more"),
    "with a name of 2^60 bytes": (lambda content: content[:24] + struct.pack("<Q", 1 << 60) + content[32:], "damaged"),
    "with noise for metadata": (lambda content: content[:24] + bytes(range(256)) * 40 + content[10_264:], "damaged"),
    "of another architecture": (lambda content: content.replace(b"llama", b"mamba"), "holds a mamba; supported are"),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_a_damaged_file_is_refused_soon_and_leaves_nothing(what, written, tmp_path):
    damage, told = DAMAGE[what]
    (tmp_path / "m.gguf").write_bytes(damage(written))
    began = time.process_time()
    with pytest.raises(StageError, match=told):
        import_model(tmp_path / "m.gguf", tmp_path / "run")
    assert time.process_time() - began < 30
    assert not list((tmp_path / "run").iterdir())
