"""A `metrics.jsonl` as columns of numbers: read a little at a time, and further while a trainer appends to it.

The file is only read, never locked, and a line counts once it is whole. A file that was written anew (a resumed run
drops the lines of steps that it does again) is read from the beginning.
"""

import json
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute  # or the first file that is opened waits for it
import pyarrow.json

BLOCK = 4 << 20  # bytes that are parsed at once: less than a tenth of a second
FEW = 1 << 16  # bytes, below which Python parses lines sooner than pyarrow begins to
GLIMPSES = 600  # lines that are looked at, evenly over a long rest that is not read yet
LONG_REST = 8 << 20  # bytes
LINE = 1 << 12  # bytes within which a line is hoped for
REASONS = 1000  # skipped steps whose reason is kept, the latest ones
AXES = ("step", "tokens", "seconds", "flop")
STEPWISE = {"proxy", "sqrt_kl"}  # fields of steps that `prefer` writes in lines of their own, as evaluations are

Numbers = np.ndarray[Any, np.dtype[Any]]
Columns = dict[str, Numbers]


class Growing:
    """An array that is appended to."""

    def __init__(self, dtype: type) -> None:
        self._content: Numbers = np.empty(1024, dtype)
        self._n = 0

    def append(self, values: Numbers) -> None:
        n = self._n + len(values)
        if n > len(self._content):
            bigger = np.empty(max(n, 2 * len(self._content)), self._content.dtype)
            bigger[: self._n] = self._content[: self._n]
            self._content = bigger
        self._content[self._n : n] = values
        self._n = n

    @property
    def values(self) -> Numbers:
        return self._content[: self._n]

    @property
    def last(self) -> float:
        return float(self._content[self._n - 1]) if self._n else 0.0

    def __len__(self) -> int:
        return self._n


@dataclass
class Field:
    """A name's values, and the lines that they are on."""

    lines: Growing = field(default_factory=lambda: Growing(np.int64))
    values: Growing = field(default_factory=lambda: Growing(np.float32))
    of_evaluations: bool = False


class MetricsFile:
    """What has been read of the file so far.

    axes: of each line the step, and up to it the tokens, seconds of training and FLOP. fields: all other numbers.
    evaluations: lines of evaluations. skipped: lines of skipped steps, with `reasons` for the latest of them.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._begin(None)

    def _begin(self, inode: int | None) -> None:
        self._inode, self._offset, self._size = inode, 0, 0
        self.axes = {name: Growing(np.float64) for name in AXES}
        self.fields: dict[str, Field] = {}
        self.evaluations, self.skipped = Growing(np.int64), Growing(np.int64)
        self.reasons: list[tuple[int, str]] = []
        self._glimpsed: Columns | None = None

    def __len__(self) -> int:
        return len(self.axes["step"])

    @property
    def size(self) -> int:
        """Numbers that are held."""
        return len(AXES) * len(self) + 2 * sum(len(one.values) for one in self.fields.values())

    @property
    def version(self) -> str:
        return f"{self._inode}.{self._offset}"

    @property
    def share(self) -> float:
        """How much of the file has been read; a half-written line at its end does not count."""
        return 1.0 if self._size <= self._offset + LINE else self._offset / self._size

    def read(self, seconds: float) -> None:
        """Read on for at most about this long. Raises OSError where the file is gone."""
        until = time.monotonic() + seconds
        with open(self.file, "rb") as file:
            found = os.fstat(file.fileno())
            if found.st_ino != self._inode or found.st_size < self._offset:
                self._begin(found.st_ino)
            self._size = found.st_size
            file.seek(self._offset)
            while block := file.read(BLOCK):
                if not (whole := block[: block.rfind(b"\n") + 1]):
                    break  # half a line, which its writer will complete
                self._take(parse(whole))
                self._offset += len(whole)
                file.seek(self._offset)
                if time.monotonic() > until:
                    break
            if self._size - self._offset > LONG_REST and self._glimpsed is None:
                self._glimpsed = self._glimpse(file)

    def glimpses(self, name: str) -> tuple[Columns, Numbers]:
        """Step and tokens, and the field's values, of a few lines of what has not been read yet."""
        if self.share == 1.0 or self._glimpsed is None or name not in self._glimpsed:
            return {}, np.empty(0)
        there = ~np.isnan(self._glimpsed[name]) & (self._glimpsed["step"] > self.axes["step"].last)
        axes: Columns = {axis: self._glimpsed[axis][there] for axis in ("step", "tokens") if axis in self._glimpsed}
        return axes, self._glimpsed[name][there]

    def _glimpse(self, file: Any) -> Columns:
        rows: list[dict[str, Any]] = []
        for at in np.linspace(self._offset, self._size - LINE, GLIMPSES).astype(int):
            file.seek(int(at))
            lines = file.read(LINE).split(b"\n")
            rows += _whole_lines(lines[1:-1][:2])  # of which at least one is a step's
        return _columns(rows)[0]

    def _take(self, parsed: tuple[Columns, list[tuple[int, str]]]) -> None:
        columns, skipped = parsed
        if "step" not in columns:
            return
        first, n = len(self), len(columns["step"])
        nothing = np.zeros(n)
        seconds = np.nan_to_num(columns.get("seconds", nothing))
        work = np.nan_to_num(columns.get("gflops_per_second", nothing)) * 1e9 * seconds
        steps = np.nan_to_num(columns["step"])
        tokens = np.nan_to_num(columns.get("tokens", nothing))
        for name, values in (("step", steps), ("tokens", tokens)):  # a line without has those of the line before
            self.axes[name].append(np.maximum(np.maximum.accumulate(values), self.axes[name].last))
        for name, values in (("seconds", seconds), ("flop", work)):
            self.axes[name].append(self.axes[name].last + np.cumsum(values))
        measured = ~np.isnan(columns.get("seconds", np.full(n, np.nan)))
        for name, values in columns.items():
            if name == "step":
                continue
            there = np.flatnonzero(~np.isnan(values))
            if not len(there):
                continue
            one = self.fields.setdefault(name, Field(of_evaluations=name not in STEPWISE and not measured[there[0]]))
            one.lines.append(there + first)
            one.values.append(values[there])
        stepwise = np.any([~np.isnan(columns[name]) for name in STEPWISE if name in columns], axis=0)
        self.evaluations.append(np.flatnonzero(~measured & ~stepwise) + first)
        self.skipped.append(np.array([line for line, _ in skipped], np.int64) + first)
        self.reasons = [*self.reasons, *((line + first, reason) for line, reason in skipped)][-REASONS:]


def parse(lines: bytes) -> tuple[Columns, list[tuple[int, str]]]:
    """Whole lines as columns, NaN where a line lacks a name, and the lines of skipped steps with the reason."""
    if len(lines) >= FEW:
        try:
            options = pa.json.ReadOptions(use_threads=False, block_size=len(lines) + 1)
            return _columns_of_table(pa.json.read_json(pa.BufferReader(lines), read_options=options))
        except pa.ArrowInvalid:
            pass  # a damaged line, which is passed over
    return _columns(list(_whole_lines(lines.split(b"\n"))))


def _whole_lines(lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            yield row


def _columns(rows: list[dict[str, Any]]) -> tuple[Columns, list[tuple[int, str]]]:
    names = dict.fromkeys(name for row in rows for name, value in row.items() if _is_number(value))
    columns = {
        name: np.array([row[name] if _is_number(row.get(name)) else np.nan for row in rows], float) for name in names
    }
    return columns, [(i, row["skipped"]) for i, row in enumerate(rows) if isinstance(row.get("skipped"), str)]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _columns_of_table(table: Any) -> tuple[Columns, list[tuple[int, str]]]:
    columns, skipped = {}, []
    for name in table.column_names:
        column = table[name]
        if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
            columns[name] = pa.compute.cast(column, pa.float64(), safe=False).to_numpy()
        elif name == "skipped" and pa.types.is_string(column.type):
            there = np.flatnonzero(column.is_valid().to_numpy())
            skipped = [(int(i), column[int(i)].as_py()) for i in there]
    return columns, skipped
