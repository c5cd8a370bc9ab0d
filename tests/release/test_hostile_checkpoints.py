"""Checkpoints that are damaged, or mean harm, are refused with the file's name, soon and within bounded memory."""

import contextlib
import json
import os
import random
import resource
import shutil
import struct
import time
from pathlib import Path

import pytest
import torch
from effort import slowness
from models import random_model
from safetensors.torch import load_file, save_file

from crawl2chat.model import load_model, save_model
from crawl2chat.model.weights import INDEX, ONE_FILE, save_weights
from crawl2chat.release.importing import import_model
from crawl2chat.stages.files import StageError

SECONDS, MEGABYTES = 15, 1000  # of processor time, on the quiet machine where bounds are set; most take 0.1 s and 1 MB


@contextlib.contextmanager
def bounded():
    """Fail if the block computes for long; the kernel refuses it more memory, which is a MemoryError or a crash."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    with contextlib.suppress(FileNotFoundError):  # macOS has no /proc, and does not enforce the limit
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (MEGABYTES << 20), hard))
    began = computed()
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    assert computed() - began < SECONDS * slowness()


def computed() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


@pytest.fixture(scope="module")
def whole(tokenizer, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    save_model(random_model("untied", tokenizer.vocab_size), folder, stop_ids=[tokenizer.end_of_turn], pad_id=0)
    tokenizer.save(folder)
    return folder


@pytest.fixture
def folder(whole, tmp_path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "checkpoint"))


def shards(folder: Path) -> list[Path]:
    """Weights as shards with an index."""
    weights = load_file(folder / ONE_FILE)
    (folder / ONE_FILE).unlink()
    save_weights(folder, weights.items(), {name: tensor.nbytes for name, tensor in weights.items()}, 40_000)
    return sorted(folder.glob("*.safetensors"))


def header(change):
    """A damage: the JSON in front of the weights is another one."""

    def damage(folder: Path) -> None:
        content = (folder / ONE_FILE).read_bytes()
        length = struct.unpack("<Q", content[:8])[0]
        described = json.loads(content[8 : 8 + length])
        changed = change({name: entry for name, entry in described.items() if name != "__metadata__"})
        text = changed if isinstance(changed, bytes) else json.dumps(changed).encode()
        (folder / ONE_FILE).write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])

    return damage


def content(change):
    """A damage: the bytes of the weights' file are others."""
    return lambda folder: (folder / ONE_FILE).write_bytes(change((folder / ONE_FILE).read_bytes()))


def tensors(change):
    """A damage: the tensors are others."""
    return lambda folder: save_file(change(load_file(folder / ONE_FILE)), folder / ONE_FILE)


def overlapping(described):
    first, second, *_ = described
    return described | {second: described[second] | {"data_offsets": described[first]["data_offsets"]}}


def changed_entry(**values):
    return header(lambda d: d | {NORM: d[NORM] | values})


def twice(described):
    return json.dumps(described)[:-1].encode() + f', "{NORM}": {json.dumps(described[HEAD])}}}'.encode()


NORM, HEAD = "model.norm.weight", "lm_head.weight"
UNREADABLE = r"model\.safetensors: (can't be read, perhaps cut short|is a text|is empty)"
MISFIT = "its weights don't fit its config.json"
WEIGHTS = {
    "a header of 100 GB": (content(lambda c: struct.pack("<Q", 10**11) + c[8:]), UNREADABLE),
    "a header that is longer than the file": (content(lambda c: struct.pack("<Q", len(c) + 9) + c[8:]), UNREADABLE),
    "a header that is too short": (content(lambda c: struct.pack("<Q", 100) + c[8:]), UNREADABLE),
    "a header of noise": (header(lambda _: bytes(range(256)) * 9), UNREADABLE),
    "a header of brackets": (header(lambda _: b"[" * 1_000_000), UNREADABLE),
    "seven bytes": (content(lambda c: c[:7]), UNREADABLE),
    "nothing": (content(lambda _: b""), UNREADABLE),
    "half of its weights": (content(lambda c: c[: len(c) // 2]), UNREADABLE),
    "bytes behind its weights": (content(lambda c: c + b"more"), UNREADABLE),
    "tensors that overlap": (header(overlapping), UNREADABLE),
    "a tensor beyond the end": (changed_entry(data_offsets=[10**12, 10**12 + 128]), UNREADABLE),
    "a tensor that ends before it begins": (changed_entry(data_offsets=[128, 0]), UNREADABLE),
    "a shape whose size overflows": (changed_entry(shape=[2**62, 8]), UNREADABLE),
    "a shape of negative size": (changed_entry(shape=[-32]), UNREADABLE),
    "a name twice": (header(twice), UNREADABLE),
    "a type that there is not": (changed_entry(dtype="F13"), UNREADABLE),
    "whole numbers": (
        tensors(lambda t: t | {NORM: torch.ones(32, dtype=torch.int8)}), f"{NORM} is of type I8; expected",
    ),
    "eight bits": (
        tensors(lambda t: t | {NORM: torch.ones(32).to(torch.float8_e4m3fn)}), "of type F8_E4M3; expected F32",
    ),
    "a tensor less": (
        tensors(lambda t: {n: w for n, w in t.items() if n != NORM}), rf"{MISFIT}\n  missing \(1\): {NORM}",
    ),
    "a tensor more": (tensors(lambda t: t | {"extra": torch.ones(3)}), rf"{MISFIT}\n  superfluous \(1\): extra"),
    "another shape": (
        tensors(lambda t: t | {NORM: torch.ones(4, 8)}), rf"of another shape \(1\): {NORM} \[4, 8\], expected",
    ),
    "20,000 tensors more": (
        tensors(lambda t: t | {str(i): torch.ones(0) for i in range(20_000)}), r"superfluous \(20000\)",
    ),
    "NaN": (tensors(lambda t: t | {NORM: torch.full((32,), torch.nan)}), f"{NORM} holds NaN or infinite values"),
    "infinity": (tensors(lambda t: t | {NORM: torch.full((32,), torch.inf)}), f"{NORM} holds NaN or infinite values"),
}  # fmt: skip


def index(change):
    """A damage: shards, whose index is another one."""

    def damage(folder: Path) -> None:
        shards(folder)
        described = json.loads((folder / INDEX).read_text())
        (folder / INDEX).write_text(json.dumps(change(described)))

    return damage


def swapped(described):
    places = described["weight_map"]
    return {"weight_map": places | {NORM: places["model.embed_tokens.weight"]}}


def doubled(folder: Path) -> None:
    first, *_, last = shards(folder)
    save_file(load_file(last) | {next(iter(load_file(first))): torch.ones(3)}, last)


NOT_AN_INDEX = r"model\.safetensors\.index\.json: not an index of shards"
SHARDS = {
    "a tensor elsewhere": (
        index(swapped), rf"index\.json: disagrees with the shards about 1 tensors: {NORM} in model-",
    ),
    "a tensor that no shard has": (
        index(lambda d: {"weight_map": d["weight_map"] | {"extra": d["weight_map"][NORM]}}),
        "extra in .*, found in none",
    ),
    "a shard outside": (index(lambda d: {"weight_map": d["weight_map"] | {NORM: "../../x"}}), r"missing: \.\./\.\./x"),
    "numbers for files": (index(lambda d: {"weight_map": dict.fromkeys(d["weight_map"], 7)}), NOT_AN_INDEX),
    "lists for files": (index(lambda d: {"weight_map": {name: [] for name in d["weight_map"]}}), NOT_AN_INDEX),
    "no files": (index(lambda _: {"weight_map": {}}), NOT_AN_INDEX),
    "a list": (index(lambda _: []), r"index\.json: expected a JSON object, found list"),
    "17 MB": (index(lambda d: d | {"metadata": " " * 17_000_000}), r"index\.json: has 17,.* bytes; expected at most"),
    "a shard less": (
        lambda folder: shards(folder)[1].unlink(), "1 of the .* shards that .* names are missing: model-00002",
    ),
    "a tensor in two shards": (doubled, r"is in model-00001-.*\.safetensors and in model-"),
}  # fmt: skip


def config(**values):
    """A damage: config.json says something else."""

    def damage(folder: Path) -> None:
        file = folder / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | values))

    return damage


MOST_OF_ALL = {
    "vocab_size": 4_000_000, "hidden_size": 100_000, "intermediate_size": 1_000_000, "num_hidden_layers": 1_000,
    "num_attention_heads": 1_000, "num_key_value_heads": 1_000, "head_dim": 10_000,
}  # fmt: skip
CONFIGS = {
    "a hidden size of 10^9": (
        config(hidden_size=10**9), r"config\.json: hidden_size = 1e\+09; expected at most 100,000",
    ),
    "a hidden size of 400 digits": (config(hidden_size=10**400), r"hidden_size = 1e\+300; expected at most"),
    "all sizes as large as may be": (config(**MOST_OF_ALL), MISFIT),
    "a vocabulary of the file's size": (config(vocab_size=3_000_000), r"of another shape \(2\): model\.embed_tokens"),
    "no layers": (config(num_hidden_layers=0), "num_hidden_layers = 0; expected a whole number of at least 1"),
    "half a head": (config(num_attention_heads=2.5), "num_attention_heads = 2.5; expected a whole number"),
    "heads that can't be shared": (config(num_key_value_heads=3), "4 attention heads can't share 3 key-value heads"),
    "lists for numbers": (config(head_dim=[16]), r"head_dim = \[16\]; expected a whole number"),
    "a base of 400 digits": (config(rope_theta=10**400), "rope_theta = 1000.*; expected a number above 0"),
    "part of a head": (config(partial_rotary_factor="x"), "partial_rotary_factor is not supported"),
    "layers of no type": (
        config(use_sliding_window=True, sliding_window=8, layer_types=[[], {}, 3]),
        "layer_types = .*; expected full_attention",
    ),
    "scaling beyond all lengths": (
        config(rope_scaling={"rope_type": "linear", "factor": 2, "original_max_position_embeddings": 10**400}),
        "original_max_position_embeddings = 1000",
    ),
    "scaling of a list": (config(rope_scaling=[1]), r"rope_scaling = \[1\]; expected an object"),
    "a family of a list": (config(model_type=["qwen3"]), r"model_type is \['qwen3'\], expected one of"),
}  # fmt: skip


def pickled(folder: Path) -> None:
    torch.save(load_file(folder / ONE_FILE), folder / "pytorch_model.bin")
    (folder / ONE_FILE).unlink()


QUANTISED = "quantised checkpoints are not supported; take the unquantised one, or a GGUF file"
NOT_SUPPORTED = {
    "experts": (
        config(model_type="mixtral"), r"'mixtral' \(a mixture of experts; take a dense model\), expected one of llama",
    ),
    "experts by their number": (config(num_experts=8), "num_experts = 8: mixtures of experts are not supported"),
    "latent attention": (config(kv_lora_rank=64), "multi-head latent attention is not supported"),
    "vision": (config(vision_config={"depth": 2}), "models with vision are not supported"),
    "a vision family": (
        config(model_type="qwen2_vl"), r"'qwen2_vl' \(a model with vision; take its text-only sibling\)",
    ),
    "GPTQ": (config(quantization_config={"quant_method": "gptq"}), f"gptq.*{QUANTISED}"),
    "AWQ": (config(quantization_config={"quant_method": "awq"}), f"awq.*{QUANTISED}"),
    "bitsandbytes": (config(quantization_config={"quant_method": "bitsandbytes"}), f"bitsandbytes.*{QUANTISED}"),
    "Mamba": (config(model_type="mamba"), r"'mamba' \(a state-space or recurrent model\)"),
    "an encoder": (config(model_type="bert"), r"'bert' \(an encoder, which can't write\)"),
    "an encoder with a decoder": (config(model_type="t5"), r"'t5' \(an encoder with a decoder\)"),
    "pickled weights": (
        pickled, r"\*\.safetensors is missing\); pytorch_model\.bin is a PyTorch checkpoint, not safetensors; load it",
    ),
}  # fmt: skip


def pipe(name):
    def damage(folder: Path) -> None:
        (folder / name).unlink()
        os.mkfifo(folder / name)

    return damage


def endless(name):
    def damage(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).symlink_to("/dev/zero")

    return damage


NO_FILE = "not a file, but a folder, pipe or device"
PLACES = {
    "a pipe for weights": (pipe(ONE_FILE), rf"model\.safetensors: is {NO_FILE}"),
    "a device for weights": (endless(ONE_FILE), rf"model\.safetensors: is {NO_FILE}"),
    "a pipe for an index": (lambda f: (shards(f), pipe(INDEX)(f)), rf"index\.json: is {NO_FILE}"),
}  # fmt: skip


@pytest.mark.parametrize("what", [*WEIGHTS, *SHARDS, *CONFIGS, *PLACES, *NOT_SUPPORTED])
def test_what_is_damaged_or_not_supported_is_neither_loaded_nor_imported(what, folder, tmp_path):
    damage, told = (WEIGHTS | SHARDS | CONFIGS | PLACES | NOT_SUPPORTED)[what]
    damage(folder)
    with bounded():
        with pytest.raises(StageError, match=told):
            load_model(folder)
        with pytest.raises(StageError, match=told):
            import_model(folder, tmp_path / "run")
    assert not (tmp_path / "run" / "pretrain" / "model").exists()


def tokenizer_file(change):
    """A damage: the content of tokenizer.json is another one."""

    def damage(folder: Path) -> None:
        described = json.loads((folder / "tokenizer.json").read_text())
        change(described)
        (folder / "tokenizer.json").write_text(json.dumps(described))

    return damage


def expression(pattern):
    return tokenizer_file(lambda d: d["pre_tokenizer"]["pretokenizers"][0]["pattern"].update(Regex=pattern))


def first_id(id):
    return tokenizer_file(lambda d: d["model"]["vocab"].update({"a": id}))


GROWING = {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 1000}
TOOK = r"tokenizer\.json: its rules (fail|take more than) .* so it can't be used"
TOKENIZERS = {
    "an expression that tries 2^n ways": (expression("(a+)+$"), TOOK),
    "one that looks for a word first": (expression("(foo|foo)*bar$"), TOOK),
    "one over letters of all scripts": (expression(r"(\p{L}+)*\d$|."), TOOK),
    "one that refers back": (expression(r"(\w+\w+)+\1{30}z"), TOOK),
    "one whose compilation is endless": (expression("((a{500}){500}){500}"), TOOK),
    "one of 100,000 characters": (expression("a|" * 50_000), "a regular expression of 100,000 characters"),
    "replacements of replacements": (
        tokenizer_file(lambda d: d.update(normalizer={"type": "Sequence", "normalizers": [GROWING] * 30})), TOOK,
    ),
    "an id of 19 digits": (first_id(10**18), "'a' has the id 1000000000000000000; expected one from 0 to"),
    "an id below zero": (first_id(-1), "'a' has the id -1; expected one from 0"),
    "an id that another token has": (first_id(5), "several tokens of its vocabulary have one id"),
    "a token more than the model": (first_id(9_999_999), "its tokenizer has 10000000 tokens, its model only"),
    "an added token without a name": (
        tokenizer_file(lambda d: d["added_tokens"][0].update(content="")), "one of its added tokens is empty",
    ),
    "merges of numbers": (
        tokenizer_file(lambda d: d["model"].update(merges=[[1, 2]])), "not a tokenizer.json that can be",
    ),
    "a million brackets": (
        lambda f: (f / "tokenizer.json").write_text("[" * 1_000_000), "not a tokenizer.json that can be",
    ),
    "a pipe for a tokenizer": (pipe("tokenizer.json"), r"no tokenizer\.json in it"),
    "300 MB, all of it a hole": (
        lambda folder: os.truncate(folder / "tokenizer.json", 300_000_000), r"tokenizer\.json: has 300,000,000 bytes",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", TOKENIZERS)
def test_tokenizers_that_take_for_ever_or_are_damaged_are_not_imported(what, folder, tmp_path):
    damage, told = TOKENIZERS[what]
    damage(folder)
    with bounded(), pytest.raises(StageError, match=told):
        import_model(folder, tmp_path / "run")
    assert not (tmp_path / "run" / "pretrain" / "model").exists()


def test_a_tokenizer_with_an_expression_that_nobody_knows_is_tried_and_imported(folder, tmp_path):
    described = json.loads((folder / "tokenizer.json").read_text())
    own = described["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"].replace(r"\p{N}|", r"\p{N}{1,3}|")
    expression(own + "|.")(folder)
    import_model(folder, tmp_path / "run")
    assert (tmp_path / "run" / "pretrain" / "model").exists()


TEMPLATES = {
    "loops": ("{% for i in range(9**9) %}{% for j in range(9**9) %}x{% endfor %}{% endfor %}", "range|steps|too"),
    "calls itself": ("{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}", "calls itself without end"),
    "reaches for attributes": (
        "{{ ''.__class__.__mro__[1].__subclasses__() }}", "refuses this conversation: .*unsafe|access",
    ),
    "doubles a text": (
        "{% set n = namespace(x='a') %}{% for i in range(99) %}{% set n.x = n.x + n.x %}{% endfor %}", "characters",
    ),
    "is no template": ("{% for %}", "can't be read"),
}  # fmt: skip


@pytest.mark.parametrize("what", TEMPLATES)
def test_a_chat_template_that_loops_or_reaches_out_is_not_imported(what, folder, tmp_path):
    template, told = TEMPLATES[what]
    (folder / "chat_template.jinja").write_text(template)
    with bounded(), pytest.raises(StageError, match=told):
        import_model(folder, tmp_path / "run")
    assert not (tmp_path / "run" / "pretrain" / "model").exists()


VALUES = (None, True, -1, 2**63, 10**400, 1e400, 0.5, "", "x", "\ud800", [], [[]], {}, {"a": []}, [1, "a", None])


def places_in(value, path=()):
    """Every place in some JSON, by the way to it; of long lists and objects the first ones."""
    for key in (
        list(value)[:30] if isinstance(value, dict) else range(min(len(value), 5)) if isinstance(value, list) else ()
    ):
        yield (*path, key)
        yield from places_in(value[key], (*path, key))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"])
def test_whatever_a_description_says_it_is_imported_or_refused(name, folder, tmp_path, monkeypatch):
    monkeypatch.setattr("crawl2chat.release.importing.check_rules", lambda file: None)  # starts a process each time
    draw = random.Random(name)
    text = (folder / name).read_text()
    refused = 0
    with bounded():
        for _ in range(12):
            described = json.loads(text)
            *path, last = draw.choice(list(places_in(described)))
            at = described
            for key in path:
                at = at[key]
            at[last] = draw.choice(VALUES)
            (folder / name).write_text(json.dumps(described))
            with contextlib.suppress(StageError):
                import_model(folder, tmp_path / "run")
                continue
            refused += 1
    assert refused or name == "generation_config.json"
