"""Tables of the report in HTML, and the funnel's rows, which the terminal shows, too."""

from collections.abc import Collection, Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

from crawl2chat.refine.funnel import read_funnel, rows
from crawl2chat.report.names import readable_name
from crawl2chat.stages.figures import COLUMNS, Figure
from crawl2chat.stages.files import read_jsonl

FUNNEL_COLUMNS = ("step", "reason", "pages", "share of all", "left")


def html_table(head: Sequence[str], body: Iterable[Sequence[object]], numbers: Collection[int] = ()) -> str:
    """Return a table of escaped text; numbers: places of the columns to align to the right.

    Where the page is too narrow for it, it scrolls by itself.
    """
    lines = ["".join(f'<th scope="col">{escape(name)}' for name in head)] if head else []
    for row in body:
        kinds = (' class="n"' if i in numbers else "" for i in range(len(row)))
        lines.append("".join(f"<td{kind}>{escape(str(cell))}" for kind, cell in zip(kinds, row, strict=True)))
    return wide(f"<table>{''.join(f'<tr>{line}' for line in lines)}</table>")


def wide(content: str) -> str:
    """Return content in a box that scrolls sideways by itself."""
    return f'<div class="wide">{content}</div>'


def folded(summary: str, content: str) -> str:
    return f"<details><summary>{escape(summary)}</summary>{content}</details>"


def plot(title: str, svg: str, sentence: str = "") -> str:
    """Return a plot with its title above it and a sentence on how to read it below."""
    below = f"<p>{escape(sentence)}</p>" if sentence else ""
    drawn = svg.replace("<svg", f'<svg role="img" aria-label="{escape(title)}"', 1)
    return f"<figure><figcaption>{escape(title)}</figcaption>{drawn}{below}</figure>"


def html_figures(figures: Sequence[Figure]) -> str:
    """Return all figures under readable names, with those that they have in the manifest."""
    rows = ((readable_name(figure.name), *figure.cells()[1:], figure.name) for figure in figures)
    return html_table((*COLUMNS, "name in manifest.json"), rows, numbers=(1, 2))


def funnel_rows(folder: Path) -> list[tuple[str, ...]]:
    """Return what each step of a refine stage dropped, why, and what was left, with the columns FUNNEL_COLUMNS."""
    funnel = read_funnel(folder)
    table: list[tuple[str, ...]] = [("crawled", "", "", "", f"{funnel['pages'] + funnel['faults']:,}")]
    step = ""
    for row in rows(funnel):
        first = row.step if row.step != step else ""
        table.append((first, row.reason, f"{row.pages:,}", f"{100 * row.share:.2f} %", f"{row.left:,}"))
        step = row.step
    return table


def rows_of(file: Path) -> list[dict[str, Any]]:
    """Return the rows of a stage's JSON lines; none if the stage wrote no such file."""
    return read_jsonl(file) if file.exists() else []
