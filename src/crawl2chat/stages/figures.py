"""Measured figures: a value, how sure we are of it, and how many cases it rests on."""

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from rich.table import Table

    Floats = NDArray[np.float64]

COLUMNS = ("figure", "value [95 % interval]", "of")  # of a table of figures, wherever it is shown
RESAMPLES = 500  # of a bootstrap


@dataclass(frozen=True)
class Figure:
    """One measured number of a stage, as it is in `manifest.json` under `figures`."""

    name: str
    value: float
    unit: str = ""
    interval: tuple[float, float] | None = None  # 95 %
    count: int | None = None

    def to_json(self) -> dict[str, Any]:
        fields = asdict(self)
        del fields["name"]
        fields["interval"] = list(self.interval) if self.interval else None
        return fields

    @staticmethod
    def from_json(name: str, fields: dict[str, Any]) -> "Figure":
        interval = fields["interval"]
        return Figure(name, fields["value"], fields["unit"], interval and tuple(interval), fields["count"])

    def cells(self) -> tuple[str, str, str]:
        """Return the figure's row of a table, with the columns COLUMNS."""
        return self.name.replace("_", " "), str(self), f"{self.count:,}" if self.count else ""

    def __str__(self) -> str:
        if self.unit == "share":
            text = f"{100 * self.value:.1f} %"
            if self.interval:
                text += f" [{100 * self.interval[0]:.1f}, {100 * self.interval[1]:.1f}]"
            return text
        number = _readable(self.value)
        if self.interval:
            number += f" [{_readable(self.interval[0])}, {_readable(self.interval[1])}]"
        return f"{number} {self.unit}".rstrip()


def figure_table(figures: Sequence[Figure], *, plain_names: bool = True) -> "Table":
    """Return a table for the terminal; plain_names: with spaces in place of underscores."""
    from rich.table import Table

    table = Table(min_width=72, box=None, pad_edge=False)
    for i, name in enumerate(COLUMNS):
        table.add_column(name, justify="right" if i else "left")
    for figure in figures:
        name, *cells = figure.cells()
        table.add_row(name if plain_names else figure.name, *cells)
    return table


def _readable(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() or abs(value) >= 1000 else f"{value:.4g}"


def wilson_interval(successes: float, count: int, z: float = 1.96) -> tuple[float, float]:
    """95 % score interval of a share (Wilson 1927); honest near 0 and 1, where counts are small."""
    if count == 0:
        return 0.0, 1.0
    share = successes / count
    centre = share + z * z / (2 * count)
    spread = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def share(name: str, successes: int, count: int) -> Figure:
    """A share of `count` cases with its Wilson interval; NaN-free: 0 of 0 is 0 with the interval [0, 1]."""
    value = successes / count if count else 0.0
    return Figure(name, value, "share", wilson_interval(successes, count), count)


def mean(name: str, values: Sequence[float], unit: str = "") -> Figure:
    """The mean over independent cases with the normal interval of a mean; of one case the interval is unknown."""
    centre = statistics.fmean(values)
    if len(values) < 2:
        return Figure(name, centre, unit, count=len(values))
    if unit == "share" and set(values) in ({0.0}, {1.0}):  # no spread does not mean certainty
        return Figure(name, centre, unit, wilson_interval(round(sum(values)), len(values)), len(values))
    spread = 1.96 * statistics.stdev(values) / math.sqrt(len(values))
    low, high = centre - spread, centre + spread
    interval = (max(0.0, low), min(1.0, high)) if unit == "share" else (low, high)
    return Figure(name, centre, unit, interval, len(values))


def bootstrap(name: str, unit: str, rows: "Floats", statistic: Callable[["Floats"], float]) -> list[Figure]:
    """A statistic of rows (N, K) with its 95 % bootstrap interval over them; nothing where it is NaN or N is 0."""
    import numpy as np

    if not len(rows) or math.isnan(value := statistic(rows)):
        return []
    draws = np.random.default_rng(0).integers(0, len(rows), size=(RESAMPLES, len(rows)))
    values = [found for draw in draws if not math.isnan(found := statistic(rows[draw]))]
    low, high = np.quantile(values, (0.025, 0.975)).tolist()
    return [Figure(name, value, unit, (low, high), len(rows))]


def area_under_roc(positive: Sequence[float], negative: Sequence[float]) -> float:
    """Return the chance that a positive case's score is above a negative one's, ties counting half (Hanley 1982).

    NaN if there are no cases of one kind.
    """
    import numpy as np

    if not len(positive) or not len(negative):
        return math.nan
    ordered = np.sort(np.asarray(negative))
    below, not_above = (np.searchsorted(ordered, np.asarray(positive), side) for side in ("left", "right"))
    return float((below + not_above).sum()) / (2 * len(positive) * len(negative))
