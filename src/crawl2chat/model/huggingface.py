"""Models as folders that transformers loads: `config.json` of a `Qwen3ForCausalLM` and safetensors."""

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from crawl2chat.model.transformer import ModelConfig, Transformer
from crawl2chat.run import StageError, write_json


def save_model(model: Transformer, folder: Path, *, stop_ids: list[int], pad_id: int) -> None:
    """Write config, weights and generation config (the caller adds the tokenizer and makes it atomic)."""
    folder.mkdir(parents=True, exist_ok=True)
    config = model.config
    n_layers = config.num_hidden_layers
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
            "layer_types": ["full_attention"] * n_layers,
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
        del weights["lm_head.weight"]  # one tensor under two names is not for safetensors
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def load_model(folder: Path, *, device: str = "cpu", dtype: torch.dtype = torch.float32) -> Transformer:
    """Load a stage's folder, a checkpoint of it, or any folder of a dense Qwen3 in transformers' form.

    Raises StageError when the folder holds no such model, or one of another shape.
    """
    if not (folder / "config.json").exists() and (folder / "model" / "config.json").exists():
        folder = folder / "model"
    file = folder / "config.json"
    if not file.exists():
        raise StageError(f"{folder}: no model in it (config.json is missing)")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise StageError(f"{file}: not readable JSON: {error}") from error
    model = Transformer(_read_config(content, file))
    weights: dict[str, torch.Tensor] = {}
    shards = sorted(folder.glob("*.safetensors"))
    if not shards:
        raise StageError(f"{folder}: no weights in it (*.safetensors is missing)")
    for shard in shards:
        try:
            weights |= load_file(shard)
        except SafetensorError as error:
            raise StageError(f"{shard}: can't be read, perhaps cut short: {error}") from error
    if model.config.tie_word_embeddings:
        weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise StageError(f"{folder}: its weights don't fit its config.json: {error}") from error
    return model.to(device=device, dtype=dtype).eval()


def _read_config(content: dict[str, Any], file: Path) -> ModelConfig:
    if content.get("model_type") != "qwen3":
        raise StageError(f"{file}: model_type is {content.get('model_type')!r}, expected 'qwen3' (dense)")
    if content.get("use_sliding_window") or content.get("attention_bias") or content.get("rope_scaling"):
        raise StageError(f"{file}: sliding windows, attention biases and scaled RoPE are not supported")
    rope = content.get("rope_parameters") or {}  # transformers 5 moves RoPE's settings into a table of their own
    if rope.get("rope_type", "default") != "default":
        raise StageError(f"{file}: RoPE of type {rope['rope_type']!r} is not supported, only the plain one")
    content = content | {name: value for name, value in rope.items() if name == "rope_theta"}
    known = {field.name for field in fields(ModelConfig)}
    try:
        return ModelConfig(**{name: value for name, value in content.items() if name in known})
    except (TypeError, ValueError) as error:
        raise StageError(f"{file}: not a usable Qwen3 config: {error}") from error
