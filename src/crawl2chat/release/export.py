"""Export: a model as a folder that transformers loads, with a card filled from its run's manifests."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from crawl2chat.model.huggingface import SHARD_BYTES, model_folder, open_weights, read_config
from crawl2chat.model.weights import Weights, check_finite, save_weights
from crawl2chat.release.lineage import lineage
from crawl2chat.release.model_card import model_card
from crawl2chat.release.verify import write_checksums
from crawl2chat.stages.files import AnyPath, StageError, atomic_write, read_json_object, write_json
from crawl2chat.tokenizer import Tokenizer

LICENCES = ("LICENSE*", "NOTICE*")  # files of an imported checkpoint that must stay with its weights
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def export_folder(
    model: AnyPath,
    out: AnyPath,
    *,
    name: str,
    dtype: str | None = None,
    shard_bytes: int = SHARD_BYTES,
    licence: str | None = None,
    data_licence: str | None = None,
    statement: str | None = None,
) -> None:
    """Write config.json, weights, tokenizer, chat template, generation config, README.md and checksums into `out`.

    model: a stage's folder or one in transformers' form. dtype: float32, bfloat16 or float16; None: as it is stored.
    licence, data_licence: of the model and of its data; statement: a text about the data; all for the card.
    Weights pass through memory one shard at a time. Raises StageError if `out` is not empty.
    """
    model, out = Path(model), Path(out)
    place = model_folder(model)
    if out.exists() and (not out.is_dir() or any(out.iterdir()) or out.resolve() == Path.cwd()):
        raise StageError(f"{out}: exists already; give --out a new folder, or remove this one")
    config, tokenizer, ancestors = read_config(place), Tokenizer.load(place), lineage(model)
    weights = open_weights(place, config)
    as_type = DTYPES[dtype] if dtype else weights.stored_dtype()
    with atomic_write(out) as temporary:
        temporary.mkdir(parents=True)
        described = {key: value for key, value in read_json_object(place / "config.json").items() if key != "dtype"}
        dtype_name = str(as_type).removeprefix("torch.")
        write_json(temporary / "config.json", described | {"torch_dtype": dtype_name})
        write_json(temporary / "generation_config.json", _generation_config(place, tokenizer))
        tokenizer.save(temporary)
        for folder in (place, *(origin.folder / "model" for origin in ancestors)):
            for file in (file for pattern in LICENCES for file in sorted(folder.glob(pattern)) if file.is_file()):
                shutil.copyfile(file, temporary / file.name)
        sizes = {name: shape.numel() * as_type.itemsize for name, shape in weights.shapes.items()}
        save_weights(temporary, _converted(weights, as_type), sizes, shard_bytes)
        rounded = as_type not in (weights.stored_dtype(), torch.float32)
        card = model_card(
            place, config, ancestors, name=name, dtype=dtype_name, rounded=rounded, licence=licence,
            data_licence=data_licence, statement=statement,
        )  # fmt: skip
        (temporary / "README.md").write_text(card, encoding="utf-8")
        write_checksums(temporary)


def _converted(weights: Weights, dtype: torch.dtype) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in weights.items():
        check_finite(weights.folder, name, tensor)
        converted = tensor.to(dtype=dtype, copy=True)
        if not torch.isfinite(converted).all():
            raise StageError(f"{weights.folder}: {name} holds values that {dtype} can't; take --dtype bfloat16")
        yield name, converted


def _generation_config(model: Path, tokenizer: Tokenizer) -> dict[str, object]:
    file = model / "generation_config.json"
    if file.exists():
        return read_json_object(file)
    return {"eos_token_id": sorted(tokenizer.stop_ids), "pad_token_id": tokenizer.end_of_text}
