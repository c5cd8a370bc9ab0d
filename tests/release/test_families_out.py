"""A model of each family, with a tokenizer and a chat template of its kind, goes out as it came in."""

import json

import pytest
import torch
from checkpoints import CHATML, KINDS, LLAMA_2, LLAMA_3, MISTRAL, QWEN_3
from safetensors.torch import load_file

from crawl2chat.model import load_model
from crawl2chat.release.export import export_folder
from crawl2chat.release.gguf_file import write_gguf
from crawl2chat.release.importing import import_model
from crawl2chat.release.verify import verify_release
from crawl2chat.tokenizer import Tokenizer
from crawl2chat.tokenizer.huggingface import LLAMA3_PATTERN, QWEN2_PATTERN
from crawl2chat.train.pretrain import save_stage_model

transformers = pytest.importorskip("transformers")
SMALL = {
    "hidden_size": 64, "intermediate_size": 80, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 64, "initializer_range": 0.15,
}  # fmt: skip
LLAMA_31 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}  # fmt: skip
FAMILIES = {  # family, changes to SMALL, kind of tokenizer (or its split pattern), chat template, its end of a turn
    "Llama 2": ("llama", {"num_key_value_heads": 4}, "llama 2", LLAMA_2, "</s>"),
    "Llama 3": ("llama", {"rope_theta": 5e5}, LLAMA3_PATTERN, LLAMA_3, "<|eot_id|>"),
    "Llama 3.1": ("llama", {"rope_scaling": LLAMA_31}, LLAMA3_PATTERN, LLAMA_3, "<|eot_id|>"),
    "Mistral": ("mistral", {"sliding_window": None}, "mistral", MISTRAL, "</s>"),
    "Qwen2": ("qwen2", {"tie_word_embeddings": True}, QWEN2_PATTERN, CHATML, "<|im_end|>"),
    "Qwen3": ("qwen3", {"head_dim": 16}, QWEN2_PATTERN, QWEN_3, "<|im_end|>"),
    "SmolLM2": ("llama", {"num_attention_heads": 2, "tie_word_embeddings": True}, "smollm2", CHATML, "<|im_end|>"),
}  # fmt: skip
TURNS = ("<|im_start|>", "<|im_end|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>")
GENERATION = {"temperature": 0.6, "top_p": 0.9, "do_sample": True, "_from_model_config": False}
TEXTS = ["In 1842 they counted 17 mills", " the river  at dawn", "東京 🙂 é Don't", "tabs\tand\n\nempty lines", "<s>"]
CHATS = [
    [{"role": "user", "content": "Hello there?"}],
    [
        {"role": "user", "content": "Hello?"}, {"role": "assistant", "content": "Yes."},
        {"role": "user", "content": "Where?"},
    ],
]  # fmt: skip


def their_tokenizer(kind, tokenizer):
    if kind in KINDS:
        content = KINDS[kind]()
    else:
        content = tokenizer.to_huggingface()
        content["added_tokens"] = []
        content["normalizer"] = {"type": "NFC"} if kind == QWEN2_PATTERN else None
        content["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = kind
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    free = 1 + max([*content["model"]["vocab"].values(), *(t["id"] for t in content["added_tokens"])])
    there = {token["content"] for token in content["added_tokens"]}
    names = [name for name in ("<unk>", "<s>", "</s>", *TURNS) if name not in there]
    content["added_tokens"] += [{"id": free + i, "content": name, **flags} for i, name in enumerate(names)]
    return content


@pytest.fixture(scope="module", params=FAMILIES)
def checkpoint(request, tokenizer, tmp_path_factory):
    family, changes, kind, template, end = FAMILIES[request.param]
    folder = tmp_path_factory.mktemp("theirs") / "model"
    content = their_tokenizer(kind, tokenizer)
    ids = {token["content"]: token["id"] for token in content["added_tokens"]}
    sizes = {"vocab_size": 1 + max(ids.values()), "bos_token_id": ids["<s>"], "eos_token_id": ids[end]}
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(family, **SMALL | {"pad_token_id": ids["<unk>"]} | sizes | changes)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(folder, max_shard_size="50KB")
    (folder / "generation_config.json").write_text(json.dumps(GENERATION | {"eos_token_id": [ids[end]]}))
    (folder / "tokenizer.json").write_text(json.dumps(content))
    (folder / "tokenizer_config.json").write_text(json.dumps({
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": end, "unk_token": "<unk>",
        "pad_token": "<unk>", "chat_template": template, "clean_up_tokenization_spaces": False,
    }))  # fmt: skip
    (folder / "LICENSE").write_text("Do as you like.\n")
    run = folder.parent / "run"
    import_model(folder, run)
    return folder, run


def tensors_of(folder):
    return {name: t for file in folder.glob("*.safetensors") for name, t in load_file(file).items()}


def test_an_export_holds_what_came_in_and_is_the_same_in_transformers(checkpoint, tmp_path):
    folder, run = checkpoint
    export_folder(
        run / "pretrain", tmp_path / "release", name="A model", licence="mit", data_licence="mit", statement="Made up."
    )
    before, after = tensors_of(folder), tensors_of(tmp_path / "release")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) and before[name].dtype == after[name].dtype for name in before)
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json", "config.json"):
        ours, theirs = (json.loads((place / name).read_text()) for place in (tmp_path / "release", folder))
        assert ours | {"dtype": 0, "torch_dtype": 0} == theirs | {"dtype": 0, "torch_dtype": 0}
    assert [check for check in verify_release(tmp_path / "release") if not check.ok] == []


def test_training_keeps_the_family_and_how_generation_is_set(checkpoint, tmp_path):
    folder, run = checkpoint
    save_stage_model(load_model(run / "pretrain"), Tokenizer.load(run / "pretrain"), tmp_path / "stage")
    trained = tmp_path / "stage" / "model"
    for name in ("generation_config.json", "tokenizer.json"):
        assert json.loads((trained / name).read_text()) == json.loads((folder / name).read_text())
    kept = {"dtype": 0, "torch_dtype": 0}
    ours, theirs = (json.loads((place / "config.json").read_text()) | kept for place in (trained, folder))
    assert ours == theirs
    transformers.AutoModelForCausalLM.from_pretrained(trained)


@torch.no_grad()
def test_a_gguf_file_comes_back_with_the_same_logits_ids_and_chats(checkpoint, tmp_path):
    pytest.importorskip("gguf")
    folder, run = checkpoint
    write_gguf(folder, tmp_path / "m.gguf", name="A model")
    import_model(tmp_path / "m.gguf", tmp_path / "again")
    model, again = load_model(run / "pretrain"), load_model(tmp_path / "again" / "pretrain")
    ids = torch.arange(1, 60)[None]
    torch.testing.assert_close(again(ids), model(ids), atol=1e-5, rtol=1e-5)
    assert again.config.family == model.config.family or again.config.family == "llama"  # GGUF calls Mistral so
    ours, theirs = Tokenizer.load(tmp_path / "again" / "pretrain"), Tokenizer.load(folder)
    first_only = "Metaspace" in (folder / "tokenizer.json").read_text()  # a space that llama.cpp puts everywhere
    for text in TEXTS:
        assert ours.encode(text) == theirs.encode(text) or (first_only and text.startswith(" "))
    assert (ours.end_of_turn, ours.chat_template) == (theirs.end_of_turn, theirs.chat_template)
    for chat in CHATS:
        found, expected = (t.encode_chat(chat, add_generation_prompt=True) for t in (ours, theirs))
        assert found == expected or first_only


def test_two_imports_of_one_gguf_file_are_one(checkpoint, tmp_path):
    pytest.importorskip("gguf")
    write_gguf(checkpoint[0], tmp_path / "m.gguf", name="A model")
    assert import_model(tmp_path / "m.gguf", tmp_path / "run")[1]
    assert not import_model(tmp_path / "m.gguf", tmp_path / "run")[1]
    export_folder(tmp_path / "run" / "pretrain", tmp_path / "release", name="A model")
    assert "m.gguf" in (tmp_path / "release" / "README.md").read_text()
