"""A release is verified as it stands; whatever is wrong with it is named."""

import json
import sys

import pytest
import torch
from models import random_model
from safetensors.torch import load_file, save_file

from crawl2chat.cli.main import main
from crawl2chat.release.export import export_folder
from crawl2chat.release.verify import check_generations, check_logits, verify_release
from crawl2chat.tokenizer import Tokenizer
from crawl2chat.tokenizer.stage import train_bpe

pytest.importorskip("transformers")
COMPARED = {"ids of texts", "control tokens", "chat template", "logits", "greedy generation"}


@pytest.fixture
def release(stage_folder, tmp_path):
    out = tmp_path / "release"
    export_folder(stage_folder, out, name="A model", licence="mit", data_licence="cc0-1.0", statement="Made up.")
    return out


def failures(folder):
    """Of all checks but the one of checksums, which any change fails."""
    return {check.name: check.found for check in verify_release(folder) if not check.ok and check.name != "checksums"}


def checksums(folder):
    (found,) = [check for check in verify_release(folder) if check.name == "checksums"]
    return found


def edit(file, **changes):
    content = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({key: value for key, value in content.items() if value != "gone"}))


def change_weights(folder, change):
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def test_an_export_passes_and_the_command_says_what_was_compared(release, capsys):
    assert main(["verify-release", str(release)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(line.startswith("ok ") for line in lines)
    assert {line[8:].split("  ")[0] for line in lines} >= COMPARED
    (logits,) = [line for line in lines if " logits " in line]
    assert "max |difference|" in logits
    assert "100.00 % with the same most probable token; tolerance 0.001" in logits


def test_weights_that_changed_on_the_way_are_named_though_both_sides_read_them_alike(release):
    assert checksums(release).ok
    change_weights(release, lambda tensors: tensors["model.norm.weight"].mul_(1.5))
    assert failures(release) == {}
    assert not checksums(release).ok
    assert "not as they were exported: model.safetensors;" in checksums(release).found


def test_files_that_came_since_are_named_but_not_hidden_ones(release):
    (release / ".gitattributes").write_text("*.safetensors filter=lfs\n")
    assert checksums(release).ok
    (release / "modeling.py").write_text("print('gotcha')\n")
    assert "not exported, and loaders may take it for a part: modeling.py;" in checksums(release).found


def test_a_card_may_be_written_on_but_a_missing_or_odd_list_of_checksums_is_told(release):
    (release / "README.md").write_text((release / "README.md").read_text() + "\nMore words.\n")
    assert checksums(release).ok
    (release / "SHA256SUMS").write_text("no sum\n")
    assert "has the line 'no sum'" in checksums(release).found
    (release / "SHA256SUMS").unlink()
    assert "SHA256SUMS can't be read" in checksums(release).found


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_rounded_export_in_shards_passes(stage_folder, tmp_path, dtype):
    out = tmp_path / "release"
    export_folder(
        stage_folder, out, name="A model", dtype=dtype, shard_bytes=20_000, licence="mit", data_licence="cc0-1.0"
    )
    assert failures(out) == {}
    next(iter(out.glob("model-00002*"))).unlink()
    assert "shards that model.safetensors.index.json names are missing" in failures(out)["weights"]


def test_an_imported_model_passes_with_its_own_template(checkpoint, tmp_path):
    edit(checkpoint / "generation_config.json", eos_token_id=Tokenizer.load(checkpoint).end_of_turn)
    export_folder(checkpoint, tmp_path / "release", name="Theirs", statement="Nothing is known.")
    checks = {check.name: check for check in verify_release(tmp_path / "release")}
    assert [check.found for check in checks.values() if not check.ok] == []
    assert checks["chat template"].found == "3 conversations are alike, by a template that is not ours"


@pytest.mark.parametrize(
    ("file", "failed"),
    [
        ("config.json", "config"), ("generation_config.json", "generation config"), ("tokenizer.json", "config"),
        ("model.safetensors", "weights"), ("README.md", "card"),
    ],
)  # fmt: skip
def test_a_missing_file_and_a_garbled_one_are_named(release, file, failed):
    (release / file).write_bytes(b"\xff\x00{")
    found = failures(release)
    assert failed in found
    (release / file).unlink()
    found = failures(release)
    assert "missing: " + file in found["files"] or "no weights in it" in found["files"]
    assert failed in found


@pytest.mark.parametrize(
    ("file", "changes", "told"),
    [
        ("config.json", {"hidden_size": "32"}, "hidden_size = '32'; expected a whole number of at least 1"),
        ("config.json", {"num_key_value_heads": 0}, "num_key_value_heads = 0; expected a whole number of at least 1"),
        ("config.json", {"max_position_embeddings": 64.5}, "max_position_embeddings = 64.5; expected a whole number"),
        ("tokenizer_config.json", None, "tokenizer_config.json: expected a JSON object"),
    ],
)
def test_values_of_another_kind_are_named(release, file, changes, told):
    if changes:
        edit(release / file, **changes)
    else:
        (release / file).write_text("[]")
    assert told in failures(release)["config"]


def test_truncated_weights_are_told_and_not_loaded(release):
    content = (release / "model.safetensors").read_bytes()
    (release / "model.safetensors").write_bytes(content[:-100])
    found = failures(release)
    assert "perhaps cut short" in found["weights"]
    assert found["in transformers"] == "not compared, as weights failed"


def test_a_config_that_disagrees_with_the_weights_is_told(release):
    edit(release / "config.json", intermediate_size=96)
    assert "its weights don't fit its config.json" in failures(release)["weights"]
    edit(release / "config.json", intermediate_size=80, dtype="bfloat16", torch_dtype="bfloat16")
    assert failures(release)["weights"] == "tensors are of type float32, config.json says bfloat16"


def test_values_that_are_no_numbers_are_told(release):
    change_weights(release, lambda tensors: tensors["model.norm.weight"].fill_(float("nan")))
    assert "model.norm.weight holds NaN or infinite values" in failures(release)["weights"]


def test_a_tokenizer_of_another_vocabulary_is_told(release):
    for size, failed in ((500, "config"), (300, "generation config")):
        train_bpe(["The miller's daughter counted 17 mills and a great many other things."] * 9, size).save(release)
        edit(release / "tokenizer.json")
        found = failures(release)
        if Tokenizer.load(release).vocab_size > 420:
            assert "they are of two models" in found[failed]
        else:
            assert "what ends a text or a turn" in found["generation config"]


@pytest.mark.parametrize("ends", [None, 3, [3], [[1]], "gone"])
def test_a_generation_config_that_stops_elsewhere_is_told(release, ends):
    edit(release / "generation_config.json", eos_token_id=ends)
    assert "eos_token_id is" in failures(release)["generation config"]


def test_an_end_that_is_no_id_beside_one_that_is_is_told(release):
    edit(release / "generation_config.json", eos_token_id=[Tokenizer.load(release).eos_id, [1]])
    assert "eos_token_id is" in failures(release)["generation config"]


def test_a_card_must_state_a_licence_and_say_what_the_data_is(stage_folder, tmp_path):
    export_folder(stage_folder, tmp_path / "no licence", name="A model", statement="Made up.")
    assert failures(tmp_path / "no licence")["card"].endswith("export with --license ID")
    export_folder(stage_folder, tmp_path / "no data", name="A model", licence="mit")
    assert failures(tmp_path / "no data")["card"].endswith("--data-statement FILE")
    (tmp_path / "no data" / "README.md").write_text("# A model\n")
    assert "no front matter" in failures(tmp_path / "no data")["card"]


def test_a_template_that_transformers_renders_otherwise_is_told(release):
    config = json.loads((release / "tokenizer_config.json").read_text())
    edit(release / "tokenizer_config.json", chat_template="{{ raise_exception('no') }}")
    assert "can't be rendered" in failures(release)["chat template"]
    edit(release / "tokenizer_config.json", chat_template=config["chat_template"])
    (release / "chat_template.jinja").write_text("{{ messages[0].content }}")
    checks = {check.name: check for check in verify_release(release)}
    assert "not ours" in checks["chat template"].found


def test_ids_that_differ_are_told(release):
    content = json.loads((release / "tokenizer.json").read_text())
    content["normalizer"] = {"type": "Lowercase"}
    (release / "tokenizer.json").write_text(json.dumps(content))
    assert "ids of texts" not in failures(release)  # encoded by the same library
    content["normalizer"] = None
    content["model"]["merges"] = content["model"]["merges"][::2]
    content["model"]["ignore_merges"] = False
    (release / "tokenizer.json").write_text(json.dumps(content))
    assert "in transformers and" in failures(release)["ids of texts"]


def test_another_model_s_logits_and_texts_are_told(tokenizer):
    class Theirs:
        """In transformers' form a model whose last norm is another."""

        def __init__(self, model):
            self.model = model
            with torch.no_grad():
                model.model.norm.weight.mul_(-1)

        def __call__(self, ids):
            return type("Output", (), {"logits": self.model(ids)})

        def generate(self, ids, max_new_tokens, **_):
            for _ in range(max_new_tokens):
                ids = torch.cat([ids, self.model(ids)[:, -1:].argmax(-1)], dim=1)
            return ids

    ours, theirs = random_model("tied", tokenizer.vocab_size), Theirs(random_model("tied", tokenizer.vocab_size))
    with pytest.raises(Exception, match="is not rounding"):
        check_logits(ours, theirs, tokenizer)
    with pytest.raises(Exception, match="transformers writes"):
        check_generations(ours, theirs, tokenizer)


def test_without_a_folder_or_the_package_the_command_says_so(release, tmp_path, capsys, monkeypatch):
    assert main(["verify-release", str(tmp_path / "none")]) == 1
    assert "there is no such folder" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert main(["verify-release", str(release)]) == 1
    assert "pip install transformers" in capsys.readouterr().err
