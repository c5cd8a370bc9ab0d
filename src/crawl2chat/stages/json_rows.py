"""Rows from the kinds of files that people have: JSON lines, an array, one object, CSV, plain or gzipped; Parquet."""

import csv
import json
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import TextIOWrapper
from itertools import chain, islice
from pathlib import Path
from typing import Any, TextIO, TypeGuard

from crawl2chat.stages.files import StageError
from crawl2chat.stages.text_files import HOW_TO_CONVERT, NotText, format_of, open_unzipped, open_utf8

HEAD = 300  # bytes of a beginning by which formats are told apart
TABLES = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
DELIMITERS = ",;\t|"  # of cells; spreadsheets write the second one where the first is the decimal sign
MAX_CELL = 100_000_000  # characters
LOOKED_AT = 100  # lines that are tried before a file counts as one broken JSON document
MAX_KINDS = 10  # of problems that are named
SHOWN_PLACES = 3


@dataclass(frozen=True)
class NotJson:
    """In place of a row that can't be read: why, and how it begins."""

    problem: str
    begin: str


class JsonRows:
    """The rows of a file, with the number of each; JSON lines are read one at a time.

    UTF-8, UTF-16 and UTF-32 are told apart by their first bytes; a byte order mark is skipped. An array counts as
    its items, and so does an object around one list of objects, such as {"data": […]}. `unit` is what numbers count:
    rows of CSV from the header on, as in a spreadsheet.
    Iterating raises StageError for a file that can't be read or is not JSON at all.
    """

    def __init__(self, file: Path, is_row: Callable[[object], bool]) -> None:
        """is_row: whether a list or an object is a row itself, not what is around the rows."""
        self.file, self.is_row, self.unit = file, is_row, "line"

    def __iter__(self) -> Iterator[tuple[int, Any]]:
        if is_parquet(self.file):
            self.unit = "row"
            yield from enumerate(_parquet_rows(self.file), 1)
            return
        with open_text(self.file) as handle:
            lines = _not_blank(handle)
            first = list(islice(lines, 2))
            values = [_loads(text) for _, text in first]
            if self.file.name.lower().endswith(TABLES) and any(isinstance(value, NotJson) for value in values):
                self.unit = "row"
                yield from _table_rows(self.file)
                return
            alone = len(values) == 1 and not isinstance(values[0], NotJson)
            if alone and not self.is_row(values[0]):
                yield from self._items(values)
                return
            if not _goes_on_over_lines([text.lstrip("\ufeff \t") for _, text in first], values):
                yield from ((number, _loads(text)) for number, text in chain(first, lines))
                return
        yield from self._document()

    def _document(self) -> Iterator[tuple[int, Any]]:
        """Of a file whose JSON goes on over several lines; objects may also follow each other, as `jq` writes them."""
        with open_text(self.file) as handle:
            text = handle.read()
        decoder, at, values = json.JSONDecoder(), 0, []
        try:
            while (at := _skip_blank(text, at)) < len(text):
                value, at = decoder.raw_decode(text, at)
                values.append(value)
        except (ValueError, RecursionError) as error:
            lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
            if all(isinstance(_loads(line), NotJson) for _, line in lines[:LOOKED_AT]):
                raise StageError(f"{self.file}: is not JSON: {_why(error)}; it begins with {text[:40]!r}") from error
            del text
            yield from ((number, _loads(line)) for number, line in lines)
            return
        yield from self._items(values)

    def _items(self, values: list[Any]) -> Iterator[tuple[int, Any]]:
        if len(values) == 1 and not self.is_row(values[0]):
            inside = values[0].values() if isinstance(values[0], dict) else [values[0]]
            lists = [value for value in inside if _holds_objects(value)]
            if len(lists) == 1 and (isinstance(values[0], list) or self.is_row(lists[0][0])):
                values, self.unit = lists[0], "item"
        elif len(values) > 1:
            self.unit = "item"
        yield from enumerate(values, 1)


def is_parquet(file: Path) -> bool:
    """Whether a file is Parquet, by its first bytes; False for one that can't be read."""
    try:
        with open(file, "rb") as content:
            return content.read(4) == b"PAR1"
    except OSError:
        return False


def _parquet_rows(file: Path) -> Iterator[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        for batch in pq.ParquetFile(file).iter_batches(1000):
            yield from batch.to_pylist()
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise StageError(f"{file}: not readable Parquet: {error}") from error


def _table_rows(file: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows of CSV by the names in its first one. Raises StageError, with a row's number, if cells don't fit it."""
    csv.field_size_limit(MAX_CELL)
    number = 1
    with open_text(file) as lines:
        first = next(lines).lstrip("\ufeff")
        delimiter = max(DELIMITERS, key=first.count)
        rows = csv.reader(chain([first], lines), delimiter=delimiter, strict=True)
        try:
            names = [name.strip() for name in next(rows)]
            if len(set(names)) < len(names):
                raise StageError(f"{file}: its header names a column twice: {', '.join(names)}")
            for number, cells in enumerate(rows, 2):
                if not cells:
                    continue
                if len(cells) != len(names):
                    raise StageError(
                        f"{file}: row {number} has {len(cells)} cells, but the header names {len(names)} columns; "
                        f"cells that hold {delimiter!r} need quotes"
                    )
                yield number, dict(zip(names, cells, strict=True))
        except csv.Error as error:
            raise StageError(f"{file}: is not CSV after row {number}: {error}") from error


@contextmanager
def open_text(file: Path) -> Iterator[TextIO]:
    """The text of a file, gzipped or not, in the Unicode encoding that its first bytes show.

    Raises StageError, also within the block, for one that can't be read, is not Unicode, or is of a known other kind.
    """
    try:
        with open_unzipped(file) as raw:
            kind = format_of(raw.read(HEAD))
        if kind:
            raise StageError(f"{file}: is {kind}; expected JSON lines")
        with open_utf8(file) as stream:
            yield TextIOWrapper(stream, "utf-8")
    except (OSError, EOFError, zlib.error) as error:
        raise StageError(f"{file}: can't be read: {getattr(error, 'strerror', None) or error}") from error
    except NotText as error:
        raise StageError(f"{file}: {error}") from error
    except UnicodeDecodeError as error:
        raise StageError(f"{file}: is not {error.encoding}: {error}; {HOW_TO_CONVERT}") from error


def _not_blank(handle: TextIO) -> Iterator[tuple[int, str]]:
    return ((number, line) for number, line in enumerate(handle, 1) if line.strip("\ufeff \t\r\n"))


def _goes_on_over_lines(first: list[str], values: list[Any]) -> bool:
    """Whether these first two lines begin one JSON document. In an array a line of its own may hold an object."""
    if not first or not isinstance(values[0], NotJson):
        return False
    return first[0].startswith("[") or (first[0].startswith("{") and isinstance(values[-1], NotJson))


def _loads(line: str) -> Any:
    try:
        return json.loads(line.strip("\ufeff \t\r\n"))  # marks are also within files that were joined
    except (ValueError, RecursionError) as error:
        return NotJson(_why(error), line.strip()[:40])


def _why(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        place = f"line {error.lineno} column {error.colno}" if error.lineno > 1 else f"column {error.colno}"
        return f"{error.msg} at {place}"
    return "nested too deeply" if isinstance(error, RecursionError) else str(error)


def _skip_blank(text: str, at: int) -> int:
    while at < len(text) and text[at] in "\ufeff \t\r\n":
        at += 1
    return at


def _holds_objects(value: object) -> TypeGuard[list[Any]]:
    return isinstance(value, list) and bool(value) and all(isinstance(item, (dict, list)) for item in value)


class RowError(ValueError):
    """What is wrong with a row; `kind` is equal for rows with the same mistake."""

    def __init__(self, problem: str, kind: str | None = None) -> None:
        super().__init__(problem)
        self.kind = kind or problem


class BadRows:
    """What is wrong with a file: equal kinds of problems as one, with the numbers of the first rows that have it."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.n = 0
        self.kinds: dict[str, tuple[str, list[int]]] = {}  # kind: the first problem of it, and where all of them are

    def add(self, number: int, error: RowError) -> None:
        self.n += 1
        kind = error.kind if error.kind in self.kinds or len(self.kinds) < MAX_KINDS else "others"
        self.kinds.setdefault(kind, (str(error) if kind == error.kind else "other problems", []))[1].append(number)

    def raise_any(self, n_rows: int, unit: str) -> None:
        """Raise StageError if a row was bad."""
        if len(self.kinds) == 1:
            ((problem, places),) = self.kinds.values()
            if len(places) > 1:
                raise StageError(f"{self.file}: {len(places):,} of {n_rows:,} {unit}s ({_first(places)}): {problem}")
        if self.kinds:
            lines = [
                f"  {unit}{'s' * (len(places) > 1)} {_first(places)}: {problem}"
                for problem, places in self.kinds.values()
            ]
            bad = f"bad {unit}{'s' * (self.n > 1)}"
            raise StageError("\n".join([f"{self.file}: {self.n:,} {bad} of {n_rows:,}", *lines]))


def _first(places: list[int]) -> str:
    shown = ", ".join(map(str, places[:SHOWN_PLACES]))
    return shown if len(places) <= SHOWN_PLACES else f"{shown} and {len(places) - SHOWN_PLACES:,} more"
