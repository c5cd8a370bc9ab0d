"""Other people's checkpoints become a run's base model, whole and unchanged, or are refused with the reason."""

import json
import shutil

import pytest
import torch
from models import random_model
from safetensors.torch import load_file, save_file
from warcs import page_record, write_warc

from crawl2chat.cli.main import main
from crawl2chat.model import load_model, save_model
from crawl2chat.release.export import export_folder
from crawl2chat.release.importing import import_model
from crawl2chat.stages.files import StageError
from crawl2chat.stages.pipeline import Recipe, run_pipeline
from crawl2chat.stages.stage import read_manifest
from crawl2chat.tokenizer import Tokenizer

CHATS = [
    {"messages": [{"role": "user", "content": f"Are there {n} mills?"}, {"role": "assistant", "content": "Yes."}]}
    for n in range(30)
]
SMALL = {"seq_len": 64, "batch_tokens": 128, "micro_batch_tokens": 128, "compile": "off", "epochs": 1}


@pytest.fixture
def run(checkpoint, tmp_path):
    import_model(checkpoint, tmp_path / "run")
    return tmp_path / "run"


def test_what_is_imported_gives_the_logits_of_transformers(checkpoint, run):
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32).eval()
    ids = torch.arange(40)[None]
    with torch.no_grad():
        torch.testing.assert_close(load_model(run / "pretrain")(ids), theirs(ids).logits, atol=1e-4, rtol=1e-4)


def test_ids_equal_those_of_transformers(checkpoint, run):
    transformers = pytest.importorskip("transformers")
    theirs, ours = transformers.AutoTokenizer.from_pretrained(checkpoint), Tokenizer.load(run / "pretrain")
    for text in ("The miller's  daughter, e\u0301té 1842", "東京 🙂\r\n\tx", " we'll"):
        assert ours.encode(text) == theirs.encode(text, add_special_tokens=False)


def test_the_manifest_says_where_it_came_from(checkpoint, run):
    manifest = read_manifest(run / "pretrain")
    assert manifest.stage == "import"
    assert manifest.settings == {"source": "Their-Model-0.1B", "tools": False}
    assert manifest.figures["parameters"]["value"] == sum(p.numel() for p in load_model(checkpoint).parameters())
    assert set(manifest.outputs) >= {"model/config.json", "model/tokenizer.json", "model/LICENSE", "model/README.md"}
    assert import_model(checkpoint, run) == (manifest, False)
    (checkpoint / "LICENSE").write_text("Do not.\n")
    again, ran = import_model(checkpoint, run)
    assert ran
    assert again.inputs != manifest.inputs


def test_an_imported_model_generates_counts_tokens_and_is_fine_tuned(run, tmp_path, capsys):
    assert main(["generate", str(run), "The miller", "--max-tokens", "3"]) == 0
    assert main(["tokens", str(run), "The miller"]) == 0
    chats = tmp_path / "chats.jsonl"
    chats.write_text("\n".join(map(json.dumps, CHATS)))
    settings = [f"--sft.{name}={value}" for name, value in SMALL.items()]
    assert main(["sft", str(chats), str(run / "pretrain"), "--out", str(run / "sft"), *settings]) == 0
    assert main(["export", str(run), "--out", str(tmp_path / "release")]) == 0
    told = capsys.readouterr().out
    assert "The miller" in told
    card = (tmp_path / "release" / "README.md").read_text()
    assert "import → sft" in card
    assert "Their-Model-0.1B" in card
    assert (tmp_path / "release" / "LICENSE").read_text() == "Do as you like.\n"
    before, after = (Tokenizer.load(folder) for folder in (run / "pretrain", tmp_path / "release"))
    assert after.files == before.files


@pytest.mark.slow
def test_a_run_goes_on_from_an_imported_model(run, tmp_path):
    chats = tmp_path / "chats.jsonl"
    chats.write_text("\n".join(map(json.dumps, CHATS)))
    write_warc(tmp_path / "pages.warc", [page_record(i) for i in range(12)], "plain")
    recipe = Recipe.model_validate(
        {
            "until": "sft",
            "conversations": str(chats),
            "crawl": {"source": "warc", "warc": str(tmp_path / "pages.warc")},
            "refine": {"workers": 1},
            "sft": SMALL,
        }
    )
    inherited = read_manifest(run / "pretrain")
    results = {result.manifest.stage: result for result in run_pipeline(recipe, run)}
    assert list(results) == ["crawl", "refine", "import", "sft"]
    assert results["import"].manifest == inherited
    assert not results["import"].ran
    assert results["sft"].manifest.inputs["pretrain"] == inherited.hash
    again = {result.manifest.stage: result.ran for result in run_pipeline(recipe, run, first="sft")}
    assert again == {"crawl": False, "refine": False, "import": False, "sft": True}
    with pytest.raises(StageError, match="holds an imported model, so --from pretrain has nothing to do"):
        list(run_pipeline(recipe, run, first="pretrain"))


def test_a_missing_chat_template_is_told_and_a_broken_one_refused(checkpoint, tmp_path, capsys):
    import_model(checkpoint, tmp_path / "own")
    assert capsys.readouterr().err == ""
    (checkpoint / "chat_template.jinja").unlink()  # ours then stands in for none
    config = checkpoint / "tokenizer_config.json"
    config.write_text(json.dumps({k: v for k, v in json.loads(config.read_text()).items() if k != "chat_template"}))
    import_model(checkpoint, tmp_path / "none")
    assert "no chat template, so conversations are written as ChatML" in capsys.readouterr().err
    for i, (broken, told) in enumerate({"raise_exception('no')": "no", "'a' + 1": "can only concatenate"}.items()):
        (checkpoint / "chat_template.jinja").write_text("{{ " + broken + " }}")
        with pytest.raises(StageError, match=f"chat template refuses this conversation: {told}"):
            import_model(checkpoint, tmp_path / f"broken-{i}")


def test_a_template_without_tools_is_made_to_offer_them_on_request(checkpoint, tmp_path, capsys):
    assert main(["import", str(checkpoint), "--out", str(tmp_path / "run")]) == 0
    assert not Tokenizer.load(tmp_path / "run" / "pretrain").template.reads_tools
    assert main(["import", str(checkpoint), "--tools", "--out", str(tmp_path / "run")]) == 0
    tokenizer = Tokenizer.load(tmp_path / "run" / "pretrain")
    assert tokenizer.template.reads_tools
    tokenizer.save(tmp_path / "again")
    assert Tokenizer.load(tmp_path / "again").chat_template == tokenizer.chat_template
    assert main(["import", str(tmp_path / "run" / "pretrain"), "--tools", "--out", str(tmp_path / "more")]) == 1
    assert "offers tools already" in capsys.readouterr().err


def test_a_path_that_is_no_folder_is_named(tmp_path, capsys):
    assert main(["import", str(tmp_path / "absent"), "--out", str(tmp_path / "run")]) == 1
    assert capsys.readouterr().err.strip() == f"import: {tmp_path / 'absent'} is not a folder"
    assert not (tmp_path / "run").exists()


def test_deeply_nested_and_huge_configs_are_refused(checkpoint, tmp_path):
    (checkpoint / "config.json").write_text("[" * 1_000_000)
    with pytest.raises(StageError, match=r"config\.json: not readable JSON"):
        import_model(checkpoint, tmp_path / "run")
    (checkpoint / "config.json").write_text(" " * 16_000_001)
    with pytest.raises(StageError, match=r"config\.json: has 16,000,001 bytes; expected at most"):
        import_model(checkpoint, tmp_path / "run")


def test_a_text_that_links_out_of_the_folder_is_not_copied(checkpoint, tmp_path):
    (tmp_path / "secret").write_text("mine")
    (checkpoint / "README.md").unlink()
    (checkpoint / "README.md").symlink_to(tmp_path / "secret")
    with pytest.raises(StageError, match=r"README\.md: is a link to .*secret, outside its folder"):
        import_model(checkpoint, tmp_path / "run")
    assert not (tmp_path / "run" / "pretrain" / "model").exists()


def test_what_is_not_whole_is_refused_and_leaves_no_model(checkpoint, tmp_path):
    shard = sorted(checkpoint.glob("*.safetensors"))[0]
    wrong = {
        "perhaps cut short": lambda f: (f / shard.name).write_bytes(shard.read_bytes()[:-7]),
        f"missing: {shard.name}": lambda f: (f / shard.name).unlink(),
        "no config.json in it": lambda f: (f / "config.json").unlink(),
        "no tokenizer.json in it; make one with transformers": lambda f: (f / "tokenizer.json").unlink(),
        "model_type is 'qwen3_moe'": lambda f: change_json(f / "config.json", model_type="qwen3_moe"),
        "rope_scaling of type 'yarn' has no factor": lambda f: change_json(
            f / "config.json", rope_scaling={"type": "yarn"}
        ),
        r"rms_norm_eps = nan; expected a number": lambda f: change_json(f / "config.json", rms_norm_eps=float("nan")),
        r"rope_theta = inf; expected a number": lambda f: change_json(
            f / "config.json", rope_parameters={"rope_type": "default", "rope_theta": float("inf")}
        ),
        r"generation_config.json: is a Git LFS pointer": lambda f: (f / "generation_config.json").write_text(
            "version https://git-lfs.github.com/spec/v1\noid sha256:9\nsize 7\n"
        ),
        "the tokenizers package can't read it: .*version": lambda f: change_json(f / "tokenizer.json", version="9"),
    }
    for i, (told, damage) in enumerate(wrong.items()):
        folder = tmp_path / f"damaged-{i}"
        shutil.copytree(checkpoint, folder)
        damage(folder)
        with pytest.raises(StageError, match=told):
            import_model(folder, tmp_path / f"run-{i}")
        assert read_manifest(tmp_path / f"run-{i}" / "pretrain") is None
        assert not (tmp_path / f"run-{i}" / "pretrain" / "model").exists()


LENGTHS = {
    "truncation": {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0},
    "padding": {
        "strategy": {"Fixed": 512}, "direction": "Left", "pad_to_multiple_of": 8, "pad_id": 0, "pad_type_id": 0,
        "pad_token": "<|endoftext|>",
    },
}  # fmt: skip


@pytest.mark.parametrize("kinds", [("truncation",), ("padding",), ("truncation", "padding")])
def test_truncation_and_padding_do_not_matter_and_are_left_out_of_an_export(checkpoint, tmp_path, kinds):
    change_json(checkpoint / "tokenizer.json", **{kind: LENGTHS[kind] for kind in kinds})
    import_model(checkpoint, tmp_path / "run")
    export_folder(tmp_path / "run" / "pretrain", tmp_path / "release", name="A model")
    content = json.loads((tmp_path / "release" / "tokenizer.json").read_text())
    assert (content["truncation"], content["padding"]) == (None, None)
    text = "The miller's daughter went down to the river."
    theirs = pytest.importorskip("transformers").AutoTokenizer.from_pretrained(tmp_path / "release")
    assert theirs.encode(text) == Tokenizer.load(tmp_path / "release").encode(text)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"])
def test_a_byte_order_mark_does_not_matter(checkpoint, tmp_path, name):
    content = json.loads((checkpoint / name).read_text())
    (checkpoint / name).write_text(json.dumps(content), encoding="utf-8-sig")
    import_model(checkpoint, tmp_path / "run")
    export_folder(tmp_path / "run" / "pretrain", tmp_path / "release", name="A model")
    json.loads((tmp_path / "release" / name).read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:9\nsize 7\n", "is a Git LFS pointer, not the file"),
        (b"", "is empty: download it again"),
        (b"<html><body>Not found</body></html>", "is a web page"),
        (b'{"version": "1.0", "mod', "not a tokenizer.*.json that can be used"),
    ],
)
@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
def test_a_tokenizer_that_is_another_file_is_named(checkpoint, tmp_path, name, content, told):
    (checkpoint / name).write_bytes(content)
    with pytest.raises(StageError, match=f"{name}: {told}"):
        import_model(checkpoint, tmp_path / "run")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_named_and_not_imported(checkpoint, tmp_path, value):
    for file in checkpoint.glob("*.safetensors"):
        weights = load_file(file)
        if "model.norm.weight" in weights:
            weights["model.norm.weight"][3] = value
            save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(StageError, match=r"model\.norm\.weight holds NaN or infinite values"):
        import_model(checkpoint, tmp_path / "run")
    assert not (tmp_path / "run" / "pretrain" / "model").exists()


def change_json(file, **values):
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def test_a_tokenizer_that_tiktoken_can_not_express_keeps_its_ids(checkpoint, tmp_path):
    content = json.loads((checkpoint / "tokenizer.json").read_text())
    content["model"]["merges"] = content["model"]["merges"][::-1]  # other priorities, so other cuts
    (checkpoint / "tokenizer.json").write_text(json.dumps(content))
    import_model(checkpoint, tmp_path / "run")
    theirs = pytest.importorskip("tokenizers").Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
    text = "The miller's daughter, 東京 and 1842"
    assert Tokenizer.load(tmp_path / "run" / "pretrain").encode(text) == theirs.encode(text).ids


def test_a_tokenizer_larger_than_its_model_is_refused(checkpoint, tokenizer, tmp_path):
    for file in checkpoint.glob("*safetensors*"):
        file.unlink()
    save_model(random_model("untied", tokenizer.vocab_size - 1), checkpoint, stop_ids=[1], pad_id=0)
    with pytest.raises(
        StageError, match=f"has {tokenizer.vocab_size} tokens, its model only {tokenizer.vocab_size - 1}"
    ):
        import_model(checkpoint, tmp_path / "run")


def test_a_pretrained_model_is_not_written_over(checkpoint, tmp_path):
    folder = tmp_path / "run" / "pretrain"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(
        json.dumps(
            {"stage": "pretrain", "settings": {}, "inputs": {}, "outputs": {}, "figures": {}, "code": {},
             "started": "", "seconds": 0, "machine": {}}
        )
    )  # fmt: skip
    with pytest.raises(StageError, match="is a folder of the stage pretrain; give import another one"):
        import_model(checkpoint, tmp_path / "run")
