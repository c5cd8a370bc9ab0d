"""Models as folders that transformers loads: `config.json` of a supported family, and safetensors."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from crawl2chat.model.adapters import AdaptedTransformer, AdaptedWeights, has_adapter, read_adapter, save_adapter
from crawl2chat.model.families import config_from_json, config_to_json
from crawl2chat.model.transformer import ModelConfig, Transformer
from crawl2chat.model.weights import EMBEDDING, HEAD, Weights, check_finite, save_weights
from crawl2chat.stages.files import AnyPath, StageError, read_json_object, write_json

SHARD_BYTES = 5_000_000_000  # at which transformers begins another file, too


def save_model(
    model: Transformer,
    folder: AnyPath,
    *,
    stop_ids: list[int],
    pad_id: int,
    generation: Mapping[str, Any] | None = None,
) -> None:
    """Write config, weights and generation config (the caller adds the tokenizer and makes it atomic).

    generation: the generation config of the model that this one was trained from, which is kept, with `stop_ids[0]` if
    it did not end there. Of a model with an adapter the adapter is written, with a link to the folder of its base.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    config = model.config
    ends = {"eos_token_id": stop_ids[0], "pad_token_id": pad_id}
    described = config_to_json(config)
    write_json(folder / "config.json", ends | described | {"torch_dtype": "float32"})
    ours = {"do_sample": True, "temperature": 0.7, "eos_token_id": stop_ids, "pad_token_id": pad_id}
    kept = dict(generation or ours)
    stated = kept.get("eos_token_id")
    if stop_ids[0] not in (stated if isinstance(stated, list) else [stated]):
        kept["eos_token_id"] = stop_ids
    write_json(folder / "generation_config.json", kept)
    if isinstance(model, AdaptedTransformer):
        save_adapter(folder, model)
        return
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    if config.tie_word_embeddings:
        del weights[HEAD]  # one tensor under two names is not for safetensors
    save_weights(folder, weights.items(), {name: tensor.nbytes for name, tensor in weights.items()}, SHARD_BYTES)


def load_model(folder: AnyPath, *, device: str = "cpu", dtype: torch.dtype | None = torch.float32) -> Transformer:
    """Load a stage's folder, or any folder of a supported family in transformers' form.

    dtype: of the weights in memory; None: as most of them are stored.
    Needs the memory of the model and of its largest tensor: each is read, converted and put in its place by itself.
    Raises StageError when the folder holds no such model, or one of another shape.
    """
    folder = model_folder(folder)
    config = read_config(folder)
    weights = {}
    stored = open_weights(folder, config)
    dtype = dtype or stored.stored_dtype()
    for name, tensor in stored.items():
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
    """The shape of the model in a folder. Raises StageError for one of no family that is supported."""
    file = Path(folder) / "config.json"
    return config_from_json(read_json_object(file), file)


def open_weights(folder: Path, config: ModelConfig) -> Weights:
    """The weights in a folder, checked against the shape that its config gives; an adapter's are merged."""
    if has_adapter(folder):
        adapter = read_adapter(folder)
        assert adapter.base
        return AdaptedWeights(open_weights(adapter.base, config), adapter)
    return Weights(folder, weight_shapes(config), tied=config.tie_word_embeddings)


def weight_shapes(config: ModelConfig) -> dict[str, torch.Size]:
    """The shape of each tensor, from one layer, since a config may claim a thousand without a file behind it."""
    one = on_meta(replace(config, num_hidden_layers=1)).state_dict()
    first = "model.layers.0."
    parts = {name.removeprefix(first): tensor.shape for name, tensor in one.items() if name.startswith(first)}
    layers = {
        f"model.layers.{i}.{part}": shape for i in range(config.num_hidden_layers) for part, shape in parts.items()
    }
    outside = {name: tensor.shape for name, tensor in one.items() if not name.startswith(first)}
    return {EMBEDDING: outside[EMBEDDING], **layers, **outside}


def on_meta(config: ModelConfig) -> Transformer:
    """The model without memory for its weights, to look at or to fill."""
    with torch.device("meta"):
        return Transformer(config)
