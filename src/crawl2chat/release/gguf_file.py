"""GGUF, the one-file format of llama.cpp and what is built on it: weights, vocabulary and chat template.

Names and keys are those of llama.cpp's own converter for the architecture qwen3; the `gguf` package writes them.
"""

import math
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from crawl2chat.model.huggingface import open_weights, read_config
from crawl2chat.model.transformer import ModelConfig
from crawl2chat.model.weights import Weights
from crawl2chat.stages.files import AnyPath, StageError, atomic_write
from crawl2chat.tokenizer.tokenizer import QWEN2_PATTERN, Tokenizer, printable

GgufType = Literal["float32", "float16", "bfloat16", "q8_0"]
GGML_TYPE = {"float32": "F32", "float16": "F16", "bfloat16": "BF16", "q8_0": "Q8_0"}
FILE_TYPE = {"F32": "ALL_F32", "F16": "MOSTLY_F16", "BF16": "MOSTLY_BF16", "Q8_0": "MOSTLY_Q8_0"}
STORED: dict[torch.dtype, GgufType] = {
    torch.float32: "float32", torch.float16: "float16", torch.bfloat16: "bfloat16",
}  # fmt: skip
MAX_HALF = 65504.0


def write_gguf(
    folder: AnyPath, file: AnyPath, kind: GgufType | None = None, *, name: str, licence: str | None = None
) -> GgufType:
    """Write the model in `folder` (with config.json) as one GGUF file, one tensor at a time; returns its type.

    kind: None takes the type that the weights are stored in.
    Vectors (the norms) stay float32 in every kind, as llama.cpp wants them; a matrix whose rows q8_0's blocks of 32
    do not fill stays float16. Raises StageError when `file` is there already, without the `gguf` package, for a
    tokenizer that llama.cpp would split otherwise, and for weights that the type can't hold.
    """
    folder, file = Path(folder), Path(file)
    if file.exists():
        raise StageError(f"{file}: is there already; give --gguf a new file, or remove this one")
    gguf = _package()
    config, tokenizer = read_config(folder), Tokenizer.load(folder)
    if tokenizer.pattern != QWEN2_PATTERN:
        raise StageError(
            f"{folder}: its tokenizer splits by {tokenizer.pattern!r}; llama.cpp knows Qwen2's pattern by name, "
            "this one would give other ids"
        )
    if tokenizer.nfc:
        print(
            "gguf: llama.cpp does not compose Unicode (NFC) as this tokenizer does; there, decomposed characters get "
            "other ids", file=sys.stderr,
        )  # fmt: skip
    weights = open_weights(folder, config)
    kind = kind or STORED[weights.stored_dtype()]
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN3, config.num_hidden_layers)
    with atomic_write(file) as temporary:
        writer = gguf.GGUFWriter(temporary, "qwen3")
        _add_model(writer, gguf, config, GGML_TYPE[kind], name, licence)
        _add_tokenizer(writer, gguf, tokenizer, config.vocab_size)
        for ours, shape in weights.shapes.items():
            as_type = _type_of(gguf, shape, kind)
            n_bytes = int(np.prod(gguf.quant_shape_to_byte_shape(tuple(shape), as_type)))
            theirs = names.get_name(ours, try_suffixes=(".weight",))
            writer.add_tensor_info(theirs, tuple(shape), np.dtype(np.float32), n_bytes, raw_dtype=as_type)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        _write_tensors(writer, gguf, weights, kind)
        writer.close()
    return kind


def _add_model(
    writer: Any, gguf: ModuleType, config: ModelConfig, ggml_type: str, name: str, licence: str | None
) -> None:
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
    writer.add_rope_freq_base(config.rope_theta)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)


def _add_tokenizer(writer: Any, gguf: ModuleType, tokenizer: Tokenizer, vocab_size: int) -> None:
    """Write tokens by id with their types, and merges by priority. Ids of the model beyond the tokenizer's are unused.

    llama.cpp shows an added token that is not special, such as a tag in Qwen's files, and finds it in plain text, too.
    """
    kinds = gguf.TokenType
    if tokenizer.vocab_size > vocab_size:
        raise StageError(f"export --gguf: the tokenizer has {tokenizer.vocab_size} tokens, the model only {vocab_size}")
    tokens = [f"[PAD{id}]" for id in range(vocab_size)]
    types = [kinds.UNUSED] * vocab_size
    for piece, id in tokenizer.ranks.items():
        tokens[id], types[id] = printable(piece), kinds.NORMAL
    content = tokenizer.to_huggingface()
    for token in content["added_tokens"]:
        kind = kinds.CONTROL if token["special"] else kinds.USER_DEFINED
        tokens[token["id"]], types[token["id"]] = token["content"], kind
    merges = content["model"]["merges"]  # pairs, or in older files two tokens with a space between
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in merges])
    writer.add_eos_token_id(tokenizer.eos_id)
    writer.add_eot_token_id(tokenizer.im_end)
    writer.add_pad_token_id(tokenizer.end_of_text)
    writer.add_bos_token_id(tokenizer.end_of_text)
    writer.add_add_bos_token(False)
    writer.add_chat_template(tokenizer.chat_template)


def _write_tensors(writer: Any, gguf: ModuleType, weights: Weights, kind: GgufType) -> None:
    for name, tensor in weights.items():
        as_type = _type_of(gguf, tensor.shape, kind)
        values = _in_range(name, tensor.to(torch.float32), as_type.name)
        writer.write_tensor_data(gguf.quants.quantize(np.ascontiguousarray(values.numpy()), as_type))


def _type_of(gguf: ModuleType, shape: torch.Size, kind: GgufType) -> Any:
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


def _package() -> ModuleType:
    try:
        import gguf
    except ImportError as error:
        raise StageError("writing GGUF needs the package gguf: pip install 'crawl2chat[gguf]'") from error
    return gguf
