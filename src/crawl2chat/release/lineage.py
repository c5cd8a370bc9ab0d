"""How a model came to be: the manifests of the stages that made it, as far as they are still at hand."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from crawl2chat.stages.files import StageError
from crawl2chat.stages.stage import Manifest, read_manifest


@dataclass(frozen=True)
class Made:
    """A stage that had a part in a model: its folder, its manifest, and its inputs that no stage at hand made."""

    folder: Path
    manifest: Manifest
    outside: dict[str, str]  # name → hash


def lineage(folder: Path) -> list[Made]:
    """The stages behind the model in a stage's folder (or its `model`), the earliest first; none if none made it.

    A stage is looked for in the folders beside, and taken by the hash of its outputs: one that was done anew since
    is not the one that this model comes from.
    """
    folder = folder.resolve()
    if read_manifest(folder) is None and folder.name == "model":
        folder = folder.parent
    manifest = read_manifest(folder)
    if manifest is None:
        return []
    beside = {made.hash: (place, made) for place, made in _manifests(folder.parent)}
    found: dict[Path, Made] = {}

    def walk(place: Path, manifest: Manifest) -> None:
        known = {name: beside[hash] for name, hash in manifest.inputs.items() if hash in beside}
        for origin in known.values():
            if origin[0] not in found:
                walk(*origin)
        outside = {name: hash for name, hash in manifest.inputs.items() if name not in known}
        found[place] = Made(place, manifest, outside)

    walk(folder, manifest)
    return list(found.values())


def base_suite(made: Sequence[Made]) -> Made | None:
    """What the stage base measured of this lineage's pretrain stage, if it did so since that was done last."""
    pretrained = next((m for m in made if m.manifest.stage == "pretrain"), None)
    if pretrained is None:
        return None
    for place, manifest in _manifests(pretrained.folder.parent):
        if manifest.stage == "base" and manifest.inputs.get("pretrain") == pretrained.manifest.hash:
            return Made(place, manifest, {})
    return None


def _manifests(parent: Path) -> Iterator[tuple[Path, Manifest]]:
    for place in sorted(path for path in parent.iterdir() if path.is_dir()):
        try:
            manifest = read_manifest(place)
        except (StageError, OSError):
            continue  # another tool's, or another person's, so none of ours has its hash
        if manifest:
            yield place, manifest
