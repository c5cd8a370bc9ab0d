"""An adapter that peft wrote is imported with its base, and gives peft's logits, also when it is merged for export."""

import json
import shutil

import pytest
import torch

from crawl2chat.cli.main import main
from crawl2chat.model import ModelConfig, Transformer, load_model, save_model
from crawl2chat.release.export import export_folder
from crawl2chat.release.importing import import_model
from crawl2chat.stages.files import StageError
from crawl2chat.stages.stage import read_manifest

IDS = torch.arange(30)[None]
KINDS = {
    "LoRA": {},
    "rsLoRA": {"use_rslora": True, "target_modules": ["q_proj", "down_proj"]},
    "DoRA": {"use_dora": True},
    "patterns": {
        "rank_pattern": {"q_proj": 3, "model.layers.1.mlp.up_proj": 2},
        "alpha_pattern": {"layers.0.self_attn.v_proj": 5},
    },
    "modules to save": {"modules_to_save": ["lm_head", "norm"]},
    "biases": {"bias": "all"},
    "a head": {"target_modules": ["lm_head", "q_proj"]},
}  # fmt: skip


@pytest.fixture(scope="module")
def base(tokenizer, tmp_path_factory):
    """Qwen2, which has biases, with a head of its own."""
    folder = tmp_path_factory.mktemp("base") / "Base-Model"
    config = ModelConfig(
        tokenizer.vocab_size, 32, 48, 2, 4, 2, 8, max_position_embeddings=64, tie_word_embeddings=False,
        family="qwen2", qk_norm=False, qkv_bias=True,
    )  # fmt: skip
    model = Transformer(config)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3 + (parameter.ndim == 1))
    save_model(model, folder, stop_ids=[tokenizer.end_of_turn], pad_id=tokenizer.pad_id)
    tokenizer.save(folder)
    (folder / "LICENSE").write_text("Do as you like.\n")
    return folder


def adapter(base, folder, **options):
    """Write an adapter of any numbers by peft; returns its model."""
    peft, transformers = pytest.importorskip("peft"), pytest.importorskip("transformers")
    model = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    targets = {"target_modules": ["q_proj", "k_proj", "v_proj", "up_proj"]}
    wrapped = peft.get_peft_model(model, peft.LoraConfig(r=4, lora_alpha=9, **targets | options)).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in wrapped.named_parameters():
            if parameter.requires_grad:
                stirred = torch.randn(parameter.shape, generator=generator) * 0.2
                parameter.copy_(stirred.abs() + 0.5 if "magnitude" in name else parameter + stirred)
    wrapped.save_pretrained(folder)
    return wrapped


@pytest.mark.slow  # imports peft and transformers
@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_an_adapter_gives_the_logits_of_peft_imported_and_exported(kind, base, tmp_path):
    theirs = adapter(base, tmp_path / "Adapter", **KINDS[kind])
    expected = theirs(IDS).logits
    import_model(tmp_path / "Adapter", tmp_path / "run")
    torch.testing.assert_close(load_model(tmp_path / "run" / "pretrain")(IDS), expected, atol=1e-4, rtol=1e-4)
    shutil.move(tmp_path / "run", tmp_path / "moved")  # with all that it needs in it
    export_folder(tmp_path / "moved" / "pretrain", tmp_path / "release", name="A model")
    assert not (tmp_path / "release" / "adapter_config.json").exists()
    assert (tmp_path / "release" / "LICENSE").read_text() == "Do as you like.\n"
    torch.testing.assert_close(load_model(tmp_path / "release")(IDS), expected, atol=1e-4, rtol=1e-4)


@pytest.fixture(scope="module")
def plain(base, tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain") / "Adapter"
    adapter(base, folder)
    return folder


@pytest.mark.slow
def test_a_command_imports_an_adapter_on_a_base_that_is_given_and_uses_it(plain, base, tmp_path, capsys):
    change(plain, tmp_path / "A", base_model_name_or_path="/gone/Base-Model")
    run = tmp_path / "run"
    assert main(["import", str(tmp_path / "A"), "--out", str(run)]) == 1
    assert "its base /gone/Base-Model is not here; give --base FOLDER" in capsys.readouterr().err
    assert main(["import", str(tmp_path / "A"), "--base", str(base), "--out", str(run)]) == 0
    assert read_manifest(run / "pretrain").settings == {"source": "A on Base-Model", "tools": False}
    assert main(["generate", str(run), "The miller", "--max-tokens", "3"]) == 0
    chats = tmp_path / "chats.jsonl"
    turns = [{"role": "user", "content": "Is it?"}, {"role": "assistant", "content": "Yes."}]
    chats.write_text("\n".join([json.dumps({"messages": turns})] * 30))
    settings = [
        f"--sft.{name}={value}"
        for name, value in {
            "seq_len": 32,
            "batch_tokens": 64,
            "micro_batch_tokens": 64,
            "epochs": 1,
            "lora.rank": 2,
        }.items()
    ]
    assert main(["sft", str(chats), str(run / "pretrain"), "--out", str(run / "sft"), *settings]) == 0
    assert main(["export", str(run), "--out", str(tmp_path / "release")]) == 0
    assert load_model(tmp_path / "release")(IDS).isfinite().all()


@pytest.mark.slow
def test_an_adapter_with_a_tokenizer_of_its_own_keeps_it(plain, base, tmp_path):
    shutil.copytree(plain, tmp_path / "A")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(base / name, tmp_path / "A" / name)
    (tmp_path / "A" / "chat_template.jinja").write_text("{% for m in messages %}{{ m.content }}{% endfor %}")
    import_model(tmp_path / "A", tmp_path / "run")
    assert (tmp_path / "run" / "pretrain" / "model" / "chat_template.jinja").exists()
    assert not (tmp_path / "run" / "pretrain" / "base" / "chat_template.jinja").exists()


REFUSED = {
    "of another kind": ({"peft_type": "IA3"}, "adapter_config.json: peft_type = 'IA3' is not supported"),
    "whose start changed the base": ({"init_lora_weights": "pissa"}, "init_lora_weights = 'pissa' is not supported"),
    "with a regular expression": ({"rank_pattern": {"(a+)+": 3}}, r"rank_pattern has '\(a\+\)\+'; supported are names"),
    "with another rank": ({"rank_pattern": {"q_proj": 3}}, "has the shapes .* expected .* of its r or rank_pattern"),
    "of a billion ranks": ({"r": 10**30}, "expected a rank and a number"),
    "of no scale": ({"lora_alpha": float("nan")}, "expected a rank and a number"),
    "without a base": ({"base_model_name_or_path": None}, "names no base_model_name_or_path; give --base"),
}


@pytest.mark.slow
@pytest.mark.parametrize("what", REFUSED)
def test_adapters_that_are_not_done_here_are_refused_by_name(what, plain, tmp_path):
    changes, told = REFUSED[what]
    change(plain, tmp_path / "A", **changes)
    with pytest.raises(StageError, match=told):
        import_model(tmp_path / "A", tmp_path / "run")
    assert not (tmp_path / "run" / "pretrain" / "model").exists()


@pytest.mark.slow
def test_an_adapter_on_a_base_of_another_size_or_with_pickled_weights_is_refused(plain, base, tokenizer, tmp_path):
    shutil.copytree(base, tmp_path / "other")
    model = Transformer(ModelConfig(tokenizer.vocab_size, 64, 48, 2, 4, 2, 16, max_position_embeddings=64))
    save_model(model.apply(lambda module: None), tmp_path / "other", stop_ids=[1], pad_id=0)
    with pytest.raises(StageError, match=r"the adapter of model\.layers\.0\.self_attn\.q_proj\.weight has the shapes"):
        import_model(plain, tmp_path / "run", base=tmp_path / "other")
    shutil.copytree(plain, tmp_path / "A")
    (tmp_path / "A" / "adapter_model.safetensors").rename(tmp_path / "A" / "adapter_model.bin")
    with pytest.raises(StageError, match=r"adapter_model\.safetensors: is missing; adapter_model\.bin is a PyTorch"):
        import_model(tmp_path / "A", tmp_path / "run")


def change(folder, to, **values):
    shutil.copytree(folder, to)
    file = to / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))
