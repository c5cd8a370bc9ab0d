"""Checkpoints of training: one folder per step with one safetensors file per rank, written while the next steps run.

    checkpoints/step-00000200/rank-0-of-2-8f4c0a1b2c3d4e5f.safetensors

A file holds some rows of every tensor, says in its header which, and bears the hash of its bytes in its name. It gets
that name when all of it is on disk, so a checkpoint whose every file is there under the right hash is whole, and any
number of ranks can read it. All ranks must see the same folder.
"""

import json
import os
import re
import shutil
import sys
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
import xxhash
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.distributed.tensor import DTensor

from crawl2chat.stages.disks import NO_SPACE, storage_error
from crawl2chat.stages.files import StageError
from crawl2chat.train.distributed import SINGLE_PROCESS, Ranks, local

PAUSE = 50  # times as long as writing takes, until the next is due: 2 % of the time at most
LONGEST_PAUSE = 600.0  # seconds; what a kill may cost at most
PART = re.compile(r"rank-(\d+)-of-(\d+)-([0-9a-f]{16})\.safetensors")


class Checkpoints:
    """The checkpoints in a folder. Every call is made by all ranks.

    As a context it waits at its end for the file that is being written.
    """

    def __init__(self, folder: Path, keep: int = 2, ranks: Ranks = SINGLE_PROCESS) -> None:
        """keep: how many whole ones stay; if the last is damaged there is one before it."""
        self.folder, self.keep, self.ranks = folder, keep, ranks
        self._writer = ThreadPoolExecutor(1, "checkpoint")
        self._writing: Future[None] | None = None
        self._copies: dict[str, Tensor] = {}
        self._saved_at, self._seconds = -float("inf"), 0.0

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.shutdown()
        if error is None:
            self.wait()

    def due(self) -> bool:
        """Whether it is time for the next: writing is to take 2 % of the time, or to be ten minutes ago."""
        if self._writing and not self._writing.done():
            return False
        return time.monotonic() - self._saved_at >= min(LONGEST_PAUSE, PAUSE * self._seconds)

    def save(self, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Copy the state after `step` steps, which may change from then on, and begin to write it.

        tensors: whole ones, equal on all ranks, or sharded ones. state: what else the run depends on, as JSON.
        Waits until the one before is written. Raises StageError when that could not be.
        """
        self.wait()
        began = time.monotonic()
        parts: dict[str, Tensor] = {}
        places: dict[str, tuple[int, int]] = {}
        for name, tensor in tensors.items():
            rows = self.ranks.rows(len(tensor))
            mine = local(tensor.detach())
            mine = mine[rows] if len(mine) == len(tensor) else mine
            if len(mine):
                places[name] = rows.start, len(tensor)
                parts[name] = self._copy(name, mine)
        header = {"step": str(step), "rows": json.dumps(places), "state": json.dumps(state)}
        self._saved_at = time.monotonic()
        self._writing = self._writer.submit(self._write, step, parts, header, began)

    def wait(self) -> None:
        """Until what was saved is on disk. Raises StageError when it could not be written."""
        writing, self._writing = self._writing, None
        if writing:
            writing.result()

    def load(self, tensors: Mapping[str, Tensor]) -> tuple[int, dict[str, Any]] | None:
        """Fill the tensors, shaped as in `save`, from the newest checkpoint; returns its step and state, or None.

        Damaged and incomplete ones are passed over with a word, and removed, as the run will come by there again.
        Raises StageError when a whole one doesn't fit the tensors.
        """
        found = sorted(self.folder.glob("step-*"), reverse=True)
        for i, folder in enumerate(found):
            problem = self._problem(folder)
            if not problem:
                loaded = _read(folder, tensors)
                self.ranks.meet()
                return loaded
            if self.ranks.first:
                before = (
                    "going back to the checkpoint before it" if i + 1 < len(found) else "starting from the beginning"
                )
                print(f"{folder}: {problem}; {before}", file=sys.stderr)
                shutil.rmtree(folder)
        self.ranks.meet()
        return None

    def _copy(self, name: str, part: Tensor) -> Tensor:
        """Into memory of ours, taken once: fresh pages cost more than the copying."""
        if name not in self._copies:
            self._copies[name] = torch.empty(part.shape, dtype=part.dtype, pin_memory=part.is_cuda)
        return self._copies[name].copy_(part)

    def _write(self, step: int, parts: dict[str, Tensor], header: dict[str, str], began: float) -> None:
        folder = _folder(self.folder, step)
        name = f"rank-{self.ranks.rank}-of-{self.ranks.size}"
        temporary = folder / f".{name}.tmp"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            save_file(parts, temporary, metadata=header)
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
            os.replace(temporary, folder / f"{name}-{_hash(temporary)}.safetensors")
        except (OSError, SafetensorError) as error:
            found = storage_error(error, folder)
            if found and found.errno in NO_SPACE:
                raise found from error
            raise StageError(f"{folder}: the checkpoint can't be written ({error})") from error
        if self.ranks.first:
            self._remove_old()
        self._seconds = time.monotonic() - began

    def _remove_old(self) -> None:
        """All from before the last few that are whole on all ranks."""
        folders = sorted(self.folder.glob("step-*"), reverse=True)
        whole = [folder for folder in folders if not _missing(folder)]
        for old in folders:
            if len(whole) >= self.keep and old < whole[self.keep - 1]:
                try:
                    shutil.rmtree(old)
                except OSError as error:
                    print(f"{old}: this old checkpoint can't be removed ({error})", file=sys.stderr)

    def _problem(self, folder: Path) -> str:
        """What is wrong with a checkpoint, the same on all ranks; each looks at its share of the files."""
        missing = _missing(folder)
        damaged = []
        for i, file in enumerate(sorted(folder.glob("rank-*"))):
            match = PART.fullmatch(file.name)
            if i % self.ranks.size == self.ranks.rank and not (match and match[3] == _hash(file)):
                damaged.append(i)
        counts = self.ranks.gather([len(missing), len(damaged)]).sum(dim=0).tolist()
        if counts[1]:
            return f"damaged ({counts[1]:.0f} of its files are not what was written)"
        return "not complete" + (f" ({missing})" if missing else "") if counts[0] else ""


def _folder(folder: Path, step: int) -> Path:
    return folder / f"step-{step:08d}"


def _missing(folder: Path) -> str:
    """What a checkpoint lacks by the names of its files; nothing when it was written by all ranks."""
    parts = [match for file in folder.glob("rank-*") if (match := PART.fullmatch(file.name))]
    of = max((int(part[2]) for part in parts), default=1)
    ranks = {int(part[1]) for part in parts if int(part[2]) == of}
    lacking = sorted(set(range(of)) - ranks)
    return f"without the file of rank {', '.join(map(str, lacking))} of {of}" if lacking else ""


def _hash(file: Path) -> str:
    hasher = xxhash.xxh3_64()
    with open(file, "rb") as content:
        while chunk := content.read(1 << 22):
            hasher.update(chunk)
    return hasher.hexdigest()


def _read(folder: Path, tensors: Mapping[str, Tensor]) -> tuple[int, dict[str, Any]]:
    """Fill each tensor with its rows, wherever they lie."""
    unfilled = {name: len(local(tensor)) for name, tensor in tensors.items()}
    with ExitStack() as stack:
        for file in sorted(folder.glob("rank-*")):
            content = stack.enter_context(safe_open(file, framework="pt"))
            header = content.metadata()
            for name, (start, total) in json.loads(header["rows"]).items():
                if name not in tensors or len(tensors[name]) != total:
                    raise StageError(_other_model(folder, name))
                mine, first = local(tensors[name].detach()), _first_row(tensors[name])
                part = content.get_slice(name)
                shape = part.get_shape()
                if list(mine.shape[1:]) != shape[1:]:
                    raise StageError(_other_model(folder, name))
                begin, end = max(start, first), min(start + shape[0], first + len(mine))
                if begin < end:
                    mine[begin - first : end - first].copy_(part[begin - start : end - start])
                    unfilled[name] -= end - begin
    lacking = next((name for name, rows in unfilled.items() if rows), None)
    if lacking:
        raise StageError(_other_model(folder, lacking))
    return int(header["step"]), json.loads(header["state"])


def _other_model(folder: Path, tensor: str) -> str:
    return f"{folder}: a checkpoint of another model or optimiser ({tensor} differs); remove {folder.parent}"


def _first_row(tensor: Tensor) -> int:
    """Of the whole tensor, which row this rank's part begins with."""
    if not isinstance(tensor, DTensor):
        return 0
    mesh = tensor.device_mesh
    return Ranks(mesh.get_local_rank(), mesh.size()).rows(len(tensor)).start or 0
