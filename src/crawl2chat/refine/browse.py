"""Looking into what a finished refine stage left, a page of rows at a time, however many there are.

Of the Parquet tables only footers are read at first, then the row groups that hold the rows that are shown. What has to
be known of all rows, such as their reasons, is read as that one column.
"""

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from crawl2chat.refine.funnel import FUNNEL, read_funnel
from crawl2chat.stages.files import StageError

Rows = npt.NDArray[np.int64]
KEPT_FILTERS = 8  # whose rows are remembered: 8 bytes each
SPREAD = 20  # row groups from which a sample of documents is drawn


class RowTable:
    """The rows of a folder of Parquet, numbered through all its files in their order."""

    def __init__(self, folder: Path) -> None:
        self.files = sorted(folder.glob("*.parquet"))
        starts = [0]
        self.groups: list[tuple[int, int]] = []  # file and row group, of each group
        for number, file in enumerate(self.files):
            footer = pq.read_metadata(file)
            for group in range(footer.num_row_groups):
                self.groups.append((number, group))
                starts.append(starts[-1] + footer.row_group(group).num_rows)
        self.starts: Rows = np.array(starts, np.int64)  # of each group, and after the last one

    def __len__(self) -> int:
        return int(self.starts[-1])

    def rows(self, numbers: Sequence[int], columns: Sequence[str]) -> list[dict[str, Any]]:
        """These rows, each with its number as `row`; only the row groups that hold one are read."""
        wanted = np.asarray(numbers, np.int64)
        in_group = np.searchsorted(self.starts, wanted, side="right") - 1
        found: dict[int, dict[str, Any]] = {}
        for group in np.unique(in_group).tolist():
            file, number = self.groups[group]
            table = pq.ParquetFile(self.files[file]).read_row_group(number, columns=list(columns))
            begin = int(self.starts[group])
            for row in wanted[in_group == group].tolist():  # `take` would import pandas, which takes half a second
                (content,) = table.slice(row - begin, 1).to_pylist()
                found[row] = {"row": row, **content}
        return [found[row] for row in wanted.tolist()]

    def column(self, name: str) -> pa.ChunkedArray:
        """One column of all rows."""
        kind = pa.string() if not self.files else pq.read_schema(self.files[0]).field(name).type
        chunks = [pq.read_table(file, columns=[name]).column(0) for file in self.files]
        return pa.chunked_array([chunk for column in chunks for chunk in column.chunks], kind)

    def sample(self, count: int, columns: Sequence[str]) -> list[dict[str, Any]]:
        """About `count` rows (all, if there are no more) of some row groups spread evenly; the same ones each time."""
        if len(self) <= count:
            return self.rows(range(len(self)), columns)
        picked = np.unique(np.linspace(0, len(self.groups) - 1, min(SPREAD, len(self.groups))).round().astype(int))
        each = -(-count // len(picked))
        numbers: list[int] = []
        for group in picked.tolist():
            begin, end = self.starts[group], self.starts[group + 1]
            numbers += np.unique(np.linspace(begin, end - 1, min(each, end - begin)).astype(np.int64)).tolist()
        return self.rows(numbers, columns)


class Refined:
    """The documents and rejects of a finished refine stage."""

    def __init__(self, folder: Path) -> None:
        """Raises StageError where the stage has not finished."""
        self.folder = folder
        if not (folder / FUNNEL).is_file():
            began = (folder / "shards").is_dir()
            raise StageError(
                "this run's documents are not there yet: the stage refine is at work or was interrupted"
                if began
                else "this run has no documents: the stage refine writes them, and it has not run here"
            )
        self.written = (folder / FUNNEL).stat().st_mtime_ns
        self.funnel = read_funnel(folder)
        self.kept = RowTable(folder / "documents")
        self.dropped = RowTable(folder / "rejects")
        self._filters: OrderedDict[tuple[str, ...], Rows] = OrderedDict()
        self._reasons: tuple[pa.ChunkedArray, pa.ChunkedArray] | None = None

    @property
    def is_current(self) -> bool:
        """Whether the stage has not been made again since."""
        file = self.folder / FUNNEL
        return file.is_file() and file.stat().st_mtime_ns == self.written

    def table(self, name: str) -> RowTable:
        return self.kept if name == "kept" else self.dropped

    def matching(self, table: str, step: str = "", reason: str = "", find: str = "") -> Rows | None:
        """Numbers of the rows of this step and reason whose address holds a text, in any case; None: all rows."""
        if not (step or reason or find):
            return None
        key = (table, step, reason, find)
        if key not in self._filters:
            self._filters[key] = self._match(table, step, reason, find)
            while len(self._filters) > KEPT_FILTERS:
                self._filters.popitem(last=False)
        self._filters.move_to_end(key)
        return self._filters[key]

    def values(self, reason: str) -> tuple[Rows, npt.NDArray[np.float64]]:
        """The rejects that one rule dropped, and the values that it held against its threshold."""
        rows = self.matching("dropped", reason=reason)
        assert rows is not None
        if not len(rows):
            return rows, np.zeros(0)
        values = self.dropped.column("value").to_numpy()[rows]
        known = ~np.isnan(values)
        return rows[known], values[known]

    def clusters(self) -> tuple[Rows, npt.NDArray[np.int64]]:
        """The documents of which copies were dropped, those with most copies first, and how many each has."""
        copies = self.kept.column("copies").to_numpy().astype(np.int64) if len(self.kept) else np.zeros(0, np.int64)
        order = np.argsort(-copies, kind="stable")
        order = order[copies[order] > 0]
        return order, copies[order]

    def copies_of(self, id: str) -> Rows:
        """The rejects that were dropped as copies of the document with this id."""
        found = pc.fill_null(pc.equal(self.dropped.column("copy_of"), id), False)
        return np.flatnonzero(found.to_numpy()).astype(np.int64)

    def row_of(self, id: str) -> int | None:
        """The row of the document with this id."""
        found = pc.index(self.kept.column("id"), id).as_py()
        return found if found >= 0 else None

    def _match(self, table: str, step: str, reason: str, find: str) -> Rows:
        conditions = []
        if table == "dropped" and (step or reason):
            if self._reasons is None:
                self._reasons = self.dropped.column("step"), self.dropped.column("reason")
            pairs = zip(self._reasons, (step, reason), strict=True)
            conditions += [pc.equal(column, wanted) for column, wanted in pairs if wanted]
        if find:
            conditions.append(pc.match_substring(self.table(table).column("url"), find, ignore_case=True))
        if not conditions:
            return np.arange(len(self.table(table)), dtype=np.int64)
        together = conditions[0]
        for condition in conditions[1:]:
            together = pc.and_(together, condition)
        return np.flatnonzero(pc.fill_null(together, False).to_numpy()).astype(np.int64)
