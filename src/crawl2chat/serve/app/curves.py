"""Curves for a screen: smoothed over all values, and reduced to what a column of pixels can show.

Smoothing comes first and reduction afterwards, so that how many pixels there are changes nothing but the drawing. Of
each column the least and the greatest value are kept: a spike of a single step can be seen among a million.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from crawl2chat.serve.app.metrics_file import Growing, Numbers

PIECE = 128  # values that are smoothed at once


class Smoothing:
    """The mean of all values so far, weighted by (1 − 1/over)^age: about the mean of the last `over` values.

    The weights are divided by their sum, so that the first values count as what they are and a series that is constant
    stays constant, to the last bit. on_log: of the logarithms, for curves on a logarithmic axis.
    """

    def __init__(self, over: int, on_log: bool) -> None:
        self.keep, self.on_log = 1 - 1 / over, on_log
        self.smoothed = Growing(np.float64)
        self._first: float | None = None  # the values' differences from it are smoothed: of a constant, zeros
        self._sum = 0.0
        self._last = 0.0  # logarithm

    def follow(self, values: Numbers) -> Numbers:
        """All of a series smoothed, of which this has seen the beginning; only what is new is computed."""
        new = values[len(self.smoothed) :].astype(np.float64)
        if len(new):
            self.smoothed.append(self._extend(self._logs(new) if self.on_log else new))
        return 10**self.smoothed.values if self.on_log else self.smoothed.values

    def _logs(self, new: Numbers) -> Numbers:
        """Logarithms; a value that has none, as it is not above zero, has no say: the one before it counts again."""
        positive = new > 0
        before = np.maximum.accumulate(np.where(positive, np.arange(len(new)), -1))
        known = np.log10(np.where(positive, new, 1.0))
        logs: Numbers = np.where(before >= 0, known[before], self._last)
        self._last = float(logs[-1])
        return logs

    def _extend(self, new: Numbers) -> Numbers:
        if self._first is None:
            self._first = float(new[0])
        pieces = np.zeros((-(-len(new) // PIECE), PIECE))
        pieces.ravel()[: len(new)] = new - self._first
        ages = np.subtract.outer(np.arange(PIECE), np.arange(PIECE))
        weights = np.where(ages >= 0, self.keep ** np.maximum(ages, 0), 0.0)
        sums = pieces @ weights.T  # within each piece
        before = np.empty(len(pieces))
        for i, last in enumerate(sums[:, -1].tolist()):
            before[i] = self._sum
            self._sum = self._sum * self.keep**PIECE + last
        sums += before[:, None] * self.keep ** np.arange(1, PIECE + 1)
        sums = sums.ravel()[: len(new)]
        self._sum = float(sums[-1])
        n = np.arange(len(self.smoothed) + 1, len(self.smoothed) + len(new) + 1)
        total = n if self.keep == 1 else (1 - self.keep**n) / (1 - self.keep)
        smoothed: Numbers = self._first + sums / total
        return smoothed


@dataclass(frozen=True)
class Grid:
    """The columns that all curves of a plot are reduced to: x of each, and the edges between them."""

    x: Numbers
    edges: Numbers  # one more

    def columns(self, x: Numbers) -> Numbers:
        """For sorted x: where each column's begin; one more for the end of the last."""
        return np.searchsorted(x, self.edges)


def grid(all_x: Sequence[Numbers], columns: int, begin: float | None, end: float | None, on_log: bool) -> Grid:
    """Columns over the sorted values of x between begin and end: those values themselves if they are few enough."""
    first = max(begin if begin is not None else -np.inf, np.nextafter(0, 1) if on_log else -np.inf)
    last = end if end is not None else np.inf
    shown = [x[np.searchsorted(x, first) : np.searchsorted(x, last, "right")] for x in all_x]
    shown = [x for x in shown if len(x)]
    if not shown:
        return Grid(np.empty(0), np.zeros(1))
    if sum(map(len, shown)) <= 4 * columns:
        x = np.unique(np.concatenate(shown))
        if len(x) <= columns:
            return Grid(x, np.append(x, np.nextafter(x[-1], np.inf)))
    low, high = min(x[0] for x in shown), max(x[-1] for x in shown)
    edges = np.geomspace(low, high, columns + 1) if on_log else np.linspace(low, high, columns + 1)
    edges[0], edges[-1] = low, np.nextafter(high, np.inf)
    return Grid(np.sqrt(edges[:-1] * edges[1:]) if on_log else (edges[:-1] + edges[1:]) / 2, edges)


@dataclass(frozen=True)
class Curve:
    """Of each column of a grid the least and greatest value, and the smoothed one at its end; NaN where none is."""

    low: Numbers
    high: Numbers
    smooth: Numbers


def reduce(on: Grid, x: Numbers, values: Numbers, smoothed: Numbers) -> Curve:
    """x: sorted. smoothed: of the first values; it may end before them."""
    n = len(on.x)
    low, high, smooth = (np.full(n, np.nan, np.float32) for _ in range(3))
    places = on.columns(x)
    full = np.flatnonzero(places[1:] > places[:-1])
    if len(full):
        # between the beginnings of full columns there are only empty ones, so that these are all a column's values
        part, starts = values[: places[-1]], places[full]
        low[full] = np.minimum.reduceat(part, starts)
        high[full] = np.maximum.reduceat(part, starts)
        last = places[full + 1] - 1
        known = last < len(smoothed)
        smooth[full[known]] = smoothed[last[known]]
    return Curve(low, high, smooth)


def spread(on: Grid, curves: Sequence[Curve]) -> tuple[Numbers, Numbers, Numbers]:
    """Mean, least and greatest of the smoothed curves, where all of them are; between a curve's values it is a line."""
    lines = []
    for curve in curves:
        there = ~np.isnan(curve.smooth)
        known = np.full(len(on.x), np.nan)
        if there.any():
            inside = (on.x >= on.x[there][0]) & (on.x <= on.x[there][-1])
            known[inside] = np.interp(on.x[inside], on.x[there], curve.smooth[there])
        lines.append(known)
    every = np.array(lines, np.float32)
    return every.mean(axis=0), every.min(axis=0), every.max(axis=0)
