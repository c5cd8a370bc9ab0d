"""How a model was made: the manifests of its stages, as far as their folders are still there."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from crawl2chat.stages.files import StageError
from crawl2chat.stages.stage import Manifest, read_manifest


@dataclass(frozen=True)
class Ancestor:
    """A stage that took part in making a model: its folder, its manifest, and its inputs from outside the run."""

    folder: Path
    manifest: Manifest
    outside: dict[str, str]  # name → hash


def lineage(folder: Path) -> list[Ancestor]:
    """Return the stages behind the model in a stage's folder (or its `model`), the earliest first.

    Stages are looked for in the neighbouring folders by the hash of their outputs: one that has run again since is not
    the one that this model comes from.
    """
    folder = folder.resolve()
    if read_manifest(folder) is None and folder.name == "model":
        folder = folder.parent
    manifest = read_manifest(folder)
    if manifest is None:
        return []
    beside = {ancestors.hash: (place, ancestors) for place, ancestors in _manifests(folder.parent)}
    found: dict[Path, Ancestor] = {}

    def walk(place: Path, manifest: Manifest) -> None:
        known = {name: beside[hash] for name, hash in manifest.inputs.items() if hash in beside}
        for origin in known.values():
            if origin[0] not in found:
                walk(*origin)
        outside = {name: hash for name, hash in manifest.inputs.items() if name not in known}
        found[place] = Ancestor(place, manifest, outside)

    walk(folder, manifest)
    return list(found.values())


def base_suite(ancestors: Sequence[Ancestor]) -> Ancestor | None:
    """Return what the stage base measured of this lineage's pretrain stage; None if that has run again since."""
    pretrained = next((m for m in ancestors if m.manifest.stage == "pretrain"), None)
    if pretrained is None:
        return None
    for place, manifest in _manifests(pretrained.folder.parent):
        if manifest.stage == "base" and manifest.inputs.get("pretrain") == pretrained.manifest.hash:
            return Ancestor(place, manifest, {})
    return None


def _manifests(parent: Path) -> Iterator[tuple[Path, Manifest]]:
    for place in sorted(path for path in parent.iterdir() if path.is_dir()):
        try:
            manifest = read_manifest(place)
        except (StageError, OSError):
            continue  # of another tool or person, so its hash is not one of ours
        if manifest:
            yield place, manifest
