"""GGUF files, as llama.cpp and Ollama have them, become folders in transformers' form: weights, config, tokenizer.

Quantised weights become the float32 numbers that they stand for; those in 16 bits stay in 16 bits.
"""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from crawl2chat.model.families import FAMILIES, config_from_json
from crawl2chat.model.huggingface import SHARD_BYTES, weight_shapes
from crawl2chat.model.rope import RopeScaling, frequencies
from crawl2chat.model.weights import HEAD, save_weights
from crawl2chat.stages.files import StageError, write_json
from crawl2chat.tokenizer.huggingface import CONFIG, LLAMA3_PATTERN, QWEN2_PATTERN, TOKENIZER

MAGIC = b"GGUF"
ARCHITECTURES = ("llama", "qwen2", "qwen3")
READ = ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K")
SIXTEEN = {"F16": torch.float16, "BF16": torch.bfloat16}
CONTROL, USER_DEFINED, BYTE = 3, 4, 6  # kinds of tokens
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}


def convert_gguf(file: Path, out: Path) -> None:
    """Write the model in a GGUF file to the folder `out`: config, weights, tokenizer and chat template.

    Takes memory for one tensor at a time, and for one file of weights. Raises StageError for what is not such a file,
    for a damaged one, and for architectures, types and tokenizers that are not supported, by their names.
    """
    fields, tensors = _open(file)
    architecture = fields.get("general.architecture")
    if architecture not in ARCHITECTURES:
        raise StageError(f"{file}: holds a {str(architecture)[:80]}; supported are {', '.join(ARCHITECTURES)}")
    tokens = fields.get("tokenizer.ggml.tokens", [])
    try:
        content = _config(fields, architecture, tensors, file)
        tokenizer = tokenizer_content(fields, tokens, file)
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise StageError(f"{file}: damaged: its metadata can't be used: {error!r}") from error
    config = config_from_json(content, file)
    shapes = weight_shapes(config)
    if config.tie_word_embeddings:
        del shapes[HEAD]
    names = _names(config.num_hidden_layers)
    missing = [name for name in shapes if names.get(name) not in tensors]
    expected = {names[name] for name in shapes if name in names}
    extra = [name for name in tensors if name not in expected and "rope_freqs" not in name]
    if missing or extra:
        raise StageError(
            f"{file}: its tensors don't fit its metadata; missing: {', '.join(missing[:5]) or 'none'}; "
            f"superfluous: {', '.join(extra[:5]) or 'none'}"
        )

    def weights() -> Iterator[tuple[str, Tensor]]:
        for name, shape in shapes.items():
            tensor = _values(tensors[names[name]], file)
            if tensor.shape != shape:
                raise StageError(f"{file}: {names[name]} is {list(tensor.shape)}, expected {list(shape)}")
            if architecture == "llama" and ("q_proj" in name or "k_proj" in name):
                heads = config.num_attention_heads if "q_proj" in name else config.num_key_value_heads
                tensor = _halves_apart(tensor, heads)
            yield name, tensor

    out.mkdir(parents=True)
    sizes = {name: shape.numel() * _type_of(tensors[names[name]]).itemsize for name, shape in shapes.items()}
    save_weights(out, weights(), sizes, SHARD_BYTES)
    write_json(out / "config.json", content)
    ends = [fields.get(f"tokenizer.ggml.{name}_token_id") for name in ("eos", "eot")]
    write_json(out / "generation_config.json", {"eos_token_id": sorted({id for id in ends if type(id) is int})})
    write_json(out / TOKENIZER, tokenizer)
    named = {
        f"{kind}_token": tokens[id]
        for kind, key in {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}.items()
        if type(id := fields.get(f"tokenizer.ggml.{key}_token_id")) is int and 0 <= id < len(tokens)
    }
    template = fields.get("tokenizer.chat_template")
    described = {
        "tokenizer_class": "PreTrainedTokenizerFast", **named, "add_bos_token": _adds_bos(fields),
        "clean_up_tokenization_spaces": False, "model_input_names": ["input_ids", "attention_mask"],
    }  # fmt: skip
    write_json(out / CONFIG, described | ({"chat_template": template} if template else {}))


def _open(file: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Metadata and tensors by their names; tensors are mapped, not read."""
    import gguf

    with file.open("rb") as stream:
        head = stream.read(8)
    if head[:4] != MAGIC:
        raise StageError(f"{file}: not a GGUF file")
    if int.from_bytes(head[4:], "little") not in (2, 3):
        raise StageError(f"{file}: GGUF of version {int.from_bytes(head[4:], 'little')}; supported are 2 and 3")
    size = file.stat().st_size
    counts = np.fromfile(file, dtype="<u8", count=2, offset=8)
    if len(counts) < 2 or int(counts.max()) > size // 8:
        raise StageError(f"{file}: damaged: it claims more tensors or fields than it has room for")
    try:
        reader = gguf.GGUFReader(file)
        fields = {name: field.contents() for name, field in reader.fields.items()}
        tensors = {tensor.name: tensor for tensor in reader.tensors}
        end = max((tensor.data_offset + tensor.n_bytes for tensor in reader.tensors), default=0)
    except Exception as error:  # the package raises whatever a damaged file makes numpy raise
        raise StageError(f"{file}: damaged, or cut short: {error}") from error
    if end > size or any(t.data.nbytes != t.n_bytes for t in tensors.values()):
        raise StageError(f"{file}: cut short: it has {size:,} bytes, and its tensors end at {end:,}")
    if int(fields.get("split.count") or 1) > 1:
        raise StageError(f"{file}: one of {fields['split.count']} parts; join them with llama-gguf-split --merge")
    wrong = {t.tensor_type.name for t in tensors.values()} - set(READ)
    if wrong:
        found = ", ".join(sorted(wrong))
        raise StageError(f"{file}: its weights are of the type {found}; supported are {', '.join(READ)}")
    return fields, tensors


def _config(fields: Mapping[str, Any], kind: str, tensors: Mapping[str, Any], file: Path) -> dict[str, Any]:
    """The config.json that says the same as the metadata."""

    def value(key: str, default: Any = None) -> Any:
        found = fields.get(f"{kind}.{key}", default)
        if found is None:
            raise StageError(f"{file}: its metadata has no {kind}.{key}")
        if isinstance(found, float) and not math.isfinite(found):
            raise StageError(f"{file}: {kind}.{key} = {found}; expected a number")
        return found

    heads, width = value("attention.head_count"), value("embedding_length")
    head_dim = value("attention.key_length", value("rope.dimension_count", width // max(1, heads)))
    biased = kind == "llama" and "blk.0.attn_q.bias" in tensors
    content = {
        "architectures": [FAMILIES[kind].architecture],
        "model_type": kind,
        "vocab_size": len(fields.get("tokenizer.ggml.tokens", [])),
        "hidden_size": width,
        "intermediate_size": value("feed_forward_length"),
        "num_hidden_layers": value("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": value("attention.head_count_kv", heads),
        "head_dim": head_dim,
        "max_position_embeddings": value("context_length"),
        "rms_norm_eps": round(float(value("attention.layer_norm_rms_epsilon")), 12),
        "rope_theta": float(value("rope.freq_base", 10_000.0)),
        "hidden_act": "silu",
        "attention_bias": biased,
        "tie_word_embeddings": "output.weight" not in tensors,
        "bos_token_id": fields.get("tokenizer.ggml.bos_token_id"),
        "eos_token_id": fields.get("tokenizer.ggml.eos_token_id"),
    }
    if (stretch := fields.get(f"{kind}.rope.scaling.type", "none")) != "none":
        content["rope_scaling"] = {
            "rope_type": stretch, "factor": float(value("rope.scaling.factor")),
            "original_max_position_embeddings": value(
                "rope.scaling.original_context_length", content["max_position_embeddings"]
            ),
        }  # fmt: skip
    elif "rope_freqs.weight" in tensors:
        content["rope_scaling"] = _llama3_scaling(_values(tensors["rope_freqs.weight"], file), content, file)
    return content


def _llama3_scaling(divisors_d: Tensor, content: Mapping[str, Any], file: Path) -> dict[str, Any]:
    """The scaling that divides RoPE's frequencies so: Llama 3.1's and 3.2's differ in the factor alone."""
    plain_d = frequencies(content["head_dim"], content["rope_theta"], None)
    for original in (8192, content["max_position_embeddings"]):
        scaling = RopeScaling("llama3", float(divisors_d.max()), original)
        stretched_d = frequencies(content["head_dim"], content["rope_theta"], scaling)
        if torch.allclose(plain_d / stretched_d, divisors_d, rtol=1e-3):
            return {
                "rope_type": "llama3", "factor": scaling.factor, "low_freq_factor": scaling.low_freq_factor,
                "high_freq_factor": scaling.high_freq_factor, "original_max_position_embeddings": original,
            }  # fmt: skip
    raise StageError(f"{file}: its table rope_freqs is not that of Llama 3's scaling, which is not supported")


def _names(n_layers: int) -> dict[str, str]:
    """llama.cpp's name of each of our tensors."""
    parts = {
        "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm",
        "self_attn.k_norm": "attn_k_norm", "post_attention_layernorm": "ffn_norm", "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
    }  # fmt: skip
    names = {
        f"model.layers.{i}.{ours}.{kind}": f"blk.{i}.{theirs}.{kind}"
        for i in range(n_layers)
        for ours, theirs in parts.items()
        for kind in ("weight", "bias")
    }
    return names | {
        "model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight",
        HEAD: "output.weight",
    }  # fmt: skip


def _type_of(tensor: Any) -> torch.dtype:
    return SIXTEEN.get(tensor.tensor_type.name, torch.float32)


def _values(tensor: Any, file: Path) -> Tensor:
    import gguf

    kind = tensor.tensor_type.name
    try:
        if kind == "F16":
            return torch.from_numpy(np.array(tensor.data))
        if kind == "BF16":
            raw = np.array(tensor.data).view(np.int16).reshape(tuple(reversed(tensor.shape.tolist())))
            return torch.from_numpy(raw).view(torch.bfloat16)
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
    except (ValueError, NotImplementedError) as error:
        raise StageError(f"{file}: {tensor.name} can't be read: {error}") from error
    return torch.from_numpy(np.array(values, dtype=np.float32))


def _halves_apart(weight: Tensor, heads: int) -> Tensor:
    """Undo llama.cpp's order of a head's channels, in which those that RoPE rotates together are neighbours."""
    shape = weight.shape
    return weight.view(heads, shape[0] // heads // 2, 2, *shape[1:]).transpose(1, 2).reshape(shape).contiguous()


def _adds_bos(fields: Mapping[str, Any]) -> bool:
    kind = fields.get("tokenizer.ggml.model")
    return bool(fields.get("tokenizer.ggml.add_bos_token", kind == "llama"))


def tokenizer_content(fields: Mapping[str, Any], tokens: list[str], file: Path) -> dict[str, Any]:
    """The content of a tokenizer.json with the same ids."""
    kind, pre = fields.get("tokenizer.ggml.model"), fields.get("tokenizer.ggml.pre", "default")
    types = fields.get("tokenizer.ggml.token_type") or [1] * len(tokens)
    if not tokens or len(types) != len(tokens):
        raise StageError(f"{file}: has {len(tokens):,} tokens and {len(types):,} types of tokens")
    added = [
        {
            "id": id, "content": token, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
            "special": type_ == CONTROL,
        }
        for id, (token, type_) in enumerate(zip(tokens, types, strict=True))
        if type_ in (CONTROL, USER_DEFINED)
    ]  # fmt: skip
    model: dict[str, Any] = {
        "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
        "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
        "vocab": {token: id for id, token in enumerate(tokens)},
    }  # fmt: skip
    normalizer: dict[str, Any] | None = None
    if kind == "gpt2":
        splits: dict[str, list[dict[str, Any]]] = {
            "smollm": [{"type": "Digits", "individual_digits": True}, BYTE_LEVEL | {"use_regex": True}],
            "gpt-2": [BYTE_LEVEL | {"use_regex": True}],
            "default": [BYTE_LEVEL | {"use_regex": True}],
            "qwen2": [_split(QWEN2_PATTERN), BYTE_LEVEL],
            "llama-bpe": [_split(LLAMA3_PATTERN), BYTE_LEVEL],
        }
        if pre not in splits:
            raise StageError(f"{file}: its tokenizer splits text as {pre!r}; supported are {', '.join(splits)}")
        model |= {"merges": [merge.split(" ") for merge in fields["tokenizer.ggml.merges"]]}
        model["ignore_merges"] = pre == "llama-bpe"
        normalizer = {"type": "NFC"} if pre == "qwen2" else None
        pre_tokenizer: dict[str, Any] | None = {"type": "Sequence", "pretokenizers": splits[pre]}
        decoder: dict[str, Any] = BYTE_LEVEL | {"use_regex": True}
    elif kind == "llama":
        model |= {"merges": _merges(tokens, fields["tokenizer.ggml.scores"]), "byte_fallback": True, "fuse_unk": True}
        unknown = fields.get("tokenizer.ggml.unknown_token_id", 0)
        model["unk_token"] = tokens[unknown]
        prefix = [{"type": "Prepend", "prepend": "▁"}] if fields.get("tokenizer.ggml.add_space_prefix", True) else []
        spaces = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
        normalizer = {"type": "Sequence", "normalizers": [*prefix, spaces]}
        pre_tokenizer = None
        decoder = {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"},
                {"type": "Fuse"}, *([{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if prefix else []),
            ],
        }  # fmt: skip
    else:
        raise StageError(f"{file}: its tokenizer is of the kind {kind!r}; supported are gpt2 (bytes) and llama")
    post = None
    bos = fields.get("tokenizer.ggml.bos_token_id")
    if _adds_bos(fields) and type(bos) is int:
        begin = {"SpecialToken": {"id": tokens[bos], "type_id": 0}}
        special = {tokens[bos]: {"id": tokens[bos], "ids": [bos], "tokens": [tokens[bos]]}}
        text, other = {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}
        post = {
            "type": "TemplateProcessing", "single": [begin, text], "pair": [begin, text, other],
            "special_tokens": special,
        }  # fmt: skip
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer, "post_processor": post, "decoder": decoder, "model": model,
    }  # fmt: skip


def _split(pattern: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


def _merges(tokens: list[str], scores: list[float]) -> list[list[str]]:
    """The merges of a SentencePiece vocabulary: all pairs that make a token, those of the highest score first."""
    ids = {token: id for id, token in enumerate(tokens)}
    pairs = []
    for id, token in enumerate(tokens):
        for i in range(1, len(token)):
            left, right = ids.get(token[:i]), ids.get(token[i:])
            if left is not None and right is not None:
                pairs.append((-scores[id], left, right))
    return [[tokens[left], tokens[right]] for _, left, right in sorted(pairs)]
