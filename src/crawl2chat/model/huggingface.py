"""Models as folders that transformers loads: `config.json` of a `Qwen3ForCausalLM` and safetensors."""

import json
import math
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import torch

from crawl2chat.model.transformer import ModelConfig, Transformer
from crawl2chat.model.weights import EMBEDDING, HEAD, Weights, check_finite, save_weights
from crawl2chat.stages.files import AnyPath, StageError, write_json
from crawl2chat.stages.text_files import read_text, what_is_wrong

SHARD_BYTES = 5_000_000_000  # at which transformers begins another file, too
REFUSED = {  # what a Qwen3 config.json may say and this model does not do; each with the values that say nothing
    "use_sliding_window": (None, False),
    "attention_bias": (None, False),
    "quantization_config": (None,),
    "hidden_act": (None, "silu"),
}
DEFAULTS = {  # what transformers takes a silent config.json of a Qwen3 to mean, as far as weights can be so
    "head_dim": 128, "max_position_embeddings": 32768, "tie_word_embeddings": False,
}  # fmt: skip
SIZES = tuple(field.name for field in fields(ModelConfig) if field.type is int)
RATES = tuple(field.name for field in fields(ModelConfig) if field.type is float)


def save_model(model: Transformer, folder: AnyPath, *, stop_ids: list[int], pad_id: int) -> None:
    """Write config, weights and generation config (the caller adds the tokenizer and makes it atomic)."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    config = model.config
    write_json(
        folder / "config.json",
        {
            "architectures": ["Qwen3ForCausalLM"],
            "model_type": "qwen3",
            **config.to_json(),
            "hidden_act": "silu",
            "attention_bias": False,
            "attention_dropout": 0.0,
            "use_sliding_window": False,
            "layer_types": ["full_attention"] * config.num_hidden_layers,
            "torch_dtype": "float32",
            "eos_token_id": stop_ids[0],
            "pad_token_id": pad_id,
        },
    )
    write_json(
        folder / "generation_config.json",
        {"do_sample": True, "temperature": 0.7, "eos_token_id": stop_ids, "pad_token_id": pad_id},
    )
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    if config.tie_word_embeddings:
        del weights[HEAD]  # one tensor under two names is not for safetensors
    save_weights(folder, weights.items(), {name: tensor.nbytes for name, tensor in weights.items()}, SHARD_BYTES)


def load_model(folder: AnyPath, *, device: str = "cpu", dtype: torch.dtype = torch.float32) -> Transformer:
    """Load a stage's folder, a checkpoint of it, or any folder of a dense Qwen3 in transformers' form.

    Needs the memory of the model and of its largest tensor: each is read, converted and put in its place by itself.
    Raises StageError when the folder holds no such model, or one of another shape.
    """
    folder = model_folder(folder)
    config = read_config(folder)
    weights = {}
    for name, tensor in open_weights(folder, config).items():
        check_finite(folder, name, tensor)
        weights[name] = tensor.to(device=device, dtype=dtype, copy=True)
    if config.tie_word_embeddings:
        weights[HEAD] = weights[EMBEDDING]
    model = on_meta(config)
    model.load_state_dict(weights, assign=True)
    if config.tie_word_embeddings:
        model.lm_head.weight = model.model.embed_tokens.weight  # assigning has made two parameters of one
    return model.eval()


def model_folder(folder: AnyPath) -> Path:
    """Where `config.json` lies: in the folder, or in its `model`. Raises StageError where it does not."""
    for place in (Path(folder), Path(folder) / "model"):
        if (place / "config.json").exists():
            return place
    raise StageError(f"{folder}: no model in it (config.json is missing)")


def read_config(folder: AnyPath) -> ModelConfig:
    """The shape of the model in a folder. Raises StageError for any other than a dense Qwen3 with plain RoPE."""
    file = Path(folder) / "config.json"
    content = read_json_object(file)
    if content.get("model_type") != "qwen3":
        raise StageError(f"{file}: model_type is {content.get('model_type')!r}, expected 'qwen3' (dense)")
    for name, harmless in REFUSED.items():
        if content.get(name) not in harmless:
            raise StageError(f"{file}: {name} = {content[name]!r} is not supported")
    content["rope_theta"] = _rope_theta(content, file)
    if content.get("num_key_value_heads") is None and "num_attention_heads" in content:
        content["num_key_value_heads"] = content["num_attention_heads"]
    for name, value in DEFAULTS.items():
        content[name] = value if content.get(name) is None else content[name]
    known = {field.name: content[field.name] for field in fields(ModelConfig) if content.get(field.name) is not None}
    for name, value in known.items():
        if name in SIZES and (type(value) is not int or value < 1):
            raise StageError(f"{file}: {name} = {value!r}; expected a whole number of at least 1")
        if name in RATES and not (type(value) in (int, float) and 0 < value < math.inf):
            raise StageError(f"{file}: {name} = {value!r}; expected a number above 0")
    missing = [field.name for field in fields(ModelConfig) if field.name not in known and field.default is MISSING]
    if missing:
        raise StageError(f"{file}: has no {', '.join(missing)}")
    try:
        return ModelConfig(**known)
    except (TypeError, ValueError) as error:
        raise StageError(f"{file}: not a usable Qwen3 config: {error}") from error


def open_weights(folder: Path, config: ModelConfig) -> Weights:
    """The weights in a folder, checked against the shape that its config gives."""
    shapes = {name: tensor.shape for name, tensor in on_meta(config).state_dict().items()}
    return Weights(folder, shapes, tied=config.tie_word_embeddings)


def on_meta(config: ModelConfig) -> Transformer:
    """The model without memory for its weights, to look at or to fill."""
    with torch.device("meta"):
        return Transformer(config)


def read_json_object(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(read_text(file))
    except (OSError, ValueError) as error:
        wrong = what_is_wrong(file) if file.is_file() else None
        raise StageError(f"{file}: {wrong or f'not readable JSON: {error}'}") from error
    if not isinstance(content, dict):
        raise StageError(f"{file}: expected a JSON object, found {type(content).__name__}")
    return content


def _rope_theta(content: dict[str, Any], file: Path) -> float | None:
    """RoPE's base: transformers 4 has it at the top with `rope_scaling` beside it, transformers 5 in one table."""
    for table in ("rope_scaling", "rope_parameters"):
        rope = content.get(table) or {}
        kind = rope.get("rope_type", rope.get("type", "default"))
        if kind != "default":
            raise StageError(
                f"{file}: {table} is of type {kind!r}, only plain RoPE is supported; if the model is to be used "
                "within its original context alone, remove the scaling from its config.json"
            )
    theta = (content.get("rope_parameters") or {}).get("rope_theta", content.get("rope_theta"))
    return None if theta is None else float(theta)
