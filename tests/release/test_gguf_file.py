"""GGUF holds our weights and our vocabulary, and llama.cpp reads the same ids and logits out of it."""

import random
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import torch

from crawl2chat.model import load_model
from crawl2chat.model.huggingface import open_weights, read_config
from crawl2chat.release.gguf_file import write_gguf
from crawl2chat.release.importing import TEXTS
from crawl2chat.stages.files import StageError
from crawl2chat.tokenizer import Tokenizer
from crawl2chat.tokenizer.huggingface import printable
from crawl2chat.tokenizer.tokenizer import CONTROL_TOKENS

gguf = pytest.importorskip("gguf")
ROUNDING = {"float32": 0, "float16": 2**-11, "bfloat16": 2**-8, "q8_0": 2**-7}  # of the largest of a tensor
NAMES = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def theirs(name: str) -> str:
    for ours, other in NAMES.items():
        name = name.replace(ours, other)
    return name.replace("model.layers.", "blk.")


def written(folder: Path, file: Path, kind: str = "float32") -> Path:
    write_gguf(folder / "model", file, kind, name="A model", licence="mit")
    return file


@pytest.mark.parametrize("kind", ROUNDING)
def test_every_tensor_reads_back(stage_folder, tmp_path, kind):
    reader = gguf.GGUFReader(written(stage_folder, tmp_path / "m.gguf", kind))
    place = stage_folder / "model"
    weights = dict(open_weights(place, read_config(place)).items())
    assert {tensor.name for tensor in reader.tensors} == {theirs(name) for name in weights}
    stored = {tensor.name: tensor for tensor in reader.tensors}
    for name, tensor in weights.items():
        found = stored[theirs(name)]
        values = gguf.quants.dequantize(found.data, found.tensor_type).reshape(tensor.shape)
        tolerance = ROUNDING[kind] * float(tensor.abs().max()) if tensor.ndim == 2 else 0
        np.testing.assert_allclose(values, tensor.numpy(), rtol=0, atol=tolerance)


def field(reader, name):
    return reader.get_field(name).contents()


def test_the_vocabulary_reads_back(stage_folder, tmp_path):
    tokenizer = Tokenizer.load(stage_folder)
    reader = gguf.GGUFReader(written(stage_folder, tmp_path / "m.gguf"))
    tokens, types = field(reader, "tokenizer.ggml.tokens"), field(reader, "tokenizer.ggml.token_type")
    assert {token: tokens[id] for token, id in tokenizer.ranks.items()} == {t: printable(t) for t in tokenizer.ranks}
    assert {name: tokens[id] for name, id in tokenizer.controls.items()} == {name: name for name in tokenizer.controls}
    assert [types[id] for id in tokenizer.ranks.values()] == [gguf.TokenType.NORMAL] * len(tokenizer.ranks)
    assert [types[id] for id in tokenizer.controls.values()] == [gguf.TokenType.CONTROL] * len(tokenizer.controls)
    merges = [f"{printable(left)} {printable(right)}" for left, right in tokenizer.merges]
    assert field(reader, "tokenizer.ggml.merges") == merges
    assert field(reader, "tokenizer.chat_template") == tokenizer.chat_template
    assert field(reader, "tokenizer.ggml.pre") == "qwen2"
    assert field(reader, "tokenizer.ggml.eos_token_id") == tokenizer.end_of_turn
    assert field(reader, "tokenizer.ggml.padding_token_id") == tokenizer.end_of_text
    assert field(reader, "general.license") == "mit"
    assert field(reader, "qwen3.context_length") == 64


def test_tags_that_are_to_be_shown_and_ids_without_a_token_are_marked(checkpoint, tmp_path, capsys):
    assert write_gguf(checkpoint, tmp_path / "m.gguf", name="A model") == "bfloat16"  # as it is stored
    assert "does not compose Unicode (NFC)" in capsys.readouterr().err
    reader, tokenizer = gguf.GGUFReader(tmp_path / "m.gguf"), Tokenizer.load(checkpoint)
    assert {t.tensor_type for t in reader.tensors if len(t.shape) == 2} == {gguf.GGMLQuantizationType.BF16}
    types = field(reader, "tokenizer.ggml.token_type")
    assert types[tokenizer.controls["<tool_call>"]] == gguf.TokenType.USER_DEFINED
    assert types[tokenizer.end_of_turn] == gguf.TokenType.CONTROL
    assert types[tokenizer.vocab_size :] == [gguf.TokenType.UNUSED] * 3
    assert field(reader, "tokenizer.chat_template") == tokenizer.chat_template


def test_a_tokenizer_that_llama_cpp_would_split_otherwise_is_refused(stage_folder, tmp_path):
    content = (stage_folder / "model" / "tokenizer.json").read_text()
    folder = tmp_path / "model"
    folder.mkdir()
    for file in (stage_folder / "model").iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    (folder / "tokenizer.json").write_text(content.replace(r"|\\p{N}|", r"|\\p{N}{1,4}|"))
    with pytest.raises(StageError, match="llama.cpp knows Qwen2's pattern by name"):
        write_gguf(folder, tmp_path / "m.gguf", "float32", name="A model")
    assert [file.name for file in tmp_path.iterdir()] == ["model"]


def test_weights_too_large_for_half_precision_are_refused(stage_folder, tmp_path):
    model, tokenizer = load_model(stage_folder), Tokenizer.load(stage_folder)
    with torch.no_grad():
        model.model.layers[0].mlp.up_proj.weight[0, 0] = 70_000
    from crawl2chat.train.pretrain import save_stage_model

    save_stage_model(model, tokenizer, tmp_path)
    with pytest.raises(StageError, match=r"up_proj.weight holds 70000.0, which F16 can't"):
        written(tmp_path, tmp_path / "m.gguf", "float16")
    written(tmp_path, tmp_path / "m.gguf", "bfloat16")


def test_what_is_there_already_is_never_written_over(stage_folder, tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter.txt").write_text("Dear Zoë")
    for file in (tmp_path / "home", tmp_path / "home" / "letter.txt"):
        with pytest.raises(StageError, match="exists already; give --gguf a new file"):
            written(stage_folder, file)
    assert (tmp_path / "home" / "letter.txt").read_text() == "Dear Zoë"


def opened(file: Path):
    """llama.cpp with the model in a file, and its cache as exact as its weights."""
    llama_cpp = pytest.importorskip("llama_cpp", reason="llama-cpp-python has to be compiled; see docs/decisions.md")
    exact = {"type_k": llama_cpp.GGML_TYPE_F32, "type_v": llama_cpp.GGML_TYPE_F32}
    return llama_cpp.Llama(str(file), n_ctx=64, n_threads=1, logits_all=True, verbose=False, **exact)


@pytest.fixture
def llama(stage_folder, tmp_path):
    llama = opened(written(stage_folder, tmp_path / "m.gguf"))
    yield llama
    llama.close()


def test_llama_cpp_gives_our_ids(llama, stage_folder):
    tokenizer, rng = Tokenizer.load(stage_folder), random.Random(0)
    pieces = [
        *CONTROL_TOKENS, "<|", "|>", " ", "  ", "\n", "\r\n", "\t", "é", "e\u0301", "東", "🙂", "7", "12", "'S", "'ll",
        "ſ", "the ", "Mill", "İ", "\u00a0", "\u3000", "_", "--", "½", "٣",
    ]  # fmt: skip
    made = ("".join(rng.choices(pieces, k=rng.randint(1, 12))) for _ in range(500))
    for text in [*TEXTS, *made]:
        assert llama.tokenize(text.encode(), add_bos=False, special=False) == tokenizer.encode(text)
        with_controls = tokenizer.encoding.encode(text, allowed_special="all")
        assert llama.tokenize(text.encode(), add_bos=False, special=True) == with_controls


def test_llama_cpp_gives_our_logits_and_greedy_continuation(llama, stage_folder):
    model, tokenizer = load_model(stage_folder), Tokenizer.load(stage_folder)
    prompt = tokenizer.encode("The miller's daughter went down")[:24]
    llama.eval(prompt)
    with torch.no_grad():
        ours = model(torch.tensor([prompt]))[0]
        torch.testing.assert_close(torch.tensor(np.array(llama.scores[: len(prompt)])), ours, atol=2e-3, rtol=2e-3)
        ids = list(prompt)
        for _ in range(20):
            ids.append(int(model(torch.tensor([ids]))[0, -1].argmax()))
    llama.reset()
    theirs = llama.generate(prompt, temp=0.0, top_k=1, repeat_penalty=1.0)
    assert [next(theirs) for _ in range(20)] == ids[len(prompt) :]


def test_llama_cpp_gives_our_ids_of_an_imported_model(checkpoint, tmp_path):
    """One merge a token, tags that are no control tokens, a padded vocabulary; texts whose Unicode is composed."""
    write_gguf(checkpoint, tmp_path / "m.gguf", name="A model")
    tokenizer, llama = Tokenizer.load(checkpoint), opened(tmp_path / "m.gguf")
    for text in TEXTS:
        composed = unicodedata.normalize("NFC", text).replace("<t", "< t").replace("</t", "</ t")
        assert llama.tokenize(composed.encode(), add_bos=False, special=False) == tokenizer.encode(composed)
        with_controls = tokenizer.encoding.encode(unicodedata.normalize("NFC", text), allowed_special="all")
        assert llama.tokenize(unicodedata.normalize("NFC", text).encode(), add_bos=False, special=True) == with_controls
    llama.close()
