"""Weights of other people's checkpoints: one file or shards, bf16 or fp32; whatever is not whole is named."""

import json
import shutil

import pytest
import torch
from models import random_model
from safetensors.torch import load_file, save_file

from crawl2chat.model import load_model, save_model
from crawl2chat.model.huggingface import open_weights, read_config
from crawl2chat.model.weights import INDEX, ONE_FILE, save_weights
from crawl2chat.stages.files import StageError

IDS = torch.randint(97, (2, 30), generator=torch.Generator().manual_seed(3))


@pytest.fixture
def folder(tmp_path):
    save_model(random_model("untied"), tmp_path / "whole", stop_ids=[1], pad_id=0)
    return tmp_path / "whole"


@pytest.fixture
def sharded(folder, tmp_path):
    """The same model in shards of 20 kB."""
    weights = open_weights(folder, read_config(folder))
    (tmp_path / "shards").mkdir()
    shutil.copy(folder / "config.json", tmp_path / "shards")
    sizes = {name: 4 * shape.numel() for name, shape in weights.shapes.items()}
    save_weights(tmp_path / "shards", weights.items(), sizes, 20_000)
    return tmp_path / "shards"


def change(file, **tensors):
    """Rewrite a safetensors file with tensors replaced, added or (None) left out."""
    content = load_file(file) | {name.replace("__", "."): tensor for name, tensor in tensors.items()}
    save_file({name: tensor for name, tensor in content.items() if tensor is not None}, file)


def test_shards_hold_what_one_file_holds_within_their_size(folder, sharded):
    files = sorted(sharded.glob("*.safetensors"))
    assert len(files) > 3
    assert max(sum(t.nbytes for t in load_file(file).values()) for file in files) <= 20_000
    index = json.loads((sharded / INDEX).read_text())
    assert {name: load_file(sharded / file)[name].shape for name, file in index["weight_map"].items()} == {
        name: tensor.shape for name, tensor in load_file(folder / ONE_FILE).items()
    }
    with torch.no_grad():
        assert torch.equal(load_model(sharded)(IDS), load_model(folder)(IDS))


def test_transformers_loads_our_shards(sharded):
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(sharded).eval()
    with torch.no_grad():
        torch.testing.assert_close(load_model(sharded)(IDS), theirs(IDS).logits, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("shape", ["tied", "grouped heads", "untied"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_we_load_the_shards_of_transformers(shape, dtype, tmp_path):
    transformers = pytest.importorskip("transformers")
    save_model(random_model(shape), tmp_path / "ours", stop_ids=[1], pad_id=0)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "ours", dtype=dtype).eval()
    theirs.save_pretrained(tmp_path / "theirs", max_shard_size="20KB")
    assert (tmp_path / "theirs" / INDEX).exists()
    assert open_weights(tmp_path / "theirs", read_config(tmp_path / "theirs")).stored_dtype() == dtype
    with torch.no_grad():
        again = load_model(tmp_path / "theirs")(IDS)
        torch.testing.assert_close(again, theirs.float()(IDS).logits, atol=1e-4, rtol=1e-4)


def test_a_tied_model_is_tied_again_after_loading_and_learns_as_one(tmp_path):
    save_model(random_model("tied"), tmp_path, stop_ids=[1], pad_id=0)
    model = load_model(tmp_path)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert all(parameter.requires_grad and not parameter.is_meta for parameter in model.parameters())
    before = (tmp_path / ONE_FILE).read_bytes()
    with torch.no_grad():
        model.lm_head.weight.add_(1)
    assert (tmp_path / ONE_FILE).read_bytes() == before


def test_missing_shards_are_named(sharded):
    second = sorted(sharded.glob("*.safetensors"))[1]
    second.unlink()
    with pytest.raises(StageError, match=f"1 of the .* shards .* missing: {second.name}"):
        load_model(sharded)


@pytest.mark.parametrize("kept", [5, 100, -1])
def test_a_file_that_is_cut_short_is_named(sharded, kept):
    first = sorted(sharded.glob("*.safetensors"))[0]
    first.write_bytes(first.read_bytes()[:kept])
    with pytest.raises(StageError, match=f"{first.name}: can't be read, perhaps cut short"):
        load_model(sharded)


@pytest.mark.parametrize(
    ("tensors", "told"),
    [
        ({"model__norm__weight": None}, r"missing \(1\): model.norm.weight"),
        ({"model__rotary__inv_freq": torch.ones(3)}, r"superfluous \(1\): model.rotary.inv_freq"),
        ({"model__norm__weight": torch.ones(31)}, r"another shape \(1\): model.norm.weight \[31\], expected \[32\]"),
        ({"model__norm__weight": torch.ones(32, dtype=torch.int8)}, "model.norm.weight is of type I8"),
    ],
)
def test_tensors_that_do_not_fit_are_named(folder, tensors, told):
    change(folder / ONE_FILE, **tensors)
    with pytest.raises(StageError, match=told):
        load_model(folder)


def test_a_tensor_in_two_shards_is_named(sharded):
    change(sorted(sharded.glob("*.safetensors"))[0], model__norm__weight=torch.ones(32))
    with pytest.raises(StageError, match=r"model\.norm\.weight is in .* and in "):
        load_model(sharded)


def test_a_tied_checkpoint_may_hold_its_head_if_it_is_the_embedding(tmp_path):
    save_model(random_model("tied"), tmp_path, stop_ids=[1], pad_id=0)
    embedding = load_file(tmp_path / ONE_FILE)["model.embed_tokens.weight"]
    change(tmp_path / ONE_FILE, lm_head__weight=embedding.clone())
    load_model(tmp_path)
    change(tmp_path / ONE_FILE, lm_head__weight=embedding + 1)
    with pytest.raises(StageError, match="ties the head to the embedding, but lm_head.weight differs"):
        load_model(tmp_path)


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 988097824\n"
WRONG_FILES = {
    "is a Git LFS pointer, not the file: run git lfs pull": POINTER,
    "is empty: download it again": b"",
    "is a web page, .*<!DOCTYPE html>": b"<!DOCTYPE html>\n<title>404</title>",
    "is a text that begins with 'Invalid username or password.'": b"Invalid username or password.",
}


@pytest.mark.parametrize("told", WRONG_FILES)
@pytest.mark.parametrize("name", ["config.json", ONE_FILE, INDEX, "a shard"])
def test_what_a_download_left_instead_of_a_file_is_named(folder, sharded, name, told):
    place = folder if name in ("config.json", ONE_FILE) else sharded
    file = place / name if name != "a shard" else sorted(place.glob("*.safetensors"))[1]
    file.write_bytes(WRONG_FILES[told])
    with pytest.raises(StageError, match=f"{file.name}: {told}"):
        load_model(place)


def test_other_formats_under_the_name_of_weights_are_named(folder):
    torch.save({"weight": torch.ones(3)}, folder / ONE_FILE)
    with pytest.raises(StageError, match="is a PyTorch checkpoint, not safetensors; load it with transformers"):
        load_model(folder)
    torch.save({"weight": torch.ones(3)}, folder / ONE_FILE, _use_new_zipfile_serialization=False)
    with pytest.raises(StageError, match="is a PyTorch checkpoint"):
        load_model(folder)
    (folder / ONE_FILE).write_bytes(b"GGUF\x03\0\0\0")
    with pytest.raises(StageError, match="is a GGUF file"):
        load_model(folder)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_value_that_is_no_number_is_named_with_its_tensor(folder, dtype, value):
    weights = {name: tensor.to(dtype) for name, tensor in load_file(folder / ONE_FILE).items()}
    save_file(weights, folder / ONE_FILE)
    load_model(folder)
    weights["model.layers.1.mlp.up_proj.weight"][2, 3] = value
    save_file(weights, folder / ONE_FILE)
    with pytest.raises(StageError, match=r"model\.layers\.1\.mlp\.up_proj\.weight holds NaN or infinite values"):
        load_model(folder)


def test_a_tied_head_of_nan_is_called_that(tmp_path):
    save_model(random_model("tied"), tmp_path, stop_ids=[1], pad_id=0)
    embedding = load_file(tmp_path / ONE_FILE)["model.embed_tokens.weight"] * float("nan")
    change(tmp_path / ONE_FILE, lm_head__weight=embedding.clone(), model__embed_tokens__weight=embedding)
    with pytest.raises(StageError, match="lm_head.weight holds NaN or infinite values"):
        load_model(tmp_path)


def rewrite_config(folder, encoding="utf-8", **values):
    config = json.loads((folder / "config.json").read_text(encoding="utf-8-sig")) | values
    config = {name: value for name, value in config.items() if value != "absent"}
    (folder / "config.json").write_text(json.dumps(config), encoding=encoding)


@pytest.mark.parametrize(
    ("values", "field", "meant"),
    [
        ({"head_dim": "absent"}, "head_dim", 128),
        ({"head_dim": None}, "head_dim", 128),
        ({"max_position_embeddings": "absent"}, "max_position_embeddings", 32768),
        ({"tie_word_embeddings": "absent"}, "tie_word_embeddings", False),
        ({"tie_word_embeddings": None}, "tie_word_embeddings", False),
        ({"rms_norm_eps": "absent"}, "rms_norm_eps", 1e-6),
        ({"num_key_value_heads": None}, "num_key_value_heads", 4),
    ],
)
def test_what_a_config_does_not_say_is_what_transformers_takes_it_to_mean(folder, values, field, meant):
    rewrite_config(folder, num_attention_heads=4, **values)
    assert getattr(read_config(folder), field) == meant
    transformers = pytest.importorskip("transformers")
    if values[field] == "absent":
        assert getattr(transformers.AutoConfig.from_pretrained(folder), field) == meant


def test_a_config_without_a_size_is_named_and_one_with_a_byte_order_mark_is_read(folder):
    rewrite_config(folder, encoding="utf-8-sig")
    load_model(folder)
    rewrite_config(folder, vocab_size="absent", hidden_size="absent")
    with pytest.raises(StageError, match=r"config\.json: has no vocab_size, hidden_size"):
        read_config(folder)


def test_pickled_weights_and_a_broken_index_are_told(folder):
    (folder / ONE_FILE).rename(folder / "pytorch_model.bin")
    with pytest.raises(
        StageError, match=r"pytorch_model\.bin is a PyTorch checkpoint, not safetensors; load it with transformers"
    ):
        load_model(folder)
    (folder / INDEX).write_text("[]")
    with pytest.raises(StageError, match="expected a JSON object, found list"):
        load_model(folder)
    (folder / INDEX).write_text('{"weight_map": {"model.norm.weight": "../elsewhere.safetensors"}}')
    with pytest.raises(StageError, match="missing"):
        load_model(folder)
