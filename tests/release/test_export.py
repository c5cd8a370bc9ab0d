"""What is exported loads in transformers, with our logits, ids and chat template, and no code of ours."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from crawl2chat.cli.main import main
from crawl2chat.model import load_model
from crawl2chat.release.export import export_folder
from crawl2chat.release.gguf_file import write_gguf
from crawl2chat.release.importing import TEXTS
from crawl2chat.release.verify import check_checksums
from crawl2chat.stages.files import StageError
from crawl2chat.tokenizer import Tokenizer
from crawl2chat.tokenizer.tokenizer import CONTROL_TOKENS
from crawl2chat.train.pretrain import save_stage_model

transformers = pytest.importorskip("transformers")
MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Where is  the bridge?\n\nTell me."},
    {"role": "assistant", "content": "It is gone."},
    {"role": "user", "content": "And the mill?"},
]


def exported(folder, out, **options):
    export_folder(folder, out, name="A model", **options)
    model = transformers.AutoModelForCausalLM.from_pretrained(out, dtype="auto", trust_remote_code=False).eval()
    return model, transformers.AutoTokenizer.from_pretrained(out, trust_remote_code=False)


def test_transformers_gives_our_logits_and_what_we_would_generate(stage_folder, tmp_path):
    theirs, _ = exported(stage_folder, tmp_path / "release")
    ours, tokenizer = load_model(stage_folder), Tokenizer.load(stage_folder)
    assert type(theirs).__name__ == "Qwen3ForCausalLM"
    assert set(theirs.generation_config.eos_token_id) == tokenizer.stop_ids
    assert theirs.generation_config.pad_token_id == tokenizer.end_of_text
    ids = torch.tensor([tokenizer.encode("The miller's daughter went down to the river.")])
    with torch.no_grad():
        torch.testing.assert_close(theirs(ids).logits, ours(ids), atol=1e-4, rtol=1e-4)


def test_transformers_gives_our_ids_and_our_chats(stage_folder, tmp_path):
    _, theirs = exported(stage_folder, tmp_path / "release")
    tokenizer = Tokenizer.load(stage_folder)
    for text in TEXTS:
        if not any(control in text for control in CONTROL_TOKENS):
            assert theirs.encode(text, add_special_tokens=False) == tokenizer.encode(text)
    for n in (2, 4):
        rendered = theirs.apply_chat_template(MESSAGES[:n], add_generation_prompt=True, return_dict=False)
        assert rendered == tokenizer.encode_chat(MESSAGES[:n], add_generation_prompt=True)[0]
    assert theirs.eos_token_id == tokenizer.end_of_turn
    assert theirs.model_input_names == ["input_ids", "attention_mask"]  # what a Qwen3's generate takes


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_smaller_type_rounds_each_weight_and_says_so(stage_folder, tmp_path, dtype):
    theirs, _ = exported(stage_folder, tmp_path / "release", dtype=dtype, shard_bytes=20_000)
    rounded = getattr(torch, dtype)
    assert theirs.dtype == rounded
    ours = load_model(stage_folder).state_dict()
    for file in (tmp_path / "release").glob("*.safetensors"):
        for name, tensor in load_file(file).items():
            assert torch.equal(tensor, ours[name].to(rounded))
    index = json.loads((tmp_path / "release" / "model.safetensors.index.json").read_text())
    assert set(index["weight_map"]) | {"lm_head.weight"} == set(ours)
    assert dtype in (tmp_path / "release" / "README.md").read_text()


def test_an_imported_model_goes_out_as_it_came_in(checkpoint, tmp_path, capsys):
    """Type, values, tokenizer, template, licence: nothing of ours is put over it."""
    assert main(["import", str(checkpoint), "--out", str(tmp_path / "run")]) == 0
    release = tmp_path / "release"
    assert main(["export", str(tmp_path / "run"), "--out", str(release)]) == 0
    before, after = (
        {name: t for file in folder.glob("*.safetensors") for name, t in load_file(file).items()}
        for folder in (checkpoint, release)
    )
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) and before[name].dtype == after[name].dtype for name in before)
    for name in ("tokenizer.json", "chat_template.jinja", "LICENSE"):
        assert (release / name).read_bytes() == (checkpoint / name).read_bytes()
    for name in ("tokenizer_config.json", "generation_config.json"):
        assert json.loads((release / name).read_text()) == json.loads((checkpoint / name).read_text())
    ids = torch.arange(1, 40)[None]
    with torch.no_grad():
        theirs = [transformers.AutoModelForCausalLM.from_pretrained(f, dtype="auto")(ids).logits
                  for f in (checkpoint, release)]  # fmt: skip
    assert torch.equal(*theirs)


def test_a_folder_that_is_called_like_a_licence_is_passed_over(checkpoint, tmp_path):
    (checkpoint / "LICENSES").mkdir()
    export_folder(checkpoint, tmp_path / "release", name="A model")
    assert (tmp_path / "release" / "LICENSE").exists()


def test_values_that_the_type_can_not_hold_are_refused(stage_folder, tmp_path):
    model, tokenizer = load_model(stage_folder), Tokenizer.load(stage_folder)
    with torch.no_grad():
        model.model.layers[0].mlp.up_proj.weight[0, 0] = 70_000
    save_stage_model(model, tokenizer, tmp_path / "large")
    with pytest.raises(StageError, match=r"up_proj.weight holds values that torch.float16 can't"):
        exported(tmp_path / "large", tmp_path / "release", dtype="float16")
    assert [file.name for file in tmp_path.iterdir()] == ["large"]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_broken_model_is_called_so(stage_folder, tmp_path, value):
    pytest.importorskip("gguf")
    model, tokenizer = load_model(stage_folder), Tokenizer.load(stage_folder)
    with torch.no_grad():
        model.model.layers[0].mlp.up_proj.weight[0, 0] = value
    save_stage_model(model, tokenizer, tmp_path / "broken")
    with pytest.raises(StageError, match="up_proj.weight holds NaN or infinite values"):
        export_folder(tmp_path / "broken", tmp_path / "release", name="A model")
    with pytest.raises(StageError, match="up_proj.weight holds NaN or infinite values"):
        write_gguf(tmp_path / "broken" / "model", tmp_path / "m.gguf", name="A model")


def test_a_folder_that_holds_something_is_never_written_over(stage_folder, tmp_path, monkeypatch):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter.txt").write_text("Dear Zoë")
    for out in (tmp_path / "home", tmp_path / "home" / "letter.txt"):
        with pytest.raises(StageError, match="exists already"):
            export_folder(stage_folder, out, name="A model")
    assert (tmp_path / "home" / "letter.txt").read_text() == "Dear Zoë"
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")  # can't be replaced below the feet of the shell
    with pytest.raises(StageError, match="give --out a new folder"):
        export_folder(stage_folder, Path(), name="A model")
    monkeypatch.chdir(tmp_path)
    export_folder(stage_folder, tmp_path / "empty", name="A model")


def test_the_command_says_what_it_can_not_do(stage_folder, tmp_path, capsys):
    def told(*arguments):
        assert main(["export", *map(str, arguments)]) == 1
        return capsys.readouterr().err

    assert "--out DIR for transformers, --gguf FILE for llama.cpp" in told(stage_folder)
    assert "is for --gguf FILE alone" in told(stage_folder, "--out", tmp_path / "o", "--dtype", "q8_0")
    assert "no model in it" in told(tmp_path, "--out", tmp_path / "o")
    assert "has no finished model of the stage sft" in told(stage_folder, "--stage", "sft", "--out", tmp_path / "o")
    for size in ("", "0", "5XB", "-1GB"):
        with pytest.raises(SystemExit):
            main(["export", str(stage_folder), "--out", str(tmp_path / "o"), f"--max-shard-size={size}"])
        assert "expected a size such as 500MB or 5GB" in capsys.readouterr().err


def test_one_command_writes_both_forms(stage_folder, tmp_path, capsys):
    pytest.importorskip("gguf")
    release, file = tmp_path / "release", tmp_path / "release" / "m.gguf"
    arguments = ["--out", release, "--gguf", file, "--max-shard-size", "0.02MB", "--name", "Zoë", "--license", "mit"]
    assert main(["export", str(stage_folder), *map(str, arguments)]) == 0
    assert file.exists()
    assert len(list(release.glob("*.safetensors"))) > 3
    assert "\n# Zoë\n" in (release / "README.md").read_text()
    assert 'license: "mit"' in (release / "README.md").read_text()
    assert "files as they were exported" in check_checksums(release)
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(StageError, match="not as they were exported: m.gguf"):
        check_checksums(release)
