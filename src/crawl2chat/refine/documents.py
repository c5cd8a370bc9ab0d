"""Documents for the stages that train: what refine left, or anybody's Parquet, JSON lines or text files."""

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from crawl2chat.run import StageError

SUFFIXES = (".parquet", ".jsonl", ".jsonl.gz", ".txt")


@dataclass(frozen=True)
class Document:
    """A text with its id (file and row where the file gives none) and, if known, its address."""

    id: str
    text: str = field(repr=False)
    url: str = ""


def read_documents(path: Path) -> Iterator[Document]:
    """All documents of a refine folder, of a folder of files, or of one file, in order of file names and rows.

    Parquet and JSON lines need a `text`; `id` and `url` are taken where they exist. A .txt file is one document.
    Raises StageError for a place without documents, or a file without texts.
    """
    root = path / "documents" if (path / "documents").is_dir() else path
    files = [root] if root.is_file() else sorted(p for p in root.rglob("*") if p.name.endswith(SUFFIXES))
    files = [file for file in files if not any(part.startswith(".") for part in file.relative_to(root).parts)]
    if not files:
        raise StageError(f"{path}: no documents here; expected {', '.join(SUFFIXES)}")
    for file in files:
        name = file.relative_to(root).as_posix() if file != root else file.name
        if file.name.endswith(".parquet"):
            yield from _read_parquet(file, name)
        elif file.name.endswith((".jsonl", ".jsonl.gz")):
            yield from _read_json_lines(file, name)
        elif file.name.endswith(".txt"):
            yield Document(name, file.read_text(encoding="utf-8", errors="replace"))
        else:
            raise StageError(f"{file}: not a file of documents; expected {', '.join(SUFFIXES)}")


def read_texts(path: Path) -> Iterator[str]:
    """The texts alone of `read_documents`."""
    return (document.text for document in read_documents(path))


def _read_parquet(file: Path, name: str) -> Iterator[Document]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(file)
    except (pa.ArrowInvalid, OSError) as error:
        raise StageError(f"{file}: not readable Parquet: {error}") from error
    known = table.schema_arrow.names
    if "text" not in known:
        raise StageError(f"{file}: no column `text`; it has {', '.join(known)}")
    row = 0
    for batch in table.iter_batches(1000, columns=[column for column in ("id", "url", "text") if column in known]):
        for record in batch.to_pylist():
            if record["text"] is not None:
                yield Document(str(record.get("id") or f"{name}:{row}"), str(record["text"]), record.get("url") or "")
            row += 1


def _read_json_lines(file: Path, name: str) -> Iterator[Document]:
    with (gzip.open if file.suffix == ".gz" else open)(file, "rt", encoding="utf-8", errors="replace") as lines:
        for row, line in enumerate(lines):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
                text = record["text"]
            except (json.JSONDecodeError, KeyError, TypeError) as error:
                raise StageError(f'{file}: line {row + 1}: expected an object with "text"; {error!r}') from error
            text = str(text).encode("utf-8", "replace").decode()  # JSON may hold halves of surrogate pairs
            yield Document(str(record.get("id") or f"{name}:{row}"), text, record.get("url") or "")
