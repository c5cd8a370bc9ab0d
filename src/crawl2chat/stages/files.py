"""Files that a reader sees whole or not at all: written next to it, flushed to disk, renamed; hashes; JSON lines."""

import contextlib
import glob
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

from crawl2chat.stages.disks import storage_error
from crawl2chat.stages.text_files import NotText, decode, what_is_wrong

AnyPath = str | os.PathLike[str]  # what public functions take for a file or folder
MAX_JSON_BYTES = 16_000_000  # of a model's description; the largest, an index of shards, has some hundred thousand


class StageError(Exception):
    """A stage that can't do its work; the message says what to do."""


def hash_json(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Give a temporary neighbour to write (file or folder) and rename it to `path` once the block succeeds.

    Errors of storage that come meanwhile are OSErrors with a number and the final name, whatever library wrote.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_of(path)
    remove(temporary)
    with _named(temporary, path):
        try:
            yield temporary
        except BaseException:
            remove(temporary)
            raise
        _flush_to_disk(temporary)
        if path.is_dir():  # a folder can't be renamed over a full one
            remove(path)
        os.replace(temporary, path)


@contextlib.contextmanager
def atomic_write_shared(path: Path) -> Iterator[Path]:
    """Like `atomic_write`, where several processes may make the same `path` at once: each has a neighbour of its own.

    They must make the same; a folder that is there already stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    with _named(temporary, path):
        try:
            yield temporary
            _flush_to_disk(temporary)
            try:
                os.replace(temporary, path)
            except OSError:  # a folder can't be renamed over a full one
                if not path.is_dir():
                    raise
        finally:
            remove(temporary)


@contextlib.contextmanager
def _named(temporary: Path, path: Path) -> Iterator[None]:
    """Raise errors of storage as OSErrors that name `path`, or a file in it, instead of `temporary`."""
    try:
        yield
    except StageError:
        raise
    except Exception as error:
        found = storage_error(error, path)
        if found is None:
            raise
        file = Path(found.filename)
        if file.is_relative_to(temporary):
            found.filename = str(path / file.relative_to(temporary))
        raise found from error


def remove_leftovers(path: Path) -> None:
    """Remove what processes that died within `atomic_write_shared(path)` left."""
    for temporary in path.parent.glob(f".{glob.escape(path.name)}.{'[0-9a-f]' * 32}.tmp"):
        remove(temporary)


def write_json(path: Path, value: Any) -> None:
    """Write JSON to a neighbour and rename it, so that a reader sees the old file or the whole new one."""
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Return what `write_json` wrote; what people bring is read with more care."""
    return json.loads(path.read_text(encoding="utf-8"))


def read_model_text(file: Path, most: int = MAX_JSON_BYTES) -> str:
    """The text of a model's file, with line ends as they are. Raises StageError if it is not a file, or too large."""
    if not file.is_file():
        raise StageError(f"{file}: is {'not a file, but a folder, pipe or device' if file.exists() else 'missing'}")
    if (size := file.stat().st_size) > most:
        raise StageError(f"{file}: has {size:,} bytes; expected at most {most:,}")
    try:
        return decode(file.read_bytes())
    except (OSError, NotText) as error:
        raise StageError(f"{file}: can't be read: {error}") from error


def read_json_object(file: Path) -> dict[str, Any]:
    """The object in a JSON file of a model's folder. Raises StageError that says what it is instead."""
    try:
        content = json.loads(read_model_text(file))
    except (ValueError, RecursionError) as error:  # the last: brackets within brackets, thousands deep
        raise StageError(f"{file}: {what_is_wrong(file) or f'not readable JSON: {error}'}") from error
    if not isinstance(content, dict):
        raise StageError(f"{file}: expected a JSON object, found {type(content).__name__}")
    return content


def write_jsonl(path: Path, rows: Iterable[Any]) -> None:
    """Write one line of JSON per row, a dictionary or a dataclass, to a neighbour of `path` and rename it."""
    with atomic_write(path) as temporary, open(temporary, "w", encoding="utf-8") as handle:
        for row in rows:
            value = asdict(row) if is_dataclass(row) and not isinstance(row, type) else row
            handle.write(json.dumps(value, ensure_ascii=False) + "\n")


def read_jsonl(path: Path) -> list[Any]:
    """Return the rows of a file that `write_jsonl` wrote; what people bring is read by `json_rows`.

    Only \\n ends a line: a text may hold U+2028 and other characters that `splitlines` takes for line ends.
    """
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def temporary_of(path: Path) -> Path:
    return path.with_name(f".{path.name}.tmp")


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _flush_to_disk(path: Path) -> None:
    for file in [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]:
        with open(file, "rb") as handle:
            os.fsync(handle.fileno())


def sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
