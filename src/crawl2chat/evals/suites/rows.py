"""Rows of a test set: from a file, or by a data set's name on the hub."""

import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crawl2chat.stages.files import StageError, hash_json
from crawl2chat.stages.stage import hash_path
from crawl2chat.stages.text_files import NotText, read_text

SUFFIXES = (".jsonl", ".jsonl.gz", ".json", ".parquet")
Row = dict[str, Any]


@dataclass(frozen=True)
class Rows:
    """A test set's rows, with where they come from."""

    source: str
    hash: str  # sha256 of the file; of a data set from the hub, of its rows as JSON
    rows: list[Row]


def read_rows(source: str, configuration: str | None = None) -> Rows:
    """Read JSON lines (.gz too) or Parquet, or what `datasets` loads by a name such as openai/gsm8k.

    A name may say which configuration and split it means, NAME:CONFIGURATION:SPLIT; they default to `configuration`
    and test. Raises StageError when there is neither such a file nor such a data set, or no row in it.
    """
    file = Path(source).expanduser()
    if file.exists():
        rows = _from_file(file)
        found = Rows(source, hash_path(file), rows)
    elif file.name.endswith(SUFFIXES) or source.count("/") != 1:
        raise StageError(f"{source}: there is no such file; expected {', '.join(SUFFIXES)}, or a name on the hub")
    else:
        rows = _from_hub(source, configuration)
        found = Rows(source, hash_json(rows), rows)
    if not found.rows:
        raise StageError(f"{source}: holds no rows")
    return found


def json_lines(file: Path) -> list[Row]:
    """The objects of a file of JSON lines (.gz too). Raises StageError that names the line which holds none."""
    rows: list[Row] = []
    n = 0
    try:
        for n, line in enumerate(read_text(file).split("\n"), 1):
            if line.strip():
                rows.append(json.loads(line))
                if not isinstance(rows[-1], dict):
                    raise StageError(f"{file}, line {n}: holds a {type(rows[-1]).__name__}; expected an object")
    except json.JSONDecodeError as error:  # which takes each line for the first
        raise StageError(f"{file}, line {n}: can't be read as JSON: {error.msg}, column {error.colno}") from error
    except (OSError, EOFError, zlib.error, NotText) as error:
        raise StageError(f"{file}: can't be read: {error}") from error
    return rows


def field(rows: Rows, i: int, *names: str) -> Any:
    """What row i has under these names, one within the other. Raises StageError where there is nothing."""
    value: Any = rows.rows[i]
    for name in names:
        if not isinstance(value, dict) or value.get(name) in (None, "", []):
            raise StageError(f"{rows.source}, row {i}: has no {'.'.join(names)}; found {', '.join(rows.rows[i])}")
        value = value[name]
    return value


def text(rows: Rows, i: int, *names: str) -> str:
    """As `field`, of what must be a text."""
    value = field(rows, i, *names)
    if not isinstance(value, str):
        raise StageError(f"{rows.source}, row {i}: {'.'.join(names)} = {value!r}; expected a text")
    return value


def _from_file(file: Path) -> list[Row]:
    if not file.name.endswith(SUFFIXES):
        raise StageError(f"{file}: not a file of rows; expected {', '.join(SUFFIXES)}")
    if file.suffix != ".parquet":
        return json_lines(file)
    import pyarrow.parquet as pq

    try:
        rows: list[Row] = pq.read_table(file).to_pylist()
        return rows
    except (OSError, ValueError) as error:  # ValueError: of Arrow
        raise StageError(f"{file}: can't be read: {error}") from error


def _from_hub(source: str, configuration: str | None) -> list[Row]:
    name, _, more = source.partition(":")
    chosen, _, split = more.partition(":")
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise StageError(
            f"{source}: there is no such file, and to look for it on the hub needs `pip install datasets`"
        ) from error
    try:
        return list(load_dataset(name, chosen or configuration, split=split or "test"))
    except Exception as error:  # of the network, of the hub, of any format: it has no common class
        raise StageError(
            f"{source}: there is no such file, and it can't be loaded as a data set of the hub: {error}"
        ) from error
