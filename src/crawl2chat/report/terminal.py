"""A stage's figures, and a whole run's in sentences, in the terminal."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from crawl2chat.refine.funnel import IN_FUNNEL
from crawl2chat.report.captions import key_figures
from crawl2chat.report.sentences import summary
from crawl2chat.report.tables import FUNNEL_COLUMNS, funnel_rows
from crawl2chat.stages.figures import figure_table
from crawl2chat.stages.stage import Manifest, source_hash


def print_stage(folder: Path, manifest: Manifest, ran: bool | None, *, everything: bool = False) -> None:
    """Print a finished stage: the figures that matter most, each with its 95 % interval and count, and its time.

    folder: the stage's. For refine, the funnel comes first: what each step dropped, and why.
    ran: False for a stage that was skipped, of which one line is printed; None for one that is only looked at.
    everything: print all figures, of a skipped stage, too.
    """
    how = f"{manifest.seconds:.1f} s" if ran else f"took {manifest.seconds:.1f} s on {manifest.started[:10]}"
    if ran is False:
        how = f"unchanged, {how}"
    if manifest.code["source"] != source_hash():
        how += f", by another version of the code; `crawl2chat run --from {manifest.stage}` runs it again"
    console = Console(width=120, highlight=False)
    console.print(f"[bold]{manifest.stage}[/bold]  ({how})", soft_wrap=True)
    if ran is False and not everything:
        return
    figures = [figure for figure in manifest.figure_list() if not figure.name.startswith(IN_FUNNEL)]
    if manifest.stage == "refine":
        console.print(funnel_table(folder), "")
    shown = figures if everything else key_figures(manifest.stage, figures)
    console.print(figure_table(shown))
    more = len(figures) - len(shown)
    console.print(f"and {more} more (--all)\n" if more else "")


def funnel_table(folder: Path) -> Table:
    """Return a table of what each step of refining dropped, why, and what was left."""
    table = Table(min_width=72, box=None, pad_edge=False)
    for i, name in enumerate(FUNNEL_COLUMNS):
        table.add_column(name, justify="right" if i > 1 else "left")
    for row in funnel_rows(folder):
        table.add_row(*row)
    return table


def print_run(run: Path, manifests: Sequence[Manifest]) -> None:
    """Print what a run measured, a sentence for each stage, and what can be done with it now."""
    console = Console(width=120, highlight=False)
    table = Table("stage", "what this run measured", box=None, pad_edge=False)
    for _, title, said in summary(manifests):
        sentence = Text()
        for part in said:
            sentence.append(part.text, "bold" if part.is_value else "")
            sentence.append(f" {part.interval}" if part.interval else "")
        table.add_row(title.partition(":")[0], sentence)
    console.print(table, "")
    commands = list(_next_commands(run, {manifest.stage for manifest in manifests}))
    width = max((len(command) for command, _ in commands), default=0)
    for command, what in commands:
        console.print(f"{command:{width}}  # {what}", soft_wrap=True, markup=False)


def _next_commands(run: Path, stages: set[str]) -> Iterator[tuple[str, str]]:
    if stages & {"sft", "honesty", "reinforce", "prefer"}:
        yield f"crawl2chat chat {run}", "talk to it"
    elif stages & {"pretrain", "import"}:
        yield f"crawl2chat generate {run} 'Once upon a time'", "have it go on with a text"
    if stages & {"pretrain", "import"}:
        yield f"crawl2chat app {run}", "look into it, in a browser"
        yield f"crawl2chat export {run} --out release", "for transformers; with --gguf for llama.cpp"
