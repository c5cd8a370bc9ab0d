"""Weights as safetensors in transformers' layout: one file, or shards with an index; read and written one by one."""

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from crawl2chat.stages.files import StageError, read_json_object, write_json
from crawl2chat.stages.text_files import PICKLE, what_is_wrong

ONE_FILE, INDEX = "model.safetensors", "model.safetensors.index.json"
DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}  # safetensors' names
HEAD, EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"
FREQUENCIES = ".rotary_emb.inv_freq"  # which old checkpoints of Llama hold; they follow from the config
NAMED = 5  # tensors that an error names


class Weights:
    """The tensors of a model's folder, found and checked by the files' headers alone, read when asked for.

    shapes: of each tensor that there must be. tied: whether the head is the embedding, so that it may be absent.
    Raises StageError for a missing or truncated file, for tensors that are missing, superfluous, of another shape or of
    a type that is not a plain float, and for an index that places tensors otherwise than its shards do.
    """

    def __init__(self, folder: Path, shapes: dict[str, torch.Size], *, tied: bool) -> None:
        self.folder = folder
        self.shapes = {name: shape for name, shape in shapes.items() if not (tied and name == HEAD)}
        self.files: dict[str, Path] = {}
        self.dtypes: dict[str, torch.dtype] = {}
        found: dict[str, torch.Size] = {}
        for file in weight_files(folder):
            with _opened(file) as content:
                for name in content.keys():  # noqa: SIM118
                    if name in self.files:
                        raise StageError(f"{folder}: {name} is in {self.files[name].name} and in {file.name}")
                    part = content.get_slice(name)
                    if part.get_dtype() not in DTYPES:
                        raise StageError(f"{file}: {name} is of type {part.get_dtype()}; expected {', '.join(DTYPES)}")
                    self.files[name], self.dtypes[name] = file, DTYPES[part.get_dtype()]
                    found[name] = torch.Size(part.get_shape())
        _compare_index(folder, self.files)
        head_too = tied and HEAD in found
        self._compare(found, {HEAD} if head_too else set())
        if head_too and not torch.equal(*map(self._read_finite, (HEAD, EMBEDDING))):
            raise StageError(f"{folder}: config.json ties the head to the embedding, but {HEAD} differs from it")

    def _read_finite(self, name: str) -> Tensor:
        with _opened(self.files[name]) as content:
            tensor: Tensor = content.get_tensor(name)
            check_finite(self.folder, name, tensor)  # NaN equals nothing
            return tensor

    def items(self) -> Iterator[tuple[str, Tensor]]:
        """Every tensor in the order of `shapes`; each is mapped from its file, so copy what is kept.

        A file is let go with the last of its tensors, so that of many shards few are mapped at a time.
        """
        left = Counter(self.files[name] for name in self.shapes)
        opened: dict[Path, Any] = {}
        for name in self.shapes:
            file = self.files[name]
            opened[file] = opened.get(file) or _opened(file)
            yield name, opened[file].get_tensor(name)
            left[file] -= 1
            if not left[file]:
                del opened[file]

    def stored_dtype(self) -> torch.dtype:
        """The type of most weights, as config.json should name it: that of the embedding."""
        return self.dtypes[EMBEDDING]

    def _compare(self, found: dict[str, torch.Size], allowed: set[str]) -> None:
        wrong = [name for name in self.shapes if name in found and found[name] != self.shapes[name]]
        problems = {
            "missing": [name for name in self.shapes if name not in found],
            "superfluous": [
                name
                for name in found
                if name not in self.shapes and name not in allowed and not name.endswith(FREQUENCIES)
            ],
            "of another shape": [f"{n} {list(found[n])}, expected {list(self.shapes[n])}" for n in wrong],
        }
        lines = [
            f"  {what} ({len(names)}): {', '.join(names[:NAMED])}{' …' if len(names) > NAMED else ''}"
            for what, names in problems.items()
            if names
        ]
        if lines:
            raise StageError("\n".join([f"{self.folder}: its weights don't fit its config.json", *lines]))


def weight_files(folder: Path) -> list[Path]:
    """The files that hold a model's weights: one, those of its index, or all there are. Raises StageError for none."""
    if (folder / ONE_FILE).exists():
        return [folder / ONE_FILE]
    if (folder / INDEX).exists():
        names = sorted(set(_weight_map(folder).values()))
        missing = [name for name in names if Path(name).name != name or not (folder / name).is_file()]
        if missing:
            raise StageError(
                f"{folder}: {len(missing)} of the {len(names)} shards that {INDEX} names are missing: "
                + ", ".join(missing[:NAMED])
            )
        return [folder / name for name in names]
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        pickled = sorted(folder.glob("*.bin")) + sorted(folder.glob("*.pt*"))
        raise StageError(
            f"{folder}: no weights in it (*.safetensors is missing)"
            + (f"; {pickled[0].name} {PICKLE}" if pickled else "")
        )
    return files


def _weight_map(folder: Path) -> dict[str, str]:
    """The file of each tensor, as the index of shards says."""
    places = read_json_object(folder / INDEX).get("weight_map")
    if not (isinstance(places, dict) and places and all(isinstance(name, str) for name in places.values())):
        raise StageError(f"{folder / INDEX}: not an index of shards; expected a weight_map of tensors to files")
    return places


def _compare_index(folder: Path, files: dict[str, Path]) -> None:
    if (folder / ONE_FILE).exists() or not (folder / INDEX).exists():
        return
    places = _weight_map(folder)
    wrong = [name for name in {**places, **files} if name not in files or places.get(name) != files[name].name]
    if wrong:
        shown = (
            f"{n} in {places.get(n, 'no file')}, found in {files[n].name if n in files else 'none'}" for n in wrong
        )
        raise StageError(
            f"{folder / INDEX}: disagrees with the shards about {len(wrong)} tensors: {'; '.join([*shown][:NAMED])}; "
            "download both again"
        )


def save_weights(folder: Path, tensors: Iterable[tuple[str, Tensor]], sizes: dict[str, int], shard_bytes: int) -> None:
    """Write tensors as one file, or as shards of at most `shard_bytes` (a larger tensor has its own) with an index.

    sizes: bytes of each tensor, in the order in which `tensors` come. One shard at a time is held in memory.
    """
    shards: list[list[str]] = [[]]
    for name, size in sizes.items():
        if shards[-1] and sum(sizes[other] for other in shards[-1]) + size > shard_bytes:
            shards.append([])
        shards[-1].append(name)
    coming = iter(tensors)
    weight_map: dict[str, str] = {}
    for i, names in enumerate(shards, 1):
        file = ONE_FILE if len(shards) == 1 else f"model-{i:05d}-of-{len(shards):05d}.safetensors"
        path = folder / file
        path.touch()
        mode = path.stat().st_mode  # safetensors' own would shut everybody else out
        save_file(dict(next(coming) for _ in names), path, metadata={"format": "pt"})
        path.chmod(mode)
        weight_map |= dict.fromkeys(names, file)
    if len(shards) > 1:
        write_json(folder / INDEX, {"metadata": {"total_size": sum(sizes.values())}, "weight_map": weight_map})


def check_finite(folder: Path, name: str, tensor: Tensor) -> None:
    """Raise StageError for a tensor with NaN or infinite values, which would make all that a model says nonsense."""
    least, most = torch.aminmax(tensor)  # NaN if any value is; allocates nothing, unlike isfinite
    if not (torch.isfinite(least) and torch.isfinite(most)):
        raise StageError(
            f"{folder}: {name} holds NaN or infinite values, so this model is broken; "
            "take an earlier checkpoint of it, or download it again"
        )


def _opened(file: Path) -> Any:
    if not file.is_file():
        raise StageError(f"{file}: is not a file, but a folder, pipe or device; expected safetensors")
    try:
        return safe_open(file, framework="pt")
    except (SafetensorError, OSError) as error:
        wrong = what_is_wrong(file) if file.is_file() else None
        raise StageError(f"{file}: " + (wrong or f"can't be read, perhaps cut short: {error}")) from error
