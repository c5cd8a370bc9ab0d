"""A stage's figures as a table in the terminal."""

from rich.console import Console
from rich.table import Table

from crawl2chat.run import Manifest, source_hash


def print_stage(manifest: Manifest, ran: bool) -> None:
    """Print a finished stage: its figures, each with its 95 % interval and count, and how long it took."""
    how = f"{manifest.seconds:.1f} s" if ran else f"unchanged, took {manifest.seconds:.1f} s on {manifest.started[:10]}"
    if manifest.code["source"] != source_hash():
        how += f", by other code than this; --from {manifest.stage} runs it anew"
    table = Table(min_width=72, box=None, pad_edge=False)
    table.add_column("figure")
    table.add_column("value [95 % interval]", justify="right")
    table.add_column("of", justify="right")
    for figure in manifest.figure_list():
        table.add_row(figure.name.replace("_", " "), str(figure), f"{figure.count:,}" if figure.count else "")
    console = Console(width=120, highlight=False)
    console.print(f"[bold]{manifest.stage}[/bold]  ({how})")
    console.print(table, "")
