"""Documents for the stages that train: what refine left, or anybody's Parquet, JSON lines or text files."""

import gzip
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from crawl2chat.run import StageError

if TYPE_CHECKING:
    import pyarrow.parquet as pq

SUFFIXES = (".parquet", ".jsonl", ".jsonl.gz", ".txt")


@dataclass(frozen=True)
class Document:
    """A text with its id (file and row where the file gives none) and, if known, its address and language."""

    id: str
    text: str = field(repr=False)
    url: str = ""
    language: str = ""


@dataclass(frozen=True)
class Part:
    """A file of documents, or a stretch of it: row groups of Parquet, bytes of JSON lines or of a text."""

    file: Path
    name: str  # in the ids of documents that have none
    begin: int = 0
    end: int | None = None


def read_documents(path: Path) -> Iterator[Document]:
    """All documents of a refine folder, of a folder of files, or of one file, in order of file names and rows.

    Parquet and JSON lines need a `text`; `id`, `url` and `language` are taken where they exist. A .txt file is one
    document. Raises StageError for a place without documents, or a file without texts.
    """
    for part in files_of(path):
        yield from read_part(part)


def files_of(path: Path) -> list[Part]:
    """The files that `read_documents` reads. Raises StageError where there are none."""
    root = path / "documents" if (path / "documents").is_dir() else path
    files = [root] if root.is_file() else sorted(p for p in root.rglob("*") if p.name.endswith(SUFFIXES))
    files = [f for f in files if f.is_file() and not any(part.startswith(".") for part in f.relative_to(root).parts)]
    if not files:
        raise StageError(f"{path}: no documents here; expected {', '.join(SUFFIXES)}")
    for file in files:
        if not file.name.endswith(SUFFIXES):
            raise StageError(f"{file}: not a file of documents; expected {', '.join(SUFFIXES)}")
    return [Part(file, file.relative_to(root).as_posix() if file != root else file.name) for file in files]


def read_part(part: Part) -> Iterator[Document]:
    """The documents that begin in a part; a text must be whole."""
    if part.file.name.endswith(".parquet"):
        yield from _read_parquet(part)
    elif part.file.name.endswith(".txt"):
        yield Document(part.name, part.file.read_text(encoding="utf-8", errors="replace"))
    else:
        yield from _read_json_lines(part)


def cut_file(part: Part, part_bytes: int) -> Iterator[tuple[Part, int]]:
    """A whole file in parts of about so many bytes of text, each with its bytes, as far as its format allows it.

    Row groups of Parquet stay whole, and so do files of compressed JSON lines.
    """
    file = part.file
    if file.name.endswith(".parquet"):
        metadata = _open_parquet(file).metadata
        begin = n_bytes = 0
        for group in range(metadata.num_row_groups):
            columns = map(metadata.row_group(group).column, range(metadata.num_columns))
            n_bytes += sum(c.total_uncompressed_size for c in columns if c.path_in_schema == "text")
            if n_bytes >= part_bytes or group == metadata.num_row_groups - 1:
                yield Part(file, part.name, begin, group + 1), n_bytes
                begin, n_bytes = group + 1, 0
    elif file.name.endswith(".gz") or file.stat().st_size <= part_bytes:
        yield part, file.stat().st_size
    else:
        size = file.stat().st_size
        for begin in range(0, size, part_bytes):
            end = min(begin + part_bytes, size)
            yield Part(file, part.name, begin, end), end - begin


def read_texts(path: Path) -> Iterator[str]:
    """The texts alone of `read_documents`."""
    return (document.text for document in read_documents(path))


def _open_parquet(file: Path) -> "pq.ParquetFile":
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(file)
    except (pa.ArrowInvalid, OSError) as error:
        raise StageError(f"{file}: not readable Parquet: {error}") from error
    known = table.schema_arrow.names
    if "text" not in known:
        raise StageError(f"{file}: no column `text`; it has {', '.join(known)}")
    return table


def _read_parquet(part: Part) -> Iterator[Document]:
    table = _open_parquet(part.file)
    known = [column for column in ("id", "url", "language", "text") if column in table.schema_arrow.names]
    end = table.num_row_groups if part.end is None else part.end
    row = sum(table.metadata.row_group(group).num_rows for group in range(part.begin))
    for batch in table.iter_batches(1000, row_groups=list(range(part.begin, end)), columns=known):
        for record in batch.to_pylist():
            if record["text"] is not None:
                id = str(record.get("id") or f"{part.name}:{row}")
                yield Document(id, str(record["text"]), record.get("url") or "", str(record.get("language") or ""))
            row += 1


def _read_json_lines(part: Part) -> Iterator[Document]:
    """Lines that begin in the part; ids and errors count those of a stretch from its first byte on."""
    name, place = part.name, str(part.file)
    if part.begin:
        name, place = f"{name}+{part.begin}", f"{place}: from byte {part.begin}"
    row = 0
    try:
        with gzip.open(part.file) if part.file.suffix == ".gz" else open(part.file, "rb") as lines:
            if part.begin:
                lines.seek(part.begin - 1)
                lines.readline()
            while (part.end is None or lines.tell() < part.end) and (line := lines.readline()):
                if line.strip():
                    text = line.decode("utf-8", errors="replace")
                    yield _from_json(text, f"{name}:{row}", f"{place}: line {row + 1}")
                row += 1
    except (OSError, EOFError, zlib.error) as error:  # gzip's are of all three kinds
        raise StageError(f"{place}: not readable behind line {row}: {error}") from error


def _from_json(line: str, id: str, place: str) -> Document:
    try:
        record = json.loads(line)
        text = record["text"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise StageError(f'{place}: expected an object with "text"; {error!r}') from error
    text = str(text).encode("utf-8", "replace").decode()  # JSON may hold halves of surrogate pairs
    return Document(str(record.get("id") or id), text, record.get("url") or "", str(record.get("language") or ""))
