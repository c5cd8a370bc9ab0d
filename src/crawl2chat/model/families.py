"""The families of dense decoders that are one transformer: what a `config.json` of theirs means, and how to write one.

What comes in as one family goes out as the same one: fields that do not shape the model are kept as they were.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from crawl2chat.model.rope import STRETCHES, RopeScaling, Stretch
from crawl2chat.model.transformer import ModelConfig
from crawl2chat.stages.files import StageError

MOST = {  # what no dense model of today exceeds; a file that says more is damaged, or means harm
    "vocab_size": 4_000_000, "hidden_size": 100_000, "intermediate_size": 1_000_000, "num_hidden_layers": 1_000,
    "num_attention_heads": 1_000, "num_key_value_heads": 1_000, "head_dim": 10_000,
    "max_position_embeddings": 100_000_000,
}  # fmt: skip
RATES = ("rms_norm_eps", "rope_theta")
OTHERS = {  # model_types that people try, by what they are
    "a mixture of experts; take a dense model": (
        "mixtral", "qwen2_moe", "qwen3_moe", "olmoe", "gpt_oss", "llama4", "deepseek_v2", "deepseek_v3",
    ),
    "a state-space or recurrent model": ("mamba", "mamba2", "falcon_mamba", "jamba", "rwkv", "recurrent_gemma"),
    "an encoder, which can't write": (
        "bert", "roberta", "xlm-roberta", "distilbert", "deberta-v2", "electra", "albert", "modernbert",
    ),
    "an encoder with a decoder": ("t5", "mt5", "umt5", "bart", "mbart"),
    "a model with vision; take its text-only sibling": (
        "llava", "qwen2_vl", "qwen2_5_vl", "qwen3_vl", "mllama", "idefics3", "smolvlm",
    ),
}  # fmt: skip
UNSUPPORTED = {  # fields of a config.json that say what this transformer does not do, and what to call it
    "quantization_config": "quantised checkpoints are not supported; take the unquantised one, or a GGUF file",
    "num_local_experts": "mixtures of experts are not supported",
    "num_experts": "mixtures of experts are not supported",
    "n_routed_experts": "mixtures of experts are not supported",
    "kv_lora_rank": "multi-head latent attention is not supported",
    "vision_config": "models with vision are not supported",
    "audio_config": "models with audio are not supported",
}


@dataclass(frozen=True)
class Family:
    """What transformers takes a silent config.json of a family to mean, and in what its attention differs."""

    architecture: str
    defaults: Mapping[str, Any]
    qk_norm: bool = False
    qkv_bias: bool | None = None  # None: as `attention_bias` says
    o_bias: bool | None = False
    window: bool = False  # whether `sliding_window` counts by itself, in all layers


LLAMA = {"max_position_embeddings": 2048, "tie_word_embeddings": False}
FAMILIES = {
    "llama": Family("LlamaForCausalLM", LLAMA, o_bias=None),
    "mistral": Family(
        "MistralForCausalLM",
        {"max_position_embeddings": 131_072, "tie_word_embeddings": False, "num_key_value_heads": 8,
         "sliding_window": 4096},
        qkv_bias=False, window=True,
    ),
    "qwen2": Family(
        "Qwen2ForCausalLM", {"max_position_embeddings": 32_768, "tie_word_embeddings": False}, qkv_bias=True
    ),
    "qwen3": Family(
        "Qwen3ForCausalLM", {"max_position_embeddings": 32_768, "tie_word_embeddings": False, "head_dim": 128},
        qk_norm=True, o_bias=None,
    ),
}  # fmt: skip


def config_from_json(content: Mapping[str, Any], file: Path) -> ModelConfig:
    """The model that the content of a `config.json` describes, in the form of transformers 4 or 5.

    Raises StageError for a family or a feature that is not supported, by its name, and for impossible values.
    """
    name = content.get("model_type")
    for field, reason in UNSUPPORTED.items():
        if content.get(field):
            raise StageError(f"{file}: {field} = {str(content[field])[:80]}: {reason}")
    family = FAMILIES.get(name) if isinstance(name, str) else None
    if family is None:
        is_a = next((f" ({what})" for what, names in OTHERS.items() if name in names), "")
        raise StageError(f"{file}: model_type is {repr(name)[:80]}{is_a}, expected one of {', '.join(FAMILIES)}")
    if content.get("hidden_act") not in (None, "silu"):
        raise StageError(f"{file}: hidden_act = {repr(content['hidden_act'])[:80]} is not supported, only 'silu'")
    given = {key: value for key, value in content.items() if value is not None}
    silent = {key: value for key, value in family.defaults.items() if key not in given}
    if "sliding_window" in content:  # null means that there is none
        silent.pop("sliding_window", None)
    given |= silent
    derived = ("num_key_value_heads", "head_dim")
    missing = [field for field in MOST if field not in given and field not in derived]
    if missing:
        raise StageError(f"{file}: has no {', '.join(missing)}")
    heads = _whole(given, "num_attention_heads", file)
    given.setdefault("num_key_value_heads", heads)
    given.setdefault("head_dim", _whole(given, "hidden_size", file) // heads)
    sizes = {field: _whole(given, field, file) for field in MOST}
    if sizes["head_dim"] % 2:
        raise StageError(f"{file}: head_dim = {sizes['head_dim']}; expected an even number")
    theta, scaling = _rope(given, sizes["max_position_embeddings"], file)
    window, windowed = _window(given, family, sizes["num_hidden_layers"], file)
    attention_bias = bool(given.get("attention_bias"))
    try:
        return ModelConfig(
            **sizes,
            rope_theta=theta,
            rms_norm_eps=_rate(given, "rms_norm_eps", 1e-6, file),
            tie_word_embeddings=bool(given["tie_word_embeddings"]),
            family=str(name),
            qk_norm=family.qk_norm,
            qkv_bias=attention_bias if family.qkv_bias is None else family.qkv_bias,
            o_bias=attention_bias if family.o_bias is None else family.o_bias,
            mlp_bias=bool(given.get("mlp_bias")) and name == "llama",
            rope_scaling=scaling,
            sliding_window=window,
            sliding_layers=windowed,
            original=dict(content),
        )
    except ValueError as error:
        raise StageError(f"{file}: not a usable config of {name}: {error}") from error


def config_to_json(config: ModelConfig) -> dict[str, Any]:
    """The content of the model's `config.json`: that which it was read from, or one that says everything."""
    if config.original:
        return {key: value for key, value in config.original.items() if key not in ("dtype", "torch_dtype")}
    sizes = {field: getattr(config, field) for field in (*MOST, *RATES, "tie_word_embeddings")}
    content = {
        "architectures": [FAMILIES[config.family].architecture],
        "model_type": config.family,
        **sizes,
        "hidden_act": "silu",
        "attention_bias": config.family in ("llama", "qwen3") and config.qkv_bias,
        "attention_dropout": 0.0,
    }
    if config.family == "llama":
        content["mlp_bias"] = config.mlp_bias
    if config.family == "mistral":
        content["sliding_window"] = config.sliding_window
    elif config.family != "llama":
        sliding = set(config.sliding_layers)
        content["use_sliding_window"] = bool(sliding)
        content |= {"sliding_window": config.sliding_window} if sliding else {}
        content["layer_types"] = [
            "sliding_attention" if layer in sliding else "full_attention" for layer in range(config.num_hidden_layers)
        ]
    if scaling := config.rope_scaling:
        values = {key: value for key, value in vars(scaling).items() if key != "kind" and value is not None}
        content["rope_scaling"] = {"rope_type": scaling.kind, **values}
    return content


def _whole(given: Mapping[str, Any], field: str, file: Path) -> int:
    value = given[field]
    if type(value) is not int or value < 1:
        raise StageError(f"{file}: {field} = {repr(value)[:80]}; expected a whole number of at least 1")
    if value > MOST[field]:
        raise StageError(f"{file}: {field} = {min(value, 10**300):.3g}; expected at most {MOST[field]:,}")
    return value


def _rate(given: Mapping[str, Any], field: str, default: float, file: Path) -> float:
    value = given.get(field, default)
    if type(value) not in (int, float) or not 0 < value <= sys.float_info.max:
        raise StageError(f"{file}: {field} = {repr(value)[:80]}; expected a number above 0")
    return float(value)


def _rope(given: Mapping[str, Any], context: int, file: Path) -> tuple[float, RopeScaling | None]:
    """RoPE's base and scaling: transformers 4 has `rope_theta` with `rope_scaling` next to it, 5 all in one table."""
    name = next((name for name in ("rope_scaling", "rope_parameters") if given.get(name)), "rope_scaling")
    table = given.get(name, {})
    if not isinstance(table, dict):
        raise StageError(f"{file}: {name} = {str(table)[:80]}; expected an object")
    other = given.get("rope_parameters")  # transformers also reads the base there, if `rope_scaling` is given too
    bases = (place.get("rope_theta") for place in (table, given, other) if isinstance(place, dict))
    base = next((base for base in bases if base is not None), 10_000.0)
    theta = _rate({"rope_theta": base}, "rope_theta", 0, file)
    kind = table.get("rope_type", table.get("type", "default"))
    if table.get("partial_rotary_factor", given.get("partial_rotary_factor", 1.0)) not in (None, 1.0):
        raise StageError(f"{file}: partial_rotary_factor is not supported; whole heads are rotated here")
    if kind == "default":
        return theta, None
    if kind not in STRETCHES:
        raise StageError(
            f"{file}: {name} is of type {str(kind)[:40]!r}, supported are {', '.join(STRETCHES)}; if the model is to "
            "be used within its original context alone, remove the scaling from its config.json"
        )
    values = {
        field: _rate(table, field, 1.0, file)
        for field in RopeScaling.__dataclass_fields__
        if field not in ("kind", "truncate", "original_max_position_embeddings") and table.get(field) is not None
    }
    original = given.get("original_max_position_embeddings") or table.get("original_max_position_embeddings") or context
    if kind == "dynamic":
        original = context  # transformers' dynamic scaling knows no other
    if type(original) is not int or not 1 <= original <= MOST["max_position_embeddings"]:
        shown = repr(original)[:80]
        raise StageError(f"{file}: original_max_position_embeddings = {shown}; expected a whole number above 0")
    if values.get("factor") is None:
        if kind != "yarn" or original == context:
            raise StageError(f"{file}: {name} of type {kind!r} has no factor")
        values["factor"] = context / original
    if kind == "llama3" and not {"low_freq_factor", "high_freq_factor"} <= values.keys():
        raise StageError(f"{file}: {name} of type 'llama3' has no low_freq_factor or no high_freq_factor")
    scaling = RopeScaling(
        cast(Stretch, kind),
        original_max_position_embeddings=original,
        truncate=bool(table.get("truncate", True)),
        **values,
    )
    return theta, scaling


def _window(given: Mapping[str, Any], family: Family, n_layers: int, file: Path) -> tuple[int | None, tuple[int, ...]]:
    """How many tokens a windowed layer sees, and which layers are windowed."""
    counts = family.window or bool(given.get("use_sliding_window"))
    window = given.get("sliding_window", None if family.window else 4096)
    if not counts or window is None:
        return None, ()
    if type(window) is not int or window < 1:
        raise StageError(f"{file}: sliding_window = {repr(window)[:80]}; expected a whole number above 0")
    types = given.get("layer_types")
    if isinstance(types, list) and not family.window:
        if len(types) != n_layers or any(name not in ("full_attention", "sliding_attention") for name in types):
            raise StageError(
                f"{file}: layer_types = {str(types)[:80]}; expected full_attention or sliding_attention for each layer"
            )
        windowed = tuple(i for i, name in enumerate(types) if name == "sliding_attention")
    else:
        first = 0 if family.window else given.get("max_window_layers", 28)
        windowed = tuple(range(first, n_layers)) if type(first) is int and first >= 0 else ()
    return (window, windowed) if windowed else (None, ())
