"""The figures of several runs in one table: each with its mean, spread and interval over the runs."""

import csv
import math
import statistics
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, fields, replace
from pathlib import Path

from crawl2chat.report.captions import key_figures
from crawl2chat.report.page import read_run
from crawl2chat.stages.figures import Figure
from crawl2chat.stages.files import AnyPath, StageError, atomic_write
from crawl2chat.stages.settings import dotted
from crawl2chat.stages.stage import Manifest, read_manifest
from crawl2chat.stages.table import STAGE_NAMES

MOST_NAMED = 5  # settings in which runs differ
# Student's t at 97.5 %, by degrees of freedom from 1 on; for more, `t_quantile` has a series
T_QUANTILES = (12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281)


@dataclass(frozen=True)
class RunFigure:
    """One figure of one run: a line of the table in long form."""

    run: str
    seed: int | None  # of the stage; None where it has none
    stage: str
    figure: str
    value: float
    unit: str
    low: float | None  # the interval within the run, 95 %
    high: float | None
    count: int | None


@dataclass(frozen=True)
class Comparison:
    """One figure over several runs. `figure.interval` is the 95 % t-interval of the mean.

    None for a single run, and for runs that differ in more than their seeds.
    """

    stage: str
    figure: Figure  # its value is the mean, its count the number of runs
    spread: float | None  # standard deviation over the runs
    least: float
    most: float


def read_figures(runs: Sequence[AnyPath], stage: str | None = None) -> list[RunFigure]:
    """Return the figures of every finished stage of these runs, or of one stage; a stage's own folder is read, too.

    Raises StageError for a folder without a finished stage, for two of the same run, and for one without `stage`.
    """
    folders = [Path(run).resolve() for run in runs]
    twice = next((run for run, folder in zip(runs, folders, strict=True) if folders.count(folder) > 1), None)
    if twice is not None:
        raise StageError(f"compare {twice}: is named twice")
    rows: list[RunFigure] = []
    for run, name in zip(runs, _names(folders), strict=True):
        manifests = _manifests(Path(run), stage)
        if not manifests:
            raise StageError(f"{run}: no finished stage {stage} in it; expected the folder of a run or of a stage")
        for manifest in manifests:
            for figure in manifest.figure_list():
                low, high = figure.interval or (None, None)
                rows.append(
                    RunFigure(
                        name, manifest.settings.get("seed"), manifest.stage, figure.name, figure.value, figure.unit,
                        low, high, figure.count,
                    )
                )  # fmt: skip
    return rows


def unlike_settings(runs: Sequence[AnyPath], stage: str | None = None) -> dict[str, list[str]]:
    """Return, by stage, in which settings of it or of an earlier stage these runs differ, seeds aside.

    An interval over runs takes them for draws of the same thing, which such runs are not.
    """
    of_runs = [{m.stage: dict(dotted(m.settings)) for m in _manifests(Path(run), None)} for run in runs]
    differing: list[str] = []
    found: dict[str, list[str]] = {}
    for name in STAGE_NAMES:
        tables = [stages[name] for stages in of_runs if name in stages]
        differing += [
            f"{name}.{setting}"
            for setting in sorted({setting for table in tables for setting in table})
            if setting.rpartition(".")[2] != "seed" and len({repr(table.get(setting)) for table in tables}) > 1
        ]
        if tables and differing and stage in (None, name):
            found[name] = list(differing)
    return found


def compare_runs(rows: Iterable[RunFigure], unlike: Collection[str] = ()) -> list[Comparison]:
    """Return each figure's mean over the runs that have it, in the order of the first run that does.

    unlike: stages in which the runs differ in more than their seeds, so that there is no interval.
    """
    values: dict[tuple[str, str, str], list[float]] = {}
    for row in rows:
        values.setdefault((row.stage, row.figure, row.unit), []).append(row.value)
    compared = []
    for (stage, name, unit), of_runs in values.items():
        figure, spread = over_runs(name, of_runs, unit)
        if stage in unlike:
            figure = replace(figure, interval=None)
        compared.append(Comparison(stage, figure, spread, min(of_runs), max(of_runs)))
    stages = list(dict.fromkeys(stage for stage, _, _ in values))
    return sorted(compared, key=lambda one: stages.index(one.stage))


def over_runs(name: str, values: Sequence[float], unit: str = "") -> tuple[Figure, float | None]:
    """Return the mean of a figure over independent runs with its t-interval, and its standard deviation.

    With few runs the spread is itself uncertain, so the interval is Student's: mean ± t(0.975, n − 1) · s / √n. It
    assumes that runs differ about normally, and is not cut at 0 and 1. Of one run both are unknown.
    """
    centre = statistics.fmean(values)
    if len(values) < 2:
        return Figure(name, centre, unit, count=len(values)), None
    spread = statistics.stdev(values)
    half = t_quantile(len(values) - 1) * spread / math.sqrt(len(values))
    return Figure(name, centre, unit, (centre - half, centre + half), len(values)), spread


def t_quantile(degrees: int) -> float:
    """Return the 97.5 % quantile of Student's t-distribution (beyond 10 degrees by Hill's series; error < 0.0002)."""
    if degrees <= len(T_QUANTILES):
        return T_QUANTILES[degrees - 1]
    z = statistics.NormalDist().inv_cdf(0.975)
    return (
        z
        + (z**3 + z) / (4 * degrees)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * degrees**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * degrees**3)
    )


def comparison_table(
    compared: Sequence[Comparison], unlike: Mapping[str, Sequence[str]] | None = None, *, everything: bool = False
) -> str:
    """Return a table for people, by stage: the figures that matter most, or all. unlike: of `unlike_settings`."""
    lines: list[str] = []
    for stage in dict.fromkeys(one.stage for one in compared):
        of_stage = {one.figure.name: one for one in compared if one.stage == stage}
        shown = [one.figure for one in of_stage.values()]
        names = [figure.name for figure in (shown if everything else key_figures(stage, shown))]
        cells = [_cells(of_stage[name]) for name in names]
        header = (stage, "mean [95 % interval over runs]", "spread", "least", "most", "runs")
        widths = [max(map(len, column)) for column in zip(header, *cells, strict=True)]
        for row in (header, *cells):
            first, *others = (f"{cell:{'<' if i == 0 else '>'}{widths[i]}}" for i, cell in enumerate(row))
            lines.append("  ".join([first, *others]))
        if unlike and stage in unlike:
            named = ", ".join(unlike[stage][:MOST_NAMED]) + (", …" if len(unlike[stage]) > MOST_NAMED else "")
            lines.append(f"no intervals, since these runs are not alike but for their seeds; they differ in {named}")
        lines.append("")
    lines.append("interval: of the mean over runs, by Student's t; spread: standard deviation over runs")
    return "\n".join(lines)


def write_figures(rows: Sequence[RunFigure], file: Path) -> None:
    """Write one line per run and figure: CSV with a header, or Parquet where the file's name ends in `.parquet`."""
    names = [field.name for field in fields(RunFigure)]
    with atomic_write(file) as temporary:
        if file.suffix == ".parquet":
            import pyarrow as pa
            import pyarrow.parquet as pq

            kinds = {"run": pa.string(), "seed": pa.int64(), "stage": pa.string(), "figure": pa.string(),
                     "unit": pa.string(), "count": pa.int64()}  # fmt: skip
            schema = pa.schema([(name, kinds.get(name, pa.float64())) for name in names])
            pq.write_table(pa.Table.from_pylist([asdict(row) for row in rows], schema), temporary)
            return
        with open(temporary, "w", encoding="utf-8", newline="") as handle:
            writer = csv.writer(handle)
            writer.writerow(names)
            writer.writerows(astuple(row) for row in rows)


def _manifests(folder: Path, stage: str | None) -> list[Manifest]:
    """Of the folder itself, or of the stages in it."""
    own = read_manifest(folder)
    found = [own] if own else [manifest for _, manifest in read_run(folder)]
    return [manifest for manifest in found if stage in (None, manifest.stage)]


def _names(folders: Sequence[Path]) -> list[str]:
    """The shortest ends of the paths that tell the folders apart."""
    parts = 1
    while len({folder.parts[-parts:] for folder in folders}) < len(folders):
        parts += 1
    return ["/".join(folder.parts[-parts:]) for folder in folders]


def _cells(one: Comparison) -> tuple[str, ...]:
    def plain(value: float | None) -> str:
        return "" if value is None else str(Figure("", value, one.figure.unit))

    name = one.figure.name.replace("_", " ")
    return name, str(one.figure), plain(one.spread), plain(one.least), plain(one.most), str(one.figure.count)
