"""Checkpoints of training: one safetensors file each, written beside and renamed, damaged ones passed over."""

import sys
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from crawl2chat.run import replacing

KEPT = 2  # if the last one is damaged there is one before it


def save_checkpoint(folder: Path, step: int, tensors: dict[str, Tensor]) -> None:
    """Write the state after `step` steps and drop all but the newest few."""
    with replacing(folder / f"step-{step:08d}.safetensors") as temporary:
        save_file({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, temporary)
    for old in sorted(folder.glob("step-*.safetensors"))[:-KEPT]:
        old.unlink()


def load_checkpoint(folder: Path) -> tuple[int, dict[str, Tensor]] | None:
    """Steps done and tensors of the newest readable checkpoint, or None; says so when one is damaged."""
    for file in sorted(folder.glob("step-*.safetensors"), reverse=True):
        try:
            with safe_open(file, framework="pt") as content:
                return int(file.stem.removeprefix("step-")), {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            print(f"{file}: damaged ({error}); going back to the checkpoint before it", file=sys.stderr)
    return None
