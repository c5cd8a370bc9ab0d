"""GGUF, the one-file format of llama.cpp and what is built on it: weights, vocabulary and chat template.

Names and keys are those of llama.cpp's own converter; the `gguf` package writes them.
"""

import math
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import gguf
import numpy as np
import torch
from torch import Tensor

from crawl2chat.model.huggingface import open_weights, read_config
from crawl2chat.model.rope import RopeScaling, frequencies
from crawl2chat.model.transformer import ModelConfig
from crawl2chat.model.weights import Weights
from crawl2chat.stages.files import AnyPath, StageError, atomic_write
from crawl2chat.tokenizer.huggingface import GPT2_PATTERN, LLAMA3_PATTERN, QWEN2_PATTERN
from crawl2chat.tokenizer.tokenizer import Tokenizer

GgufType = Literal["float32", "float16", "bfloat16", "q8_0"]
GGML_TYPE = {"float32": "F32", "float16": "F16", "bfloat16": "BF16", "q8_0": "Q8_0"}
FILE_TYPE = {"F32": "ALL_F32", "F16": "MOSTLY_F16", "BF16": "MOSTLY_BF16", "Q8_0": "MOSTLY_Q8_0"}
STORED: dict[torch.dtype, GgufType] = {
    torch.float32: "float32", torch.float16: "float16", torch.bfloat16: "bfloat16",
}  # fmt: skip
FALLBACK = re.compile(r"<0x[0-9A-F]{2}>")
MAX_HALF = 65504.0
ARCHITECTURES = {"llama": "llama", "mistral": "llama", "qwen2": "qwen2", "qwen3": "qwen3"}  # of our families


def write_gguf(
    folder: AnyPath, file: AnyPath, kind: GgufType | None = None, *, name: str, licence: str | None = None
) -> GgufType:
    """Write the model in `folder` (with config.json) as one GGUF file, one tensor at a time; returns its type.

    kind: None takes the type that the weights are stored in.
    Vectors (the norms) stay float32 in every kind, as llama.cpp wants them; a matrix whose rows q8_0's blocks of 32
    do not fill stays float16. Raises StageError if `file` exists already, for a tokenizer that llama.cpp
    would split otherwise, for what its architectures can't do, and for weights that the type can't hold.
    """
    folder, file = Path(folder), Path(file)
    if file.exists():
        raise StageError(f"{file}: exists already; give --gguf a new file, or remove this one")
    config, tokenizer = read_config(folder), Tokenizer.load(folder)
    architecture = ARCHITECTURES[config.family]
    _check_possible(config, folder)
    vocabulary = _vocabulary(tokenizer, folder)
    if tokenizer.nfc:
        print(
            "gguf: llama.cpp does not compose Unicode (NFC) as this tokenizer does; there, decomposed characters get "
            "other ids", file=sys.stderr,
        )  # fmt: skip
    weights = open_weights(folder, config)
    kind = kind or STORED[weights.stored_dtype()]
    names = gguf.get_tensor_name_map(getattr(gguf.MODEL_ARCH, architecture.upper()), config.num_hidden_layers)
    with atomic_write(file) as temporary:
        writer = gguf.GGUFWriter(temporary, architecture)
        _add_model(writer, config, GGML_TYPE[kind], name, licence)
        _add_tokenizer(writer, tokenizer, vocabulary, config.vocab_size)
        for ours, shape in weights.shapes.items():
            as_type = _type_of(shape, kind)
            n_bytes = int(np.prod(gguf.quant_shape_to_byte_shape(tuple(shape), as_type)))
            theirs = names.get_name(ours, try_suffixes=(".weight", ".bias"))
            assert theirs is not None, ours
            writer.add_tensor_info(theirs, tuple(shape), np.dtype(np.float32), n_bytes, raw_dtype=as_type)
        stretches = _rope_freqs(config)
        if stretches is not None:
            float32 = gguf.GGMLQuantizationType.F32
            writer.add_tensor_info(
                "rope_freqs.weight", stretches.shape, np.dtype(np.float32), stretches.nbytes, raw_dtype=float32
            )
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        _write_tensors(writer, weights, kind, config if architecture == "llama" else None)
        if stretches is not None:
            writer.write_tensor_data(stretches)
        writer.close()
    return kind


def _add_model(writer: Any, config: ModelConfig, ggml_type: str, name: str, licence: str | None) -> None:
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_name(name)
    if licence:
        writer.add_license(licence)
    writer.add_file_type(gguf.LlamaFileType[FILE_TYPE[ggml_type]])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_theta)
    if (stretch := config.rope_scaling) and stretch.kind != "llama3":
        writer.add_rope_scaling_type(gguf.RopeScalingType(stretch.kind))
        writer.add_rope_scaling_factor(stretch.factor)
        writer.add_rope_scaling_orig_ctx_len(stretch.original_max_position_embeddings)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)


def _check_possible(config: ModelConfig, folder: Path) -> None:
    """Raise StageError for what llama.cpp's architecture of this family does not do."""
    stretch = config.rope_scaling
    if config.sliding_layers:
        raise StageError(f"{folder}: its layers see windows of {config.sliding_window} tokens; llama.cpp's do not")
    if stretch and stretch.kind == "dynamic":
        raise StageError(f"{folder}: its RoPE is scaled by a text's length (dynamic), which llama.cpp does not do")
    plain = RopeScaling("yarn", stretch.factor, stretch.original_max_position_embeddings) if stretch else None
    if stretch and stretch.kind == "yarn" and stretch != plain:
        raise StageError(f"{folder}: its YaRN has settings of its own, which GGUF has no keys for")


def _rope_freqs(config: ModelConfig) -> np.ndarray[Any, np.dtype[np.float32]] | None:
    """By what Llama 3.1's scaling divides each frequency of RoPE, which llama.cpp reads as a tensor."""
    if not config.rope_scaling or config.rope_scaling.kind != "llama3":
        return None
    plain = frequencies(config.head_dim, config.rope_theta, None)
    return (plain / frequencies(config.head_dim, config.rope_theta, config.rope_scaling)).numpy().astype(np.float32)


@dataclass(frozen=True)
class _Vocabulary:
    """A tokenizer as llama.cpp names its kind."""

    kind: str  # gpt2: bytes; llama: SentencePiece
    pre: str  # how it splits text
    tokens: dict[str, int]
    merges: list[list[str]]


def _vocabulary(tokenizer: Tokenizer, folder: Path) -> _Vocabulary:
    content = tokenizer.to_huggingface()
    model, split = content["model"], content["pre_tokenizer"]
    merges = [merge.split(" ") if isinstance(merge, str) else list(merge) for merge in model["merges"]]
    vocab = {token: id for token, id in model["vocab"].items() if token not in tokenizer.controls}
    match split:
        case None if model.get("byte_fallback"):
            return _Vocabulary("llama", "default", vocab, merges)
        case {"type": "Metaspace", "replacement": "▁", "split": False} if model.get("byte_fallback"):
            if split.get("prepend_scheme") == "first":
                print(
                    "gguf: llama.cpp puts a space before all text after a control token and at the beginning; this "
                    "tokenizer only at the beginning, and only where there is none", file=sys.stderr,
                )  # fmt: skip
            return _Vocabulary("llama", "default", vocab, merges)
    if tokenizer.library is None:
        pre = {QWEN2_PATTERN: "qwen2", LLAMA3_PATTERN: "llama-bpe", GPT2_PATTERN: "gpt-2"}.get(tokenizer.pattern)
        if pre:
            return _Vocabulary("gpt2", pre, vocab, merges)
    match (split or {}).get("pretokenizers"):
        case [{"type": "Digits", "individual_digits": True}, {"type": "ByteLevel", "add_prefix_space": False}]:
            return _Vocabulary("gpt2", "smollm", vocab, merges)
    found = repr(tokenizer.pattern or split)[:200]
    raise StageError(
        f"{folder}: its tokenizer splits by {found}; llama.cpp knows Qwen2's pattern by name, Llama 3's, GPT-2's and "
        "SmolLM's, and SentencePiece's way; this one would give other ids"
    )


def _add_tokenizer(writer: Any, tokenizer: Tokenizer, vocabulary: _Vocabulary, vocab_size: int) -> None:
    """Write tokens by id with their types, and merges by priority. Ids of the model beyond the tokenizer's are unused.

    llama.cpp shows an added token that is not special, such as a tag in Qwen's files, and finds it in plain text, too.
    """
    kinds = gguf.TokenType
    if tokenizer.vocab_size > vocab_size:
        raise StageError(f"export --gguf: the tokenizer has {tokenizer.vocab_size} tokens, the model only {vocab_size}")
    tokens = [f"[PAD{id}]" for id in range(vocab_size)]
    types = [kinds.UNUSED] * vocab_size
    for token, id in vocabulary.tokens.items():
        is_byte = vocabulary.kind == "llama" and FALLBACK.fullmatch(token)
        tokens[id], types[id] = token, kinds.BYTE if is_byte else kinds.NORMAL
    content = tokenizer.to_huggingface()
    for token in content["added_tokens"]:
        kind = kinds.CONTROL if token["special"] else kinds.USER_DEFINED
        tokens[token["id"]], types[token["id"]] = token["content"], kind
    writer.add_tokenizer_model(vocabulary.kind)
    writer.add_tokenizer_pre(vocabulary.pre)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    if vocabulary.kind == "llama":
        made = {left + right: -float(rank) for rank, (left, right) in reversed(list(enumerate(vocabulary.merges)))}
        writer.add_token_scores([made.get(token, 0.0) for token in tokens])
        scheme = (content["pre_tokenizer"] or {}).get("prepend_scheme", "never")
        writer.add_add_space_prefix("Prepend" in str(content["normalizer"]) or scheme != "never")
    else:
        writer.add_token_merges([" ".join(merge) for merge in vocabulary.merges])
    unknown = content["model"].get("unk_token")
    if unknown in content["model"]["vocab"]:
        writer.add_unk_token_id(content["model"]["vocab"][unknown])
    writer.add_eos_token_id(tokenizer.eos_id)
    writer.add_eot_token_id(tokenizer.end_of_turn)
    writer.add_pad_token_id(tokenizer.pad_id)
    named = tokenizer.controls.get(tokenizer.template.variables["bos_token"])  # which a chat template may write
    writer.add_bos_token_id(tokenizer.bos_id if named is None else named)
    writer.add_add_bos_token(tokenizer.bos_id != tokenizer.end_of_text)
    writer.add_chat_template(tokenizer.chat_template)


def _write_tensors(writer: Any, weights: Weights, kind: GgufType, config: ModelConfig | None) -> None:
    """config: of a Llama, whose queries' and keys' channels llama.cpp has in another order."""
    for name, tensor in weights.items():
        as_type = _type_of(tensor.shape, kind)
        values = _in_range(name, tensor.to(torch.float32), as_type.name)
        if config and ("q_proj" in name or "k_proj" in name):
            heads = config.num_attention_heads if "q_proj" in name else config.num_key_value_heads
            shape = values.shape
            values = values.view(heads, 2, shape[0] // heads // 2, *shape[1:]).transpose(1, 2).reshape(shape)
        writer.write_tensor_data(gguf.quants.quantize(np.ascontiguousarray(values.numpy()), as_type))


def _type_of(shape: torch.Size, kind: GgufType) -> Any:
    types = gguf.GGMLQuantizationType
    if len(shape) == 1:
        return types.F32
    block, _ = gguf.GGML_QUANT_SIZES[types[GGML_TYPE[kind]]]
    return types[GGML_TYPE[kind]] if shape[-1] % block == 0 else types.F16


def _in_range(name: str, tensor: Tensor, ggml_type: str) -> Tensor:
    largest = float(tensor.abs().max())
    if not math.isfinite(largest):
        raise StageError(f"{name} holds NaN or infinite values, so this model is broken")
    if ggml_type == "F16" and largest > MAX_HALF:
        raise StageError(f"{name} holds {largest}, which {ggml_type} can't; take --dtype bfloat16 or float32")
    return tensor
