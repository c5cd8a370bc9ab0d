"""Adapters on a model: frozen weights that several models share, a small trained update, and files as PEFT has them.

A folder with an adapter holds `adapter_config.json` and `adapter_model.safetensors`, which `peft` loads, and next to
config, generation config and tokenizer a link to its base: `adapter_base.json` with the base's folder and a hash of
its weights. Loaded, it is one model with merged weights, which nothing else has to know of. The base may be a folder
with an adapter, too.
"""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import xxhash
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from crawl2chat.model.lora import LoraLinear, updated
from crawl2chat.model.transformer import Block, ModelConfig, Transformer
from crawl2chat.model.weights import DTYPES, EMBEDDING, HEAD, Weights, weight_files
from crawl2chat.stages.files import StageError, read_json_object, write_json
from crawl2chat.stages.text_files import PICKLE, what_is_wrong

CONFIG, WEIGHTS, LINK = "adapter_config.json", "adapter_model.safetensors", "adapter_base.json"
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
PREFIX = "base_model.model."  # of every tensor in PEFT's file
NAME = re.compile(r"[\w.-]+")  # of modules
PEFT_NAMES = {"lora_A": "lora_A.weight", "lora_B": "lora_B.weight", "magnitude": "lora_magnitude_vector"}
REFUSED: dict[str, tuple[Any, ...]] = {  # each with the values that are done here
    "peft_type": ("LORA",), "bias": (None, "none", "all", "lora_only"), "fan_in_fan_out": (None, False),
    "layer_replication": (None,), "alora_invocation_tokens": (None,), "trainable_token_indices": (None,),
    "target_parameters": (None, []), "lora_bias": (None, False), "use_qalora": (None, False), "use_bdlora": (None,),
    "arrow_config": (None,), "monteclora_config": (None,),
    "init_lora_weights": (None, True, False, "gaussian", "eva", "orthogonal"),  # all others change the base, too
}  # fmt: skip


@dataclass(frozen=True)
class AdapterShape:
    """What an adapter is made of, but for its numbers."""

    rank: int
    scale: float  # of the update, alpha / rank
    dora: bool = False
    targets: tuple[str, ...] = TARGETS
    patterned: bool = False  # whether some modules have a rank or scale of their own, or parameters of the base change

    def __post_init__(self) -> None:
        object.__setattr__(self, "targets", tuple(sorted(self.targets)))


class AdaptedTransformer(Transformer):
    """A transformer whose weights are frozen and may be shared, with an adapter that is trained."""

    def __init__(self, config: ModelConfig, shape: AdapterShape, base: Path | None) -> None:
        super().__init__(config)
        self.shape, self.base = shape, base

    @staticmethod
    def on(frozen: Transformer, shape: AdapterShape, base: Path | None = None) -> "AdaptedTransformer":
        """A new adapter on a model's parameters: the same objects, which no gradient reaches from now on.

        base: the folder of those weights, where the adapter is to be saved. What is on a bf16 matrix multiplies in the
        type of its inputs. The adapter's numbers are to be initialised or loaded.
        """
        with torch.device("meta"):
            model = AdaptedTransformer(frozen.config, shape, base)
        share_parameters(frozen, model)
        for block in (module for module in model.modules() if isinstance(module, Block)):
            for part in (block.self_attn, block.mlp):
                for name, linear in list(part.named_children()):
                    if name in shape.targets and isinstance(linear, nn.Linear):
                        setattr(part, name, LoraLinear(linear, shape.rank, shape.scale, dora=shape.dora))
        return model.requires_grad_adapter()

    def requires_grad_adapter(self) -> "AdaptedTransformer":
        """Freeze all parameters but the adapter's."""
        adapter = {id(p) for layer in self.lora_layers().values() for p in layer.adapter().values()}
        for parameter in self.parameters():
            parameter.requires_grad_(id(parameter) in adapter)
        return self

    def lora_layers(self) -> dict[str, LoraLinear]:
        """Every layer of the adapter by the name of its module."""
        return {name: module for name, module in self.named_modules() if isinstance(module, LoraLinear)}

    def initialise(self, seed: int) -> "AdaptedTransformer":
        """Begin as the base is."""
        generator = torch.Generator().manual_seed(seed)
        for layer in self.lora_layers().values():
            layer.initialise(generator)
        return self

    def adapter(self) -> dict[str, Tensor]:
        """The adapter's tensors under PEFT's names, on the CPU."""
        return {
            f"{PREFIX}{module}.{PEFT_NAMES[name]}": parameter.detach().cpu().contiguous()
            for module, layer in self.lora_layers().items()
            for name, parameter in layer.adapter().items()
        }

    @torch.no_grad()
    def load_adapter(self, tensors: Mapping[str, Tensor]) -> "AdaptedTransformer":
        """Take over what `adapter` gave, of an adapter of the same shape."""
        for module, layer in self.lora_layers().items():
            for name, parameter in layer.adapter().items():
                parameter.copy_(tensors[f"{PREFIX}{module}.{PEFT_NAMES[name]}"])
        return self


def share_parameters(source: nn.Module, target: nn.Module) -> None:
    """Make the parameters and buffers of `target` those of `source`, as far as modules of `target` have them."""
    for name, module in target.named_modules():
        given = source.get_submodule(name)
        for own, theirs in ((module._parameters, given._parameters), (module._buffers, given._buffers)):
            for key in own:
                own[key] = theirs[key]


@dataclass(frozen=True)
class Adapter:
    """An adapter as its folder holds it. `base`: the folder of its base, as the link says; None without a link."""

    folder: Path
    shape: AdapterShape
    base: Path | None
    tensors: dict[str, Tensor]  # under PEFT's names
    own: Mapping[str, tuple[int, float]]  # rank and scale of modules that have others than the rest
    replaced: Mapping[str, Tensor]  # parameters that come in place of the base's: modules to save, and biases

    def of_module(self, module: str) -> dict[str, Tensor]:
        """A, B and, of DoRA, magnitude of a module; empty if it is not adapted."""
        named = {name: f"{PREFIX}{module}.{theirs}" for name, theirs in PEFT_NAMES.items()}
        return {name: self.tensors[theirs] for name, theirs in named.items() if theirs in self.tensors}

    def rank_and_scale(self, module: str) -> tuple[int, float]:
        return self.own.get(module, (self.shape.rank, self.shape.scale))


def has_adapter(folder: Path) -> bool:
    return (folder / LINK).is_file() and (folder / CONFIG).is_file()


def save_adapter(folder: Path, model: AdaptedTransformer, others: Mapping[str, Tensor] | None = None) -> None:
    """Write config, tensors and, if the model's base has a folder, the link to it.

    others: further tensors, by their modules' names, that replace the base's ("modules to save"), of a reward model.
    The link is relative within a run, so that the run can be moved.
    """
    task = {"task_type": "SEQ_CLS"} if others else {"task_type": "CAUSAL_LM"}
    shape = model.shape
    write_json(
        folder / CONFIG,
        {
            "peft_type": "LORA",
            **task,
            "base_model_name_or_path": str(model.base) if model.base else None,
            "r": shape.rank,
            "lora_alpha": shape.scale * shape.rank,
            "lora_dropout": 0.0,
            "bias": "none",
            "use_dora": shape.dora,
            "target_modules": list(shape.targets),
            "modules_to_save": sorted({name.rpartition(".")[0] for name in others}) if others else None,
            "inference_mode": True,
        },
    )
    tensors = model.adapter() | {f"{PREFIX}{name}": tensor.contiguous() for name, tensor in (others or {}).items()}
    (folder / WEIGHTS).touch()
    mode = (folder / WEIGHTS).stat().st_mode  # safetensors' own would shut everybody else out
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    (folder / WEIGHTS).chmod(mode)
    if model.base:
        base, run = model.base.resolve(), folder.resolve().parent.parent
        place = os.path.relpath(base, folder.resolve()) if base.is_relative_to(run) else str(base)
        write_json(folder / LINK, {"folder": place, "weights": hash_weights(base)})


def read_adapter(folder: Path) -> Adapter:
    """The adapter in a folder, and where its base is.

    Raises StageError for an adapter that is damaged or of a kind that is not done here, and when the base that its link
    names is missing or has other weights than those that it was trained on.
    """
    content = read_json_object(folder / CONFIG)
    for name, harmless in REFUSED.items():
        if content.get(name) not in harmless:
            raise StageError(f"{folder / CONFIG}: {name} = {content.get(name)!r} is not supported")
    rank: Any = content.get("r")
    alpha: Any = content.get("lora_alpha")
    if not (_is_number(rank) and isinstance(rank, int) and _is_number(alpha)):
        raise StageError(f"{folder / CONFIG}: r = {rank!r}, lora_alpha = {alpha!r}; expected a rank and a number")
    tensors = _read_tensors(folder)
    names = sorted(name.removesuffix(".lora_A.weight") for name in tensors if name.endswith(".lora_A.weight"))
    modules = [name.removeprefix(PREFIX) for name in names]
    ranks, alphas = (_pattern(folder, content, name) for name in ("rank_pattern", "alpha_pattern"))
    own = {}
    for module in modules:
        r, a = _matching(ranks, module, rank), _matching(alphas, module, alpha)
        own[module] = int(r), a / (r**0.5 if content.get("use_rslora") else r)
    usual = rank, alpha / (rank**0.5 if content.get("use_rslora") else rank)
    own = {module: found for module, found in own.items() if found != usual}
    replaced = {
        name.removeprefix(PREFIX).replace(".base_layer.", ".").replace(".modules_to_save.", "."): tensor
        for name, tensor in tensors.items()
        if ".lora_" not in name
    }
    targets = {module.rpartition(".")[2] for module in modules}
    shape = AdapterShape(*usual, bool(content.get("use_dora")), tuple(targets), patterned=bool(own or replaced))
    base = _base(folder) if (folder / LINK).is_file() else None
    return Adapter(folder, shape, base, tensors, own, replaced)


def _read_tensors(folder: Path) -> dict[str, Tensor]:
    file = folder / WEIGHTS
    if not file.is_file():
        pickled = sorted(folder.glob("adapter_model.bin"))
        raise StageError(f"{file}: is missing" + (f"; {pickled[0].name} {PICKLE}" if pickled else ""))
    try:
        tensors = load_file(file)
    except (SafetensorError, OSError) as error:
        raise StageError(f"{file}: {what_is_wrong(file) or f'cannot be read ({error})'}") from error
    for name, tensor in tensors.items():
        if tensor.dtype not in DTYPES.values():
            raise StageError(f"{file}: {name} is of type {tensor.dtype}; expected {', '.join(DTYPES)}")
        if not torch.isfinite(tensor).all():
            raise StageError(f"{file}: {name} holds NaN or infinite values")
    return tensors


def _pattern(folder: Path, content: Mapping[str, Any], name: str) -> dict[str, float]:
    """Numbers of some modules by the ends of their names. PEFT allows regular expressions, which may take for ever."""
    pattern = content.get(name) or {}
    if not isinstance(pattern, dict) or not all(map(_is_number, pattern.values())):
        raise StageError(f"{folder / CONFIG}: {name} = {str(pattern)[:80]}; expected numbers above 0 of modules")
    plain = {key.removeprefix("^").replace("\\.", "."): value for key, value in pattern.items()}
    if strange := next((key for key in plain if not NAME.fullmatch(key)), None):
        raise StageError(
            f"{folder / CONFIG}: {name} has {strange[:80]!r}; supported are names of modules, or the ends of names"
        )
    return plain


def _matching(pattern: Mapping[str, float], module: str, usual: float) -> float:
    return next((value for key, value in pattern.items() if f".{module}".endswith(f".{key}")), usual)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and 0 < value < 1e9


def _base(folder: Path) -> Path:
    link = read_json_object(folder / LINK)
    base = Path(os.path.normpath(folder / str(link.get("folder"))))
    if not base.is_dir():
        raise StageError(
            f"{folder}: its base {base} is missing; an adapter is of no use without it. Put it back, or write the new "
            f"place into {LINK}"
        )
    if hash_weights(base) != link.get("weights"):
        raise StageError(f"{folder}: the weights in {base} are not those that this adapter was trained on; train again")
    return base


def hash_weights(folder: Path) -> str:
    """A hash of all that a model's weights are made from: its files, or its adapter and the hash of its base."""
    hasher = xxhash.xxh3_64()
    if has_adapter(folder):
        files = [folder / WEIGHTS, folder / CONFIG]
        hasher.update(str(read_json_object(folder / LINK).get("weights")).encode())
    else:
        files = weight_files(folder)
    for file in files:
        with open(file, "rb") as content:
            while chunk := content.read(1 << 22):
                hasher.update(chunk)
    return hasher.hexdigest()


class AdaptedWeights(Weights):
    """A base's weights with an adapter merged into them, one by one, in fp32 where there is something to merge."""

    def __init__(self, base: Weights, adapter: Adapter) -> None:
        """Raises StageError where the adapter doesn't fit the base."""
        self.folder, self.shapes, self.files, self.dtypes = adapter.folder, base.shapes, base.files, base.dtypes
        self._base, self._adapter = base, adapter
        for name, shape in self.shapes.items():
            module = name.removesuffix(".weight")
            factors = adapter.of_module(module)
            rank, _ = adapter.rank_and_scale(module)
            expected: dict[str, tuple[int, ...]] = {"lora_A": (rank, shape[-1]), "lora_B": (shape[0], rank)}
            expected |= {"magnitude": (shape[0],)} if adapter.shape.dora else {}
            found = {key: tuple(factor.shape) for key, factor in factors.items()}
            if factors and found != expected:
                raise StageError(
                    f"{self.folder}: the adapter of {name} has the shapes {found}, expected {expected} of its r or "
                    "rank_pattern"
                )
            if name in adapter.replaced and adapter.replaced[name].shape != shape:
                raise StageError(
                    f"{self.folder}: the adapter's {name} is {list(adapter.replaced[name].shape)}, its base's "
                    f"{list(shape)}; an adapter that resizes the vocabulary must be merged with peft first"
                )
        known = {name.removesuffix(".weight") for name in self.shapes}
        of_lora = {f"{PREFIX}{module}.{name}" for module in known for name in PEFT_NAMES.values()}
        strange = [name for name in adapter.tensors if ".lora_" in name and name not in of_lora]
        strange += [name for name in adapter.replaced if name not in self.shapes]
        if strange:
            raise StageError(
                f"{self.folder}: {len(strange)} of the adapter's tensors fit nothing in the base: "
                + ", ".join(strange[:5])
            )
        if EMBEDDING in adapter.replaced and HEAD not in self.shapes:
            raise StageError(
                f"{self.folder}: the adapter replaces {EMBEDDING} of a model whose head is tied to it, which PEFT does "
                "for the embedding alone; merge it with peft first"
            )

    def items(self) -> Iterator[tuple[str, Tensor]]:
        for name, tensor in self._base.items():
            module = name.removesuffix(".weight")
            if factors := self._adapter.of_module(module):
                yield name, merge(tensor, factors, self._adapter.rank_and_scale(module)[1])
            else:
                yield name, self._adapter.replaced.get(name, tensor)


def merge(frozen: Tensor, factors: Mapping[str, Tensor], scale: float) -> Tensor:
    """W' (O, I) in fp32, to the last bit as the layer has it in training."""
    magnitude = factors.get("magnitude")
    a_ri, b_or = factors["lora_A"].float(), factors["lora_B"].float()
    return updated(frozen, a_ri, b_or, None if magnitude is None else magnitude.float(), scale)
