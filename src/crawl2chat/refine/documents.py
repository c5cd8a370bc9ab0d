"""Documents for the stages that train: what refine left, or anybody's Parquet, JSON lines, text or Markdown files."""

import json
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crawl2chat.stages.files import AnyPath, StageError
from crawl2chat.stages.text_files import (
    BOM,
    HOW_TO_CONVERT,
    NotText,
    decode_lossy,
    has_other_encoding,
    is_gzip,
    not_utf8,
    open_utf8,
)

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

TEXTS, JSON_LINES, MARKDOWN = (".txt", ".txt.gz"), (".jsonl", ".jsonl.gz"), (".md", ".md.gz")
SUFFIXES = (".parquet", *JSON_LINES, *TEXTS, *MARKDOWN)
NAMED = 5  # files that a report names


@dataclass(frozen=True)
class Document:
    """A text with its id (file and row where the file gives none) and, if known, its address, language and title."""

    id: str
    text: str = field(repr=False)
    url: str = ""
    language: str = ""
    title: str = ""


@dataclass(frozen=True)
class Part:
    """A file of documents, or a stretch of it: row groups of Parquet, bytes of JSON lines or of a text."""

    file: Path
    name: str  # in the ids of documents that have none
    begin: int = 0
    end: int | None = None


class Losses:
    """What reading documents left out or replaced, to be reported once for all of them."""

    def __init__(self) -> None:
        self.without_text = 0  # documents
        self.bad_bytes: dict[str, tuple[int, str]] = {}  # of each file how many, and the place of the first

    def add_bad_bytes(self, file: str, bad: int, place: str) -> None:
        before, first = self.bad_bytes.get(file, (0, place))
        self.bad_bytes[file] = (before + bad, first)

    def to_json(self) -> dict[str, Any]:
        return {"without_text": self.without_text, "bad_bytes": self.bad_bytes}

    def add_json(self, other: dict[str, Any]) -> None:
        """Add those of what comes after, as `to_json` wrote them."""
        self.without_text += other["without_text"]
        for file, (bad, place) in other["bad_bytes"].items():
            self.add_bad_bytes(file, bad, place)

    def report(self, label: str) -> None:
        """Print them to stderr, if there are any."""
        if self.without_text:
            many = (
                "1 document without a text was"
                if self.without_text == 1
                else f"{self.without_text:,} documents without a text were"
            )
            print(f"{label}: {many} left out", file=sys.stderr)
        for file, (bad, place) in list(self.bad_bytes.items())[:NAMED]:
            print(f"{label}: {file}: {not_utf8(bad, place)} and became U+FFFD; {HOW_TO_CONVERT}", file=sys.stderr)
        if len(self.bad_bytes) > NAMED:
            others = list(self.bad_bytes.values())[NAMED:]
            bad = sum(bad for bad, _ in others)
            print(f"{label}: {bad:,} more bytes in {len(others):,} other files are not UTF-8", file=sys.stderr)


def read_documents(path: AnyPath, *, label: str = "documents", losses: Losses | None = None) -> Iterator[Document]:
    """All documents of a refine folder, of a folder of files, or of one file, in order of file names and rows.

    Parquet and JSON lines need a `text`; `id`, `url` and `language` are taken where they exist. A text or Markdown
    file is one document. Documents without a text are left out, and bytes that are not UTF-8 become U+FFFD: both are
    added to `losses`, or counted and reported under `label` in the end. Raises StageError for a place without
    documents, a file without texts, or a text that is something else.
    """
    found = losses or Losses()
    try:
        for part in files_of(path):
            yield from read_part(part, found)
    finally:
        if losses is None:
            found.report(label)


def files_of(path: AnyPath) -> list[Part]:
    """The files that `read_documents` reads. Raises StageError if there are none.

    Markdown in a folder of Parquet or JSON lines describes these, as the card of a data set does, and is not read.
    """
    path = Path(path)
    root = path / "documents" if (path / "documents").is_dir() else path
    files = [root] if root.is_file() else sorted(p for p in root.rglob("*") if _is(p, SUFFIXES))
    files = [f for f in files if f.is_file() and not any(part.startswith(".") for part in f.relative_to(root).parts)]
    if any(_is(file, (".parquet", *JSON_LINES)) for file in files):
        files = [file for file in files if not _is(file, MARKDOWN)]
    if not files:
        raise StageError(f"{path}: no documents here; expected {', '.join(SUFFIXES)}")
    for file in files:
        if not _is(file, SUFFIXES):
            raise StageError(f"{file}: not a file of documents; expected {', '.join(SUFFIXES)}")
    return [Part(file, file.relative_to(root).as_posix() if file != root else file.name) for file in files]


def is_text(file: Path) -> bool:
    """Whether a file is one document, by its name."""
    return _is(file, (*TEXTS, *MARKDOWN))


def read_part(part: Part, losses: Losses) -> Iterator[Document]:
    """The documents that begin in a part and have a text; of a text file the part must be all."""
    if _is(part.file, (".parquet",)):
        documents = _read_parquet(part, losses)
    elif is_text(part.file):
        documents = _read_text(part, losses)
    else:
        documents = _read_json_lines(part, losses)
    for document in documents:
        if document.text:
            yield document
        else:
            losses.without_text += 1


def cut_file(part: Part, part_bytes: int) -> Iterator[tuple[Part, int]]:
    """A whole file in parts of about `part_bytes` of text, each with its bytes, as far as its format allows it.

    Row groups of Parquet stay whole, and so do compressed files and those in UTF-16 or UTF-32.
    """
    file = part.file
    if _is(file, (".parquet",)):
        metadata = _open_parquet(file).metadata
        begin = n_bytes = 0
        for group in range(metadata.num_row_groups):
            columns = map(metadata.row_group(group).column, range(metadata.num_columns))
            n_bytes += sum(c.total_uncompressed_size for c in columns if c.path_in_schema == "text")
            if n_bytes >= part_bytes or group == metadata.num_row_groups - 1:
                yield Part(file, part.name, begin, group + 1), n_bytes
                begin, n_bytes = group + 1, 0
    elif is_gzip(file) or file.stat().st_size <= part_bytes or not _can_be_cut(file):
        yield part, file.stat().st_size
    else:
        size = file.stat().st_size
        for begin in range(0, size, part_bytes):
            end = min(begin + part_bytes, size)
            yield Part(file, part.name, begin, end), end - begin


def read_texts(path: AnyPath, *, label: str = "documents") -> Iterator[str]:
    """The texts alone of `read_documents`."""
    return (document.text for document in read_documents(path, label=label))


def _is(file: Path, suffixes: tuple[str, ...]) -> bool:
    return file.name.lower().endswith(suffixes)


def _can_be_cut(file: Path) -> bool:
    try:
        return not has_other_encoding(file)
    except (OSError, NotText) as error:
        raise StageError(f"{file}: can't be read as a text: {error}") from error


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
    found = table.schema_arrow.field("text").type
    if not _is_of_texts(found):
        raise StageError(f"{file}: its column `text` is of type {found}; expected string")
    return table


def _is_of_texts(column: "pa.DataType") -> bool:
    """Whether its values are texts, or bytes that may be: a type's name begins with large_ or ends in _view."""
    import pyarrow.types as types

    values = column.value_type if types.is_dictionary(column) else column
    return str(values).removeprefix("large_").removesuffix("_view") in ("string", "binary", "null")


def _read_parquet(part: Part, losses: Losses) -> Iterator[Document]:
    import pyarrow as pa

    table = _open_parquet(part.file)
    known = [column for column in ("id", "url", "language", "title", "text") if column in table.schema_arrow.names]
    end = table.num_row_groups if part.end is None else part.end
    row = sum(table.metadata.row_group(group).num_rows for group in range(part.begin))
    try:
        for batch in table.iter_batches(1000, row_groups=list(range(part.begin, end)), columns=known):
            contents = batch.column("text").cast(pa.large_binary()).to_pylist()  # or a bad byte would be an error
            others = batch.drop_columns(["text"]).to_pylist() if len(known) > 1 else [{}] * len(contents)
            for content, record in zip(contents, others, strict=True):
                text = _decode(content or b"", part.name, f"row {row}", losses)
                yield _document(text, record, f"{part.name}:{row}")
                row += 1
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise StageError(f"{part.file}: not readable after row {row}: {error}") from error


def _read_text(part: Part, losses: Losses) -> Iterator[Document]:
    try:
        with open_utf8(part.file) as stream:
            text, bad, first = decode_lossy(stream.read())
    except (OSError, EOFError, zlib.error, NotText) as error:
        raise StageError(f"{part.file}: can't be read as a text: {error}") from error
    if bad:
        losses.add_bad_bytes(part.name, bad, f"byte {first:,}")
    yield Document(part.name, text.replace("\r\n", "\n").replace("\r", "\n"))


def _read_json_lines(part: Part, losses: Losses) -> Iterator[Document]:
    """Lines that begin in the part; ids and errors count those of a stretch from its first byte on."""
    name, place = part.name, str(part.file)
    if part.begin:
        name, place = f"{name}+{part.begin}", f"{place}: from byte {part.begin}"
    row = 0
    try:
        with open_utf8(part.file) as lines:
            if part.begin:
                lines.seek(part.begin - 1)
                lines.readline()
            at = lines.tell()
            while (part.end is None or at < part.end) and (line := lines.readline()):
                if line.strip():
                    text = _decode(line, part.name, f"byte {at:,}", losses)
                    yield _from_json(text.removeprefix(BOM), f"{name}:{row}", f"{place}: line {row + 1}")
                at += len(line)
                row += 1
    except (OSError, EOFError, zlib.error, NotText) as error:  # gzip's are of the first three kinds
        raise StageError(f"{place}: not readable after line {row}: {error}") from error


def _decode(content: bytes, file: str, place: str, losses: Losses) -> str:
    text, bad, _ = decode_lossy(content)
    if bad:
        losses.add_bad_bytes(file, bad, place)
    return text


def _from_json(line: str, id: str, place: str) -> Document:
    try:
        record = json.loads(line)
        text = record["text"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise StageError(f'{place}: expected an object with "text"; {error!r}') from error
    if not isinstance(text, str | None):
        raise StageError(f'{place}: "text" is {json.dumps(text)[:80]}; expected a string')
    text = (text or "").encode("utf-8", "replace").decode()  # JSON may hold halves of surrogate pairs
    return _document(text, record, id)


def _document(text: str, record: dict[str, Any], id: str) -> Document:
    others = (str(record.get(name) or "") for name in ("url", "language", "title"))
    return Document(str(record.get("id") or id), text, *others)
