"""A stage's figures as a table in the terminal."""

from pathlib import Path

from rich.console import Console
from rich.table import Table

from crawl2chat.refine.funnel import IN_FUNNEL
from crawl2chat.report.tables import FUNNEL_COLUMNS, funnel_rows
from crawl2chat.stages.figures import figure_table
from crawl2chat.stages.stage import Manifest, source_hash


def print_stage(folder: Path, manifest: Manifest, ran: bool) -> None:
    """Print a finished stage: its figures, each with its 95 % interval and count, and how long it took.

    folder: the stage's. For refine, the funnel comes first: what each step dropped, and why.
    """
    how = f"{manifest.seconds:.1f} s" if ran else f"unchanged, took {manifest.seconds:.1f} s on {manifest.started[:10]}"
    if manifest.code["source"] != source_hash():
        how += f", by another version of the code; `crawl2chat run --from {manifest.stage}` runs it again"
    figures = [figure for figure in manifest.figure_list() if not figure.name.startswith(IN_FUNNEL)]
    console = Console(width=120, highlight=False)
    console.print(f"[bold]{manifest.stage}[/bold]  ({how})")
    if manifest.stage == "refine":
        console.print(funnel_table(folder), "")
    console.print(figure_table(figures), "")


def funnel_table(folder: Path) -> Table:
    """Return a table of what each step of refining dropped, why, and what was left."""
    table = Table(min_width=72, box=None, pad_edge=False)
    for i, name in enumerate(FUNNEL_COLUMNS):
        table.add_column(name, justify="right" if i > 1 else "left")
    for row in funnel_rows(folder):
        table.add_row(*row)
    return table
