"""A stage's figures as a table in the terminal."""

from pathlib import Path

from rich.console import Console
from rich.table import Table

from crawl2chat.refine.funnel import IN_FUNNEL, read_funnel, rows
from crawl2chat.stages.stage import Manifest, source_hash


def print_stage(folder: Path, manifest: Manifest, ran: bool) -> None:
    """Print a finished stage: its figures, each with its 95 % interval and count, and how long it took.

    folder: the stage's. For refine, the funnel comes first: what each step dropped, and why.
    """
    how = f"{manifest.seconds:.1f} s" if ran else f"unchanged, took {manifest.seconds:.1f} s on {manifest.started[:10]}"
    if manifest.code["source"] != source_hash():
        how += f", by another version of the code; `crawl2chat run --from {manifest.stage}` runs it again"
    table = Table(min_width=72, box=None, pad_edge=False)
    table.add_column("figure")
    table.add_column("value [95 % interval]", justify="right")
    table.add_column("of", justify="right")
    for figure in manifest.figure_list():
        if figure.name.startswith(IN_FUNNEL):
            continue
        table.add_row(figure.name.replace("_", " "), str(figure), f"{figure.count:,}" if figure.count else "")
    console = Console(width=120, highlight=False)
    console.print(f"[bold]{manifest.stage}[/bold]  ({how})")
    if manifest.stage == "refine":
        console.print(funnel_table(folder), "")
    console.print(table, "")


def funnel_table(folder: Path) -> Table:
    """Return a table of what each step of refining dropped, why, and what was left."""
    table = Table(min_width=72, box=None, pad_edge=False)
    for name in ("step", "reason"):
        table.add_column(name)
    for name in ("pages", "share of all", "left"):
        table.add_column(name, justify="right")
    funnel = read_funnel(folder)
    table.add_row("crawled", "", "", "", f"{funnel['pages'] + funnel['faults']:,}")
    step = ""
    for row in rows(funnel):
        first = row.step if row.step != step else ""
        table.add_row(first, row.reason, f"{row.pages:,}", f"{100 * row.share:.2f} %", f"{row.left:,}")
        step = row.step
    return table
