"""Refining in the report: the funnel, and some of the pages dropped for each reason."""

from collections import Counter
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

from crawl2chat.refine.funnel import read_funnel, rows

SAMPLES = 3  # rejects shown for each reason
BATCH = 1000


def funnel_table(folder: Path) -> str:
    """Return a table of what each step dropped, why, and what was left; folder: the stage's."""
    funnel = read_funnel(folder)
    lines = [f'<tr><td>crawled<td><td><td><td class="n">{funnel["pages"] + funnel["faults"]:,}']
    step = ""
    for row in rows(funnel):
        first = row.step if row.step != step else ""
        lines.append(
            f'<tr><td>{escape(first)}<td>{escape(row.reason)}<td class="n">{row.pages:,}'
            f'<td class="n">{100 * row.share:.2f} %<td class="n">{row.left:,}'
        )
        step = row.step
    head = "<tr><th>step<th>reason<th>pages<th>share of all<th>left"
    return f"<table>{head}{''.join(lines)}</table>"


def reject_samples(folder: Path) -> Iterator[str]:
    """Yield the first rejects of each reason in the funnel's order, folded; text of pages is escaped."""
    dropped = {(row.step, row.reason): row.pages for row in rows(read_funnel(folder)) if row.pages}
    samples = _first_of_each(folder / "rejects", dropped)
    if not samples:
        return
    yield "<h3>Examples of dropped pages</h3><small>personal data is masked</small>"
    for key, found in samples.items():
        yield f"<details><summary>{escape(': '.join(key))} ({dropped[key]:,})</summary><table>"
        yield "<tr><th>page<th>measured value<th>beginning of its text"
        for row in found:
            value = "" if row["value"] is None else f"{row['value']:.4g}"
            measured = ", ".join(part for part in (value, row["detail"] or "") if part)
            yield f"<tr><td>{escape(row['url'])}<td>{escape(measured)}<td>{escape(row.get('snippet') or '')}"
        yield "</table></details>"


def _first_of_each(rejects: Path, dropped: dict[tuple[str, str], int]) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """Up to SAMPLES rows of each step and reason; reads on only until it has them."""
    import pyarrow.parquet as pq

    samples: dict[tuple[str, str], list[dict[str, Any]]] = {key: [] for key in dropped}
    missing = Counter({key: min(SAMPLES, pages) for key, pages in dropped.items()})
    columns = ["url", "step", "reason", "value", "detail", "snippet"]
    for file in sorted(rejects.glob("*.parquet")):
        for batch in pq.ParquetFile(file).iter_batches(BATCH, columns=columns):
            for row in batch.to_pylist():
                key = row["step"], row["reason"]
                if missing[key] > 0:
                    samples[key].append(row)
                    missing[key] -= 1
            if not +missing:
                return samples
    return {key: found for key, found in samples.items() if found}
