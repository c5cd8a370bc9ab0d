"""Texts cut into tokens, in the terminal: several encodings one below the other, and the merges of a text."""

from collections.abc import Mapping
from itertools import pairwise

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from crawl2chat.tokenizer.encoding import Encoding
from crawl2chat.tokenizer.inspection import Cut, Merge, cut, replay, visible

COLOURS = ("black on bright_cyan", "black on bright_yellow", "black on bright_green", "black on bright_magenta")
PIPED_WIDTH = 100
BAR = 24  # characters of the longest bar


def print_cuts(console: Console, text: str, encodings: Mapping[str, Encoding]) -> None:
    """For each encoding its tokens with their ids below them, and at the end how many each needs."""
    cuts = {name: cut(encoding, text) for name, encoding in encodings.items()}
    for name, seen in cuts.items():
        if len(cuts) > 1:
            console.print(Text(name, "bold"))
        _print_tokens(console, seen)
        console.print()
    if len(cuts) == 1:
        (seen,) = cuts.values()
        console.print(f"{_tokens(seen)}, {seen.bytes_per_token:.2f} bytes per token")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("encoding")
    for column in ("tokens", "bytes per token"):
        table.add_column(column, justify="right")
    table.add_column("")
    most = max(1, *(len(seen.ids) for seen in cuts.values()))
    for name, seen in cuts.items():
        bar = "█" * round(BAR * len(seen.ids) / most)
        table.add_row(Text(name), f"{len(seen.ids):,}", f"{seen.bytes_per_token:.2f}", bar)
    console.print(table)


def print_merges(console: Console, text: str, encodings: Mapping[str, Encoding]) -> None:
    """For each encoding the merges from bytes to tokens, each with its rank and what the text is then."""
    for name, encoding in encodings.items():
        seen = cut(encoding, text)
        merges = replay(encoding, seen)
        console.print(Text(f"{name}: {len(seen.content)} bytes, {len(merges)} merges, {_tokens(seen)}", "bold"))
        borders = set(range(len(seen.content) + 1))
        _print_step(console, seen, borders, None)
        for merge in merges:
            borders -= set(range(merge.begin + 1, merge.end))
            _print_step(console, seen, borders, merge)
        console.print()


def _print_step(console: Console, seen: Cut, borders: set[int], merge: Merge | None) -> None:
    """The rank of the merge, which is the id of what it makes, and the text after it; whole lines where it is piped."""
    line = Text("bytes   " if merge is None else f"{merge.rank:<7} ")
    for i, (begin, end) in enumerate(pairwise(sorted(borders))):
        new = merge is not None and merge.begin == begin
        line.append("│" if i else "")
        line.append(visible(seen.content[begin:end]), "bold reverse" if new else "")
    if merge is not None and merge.middle is None:
        line.append("  (a whole piece that is a token)")
    console.print(line, soft_wrap=not console.is_terminal)


def _print_tokens(console: Console, seen: Cut) -> None:
    """Rows of tokens, with the ids in the row below; where it is piped, without colours."""
    width = console.width if console.is_terminal else PIPED_WIDTH
    above, below, used = Text(), Text(), 0
    for i, (id, token) in enumerate(zip(seen.ids.tolist(), seen.tokens(), strict=True)):
        shown, number = visible(token), str(id)
        size = max(cell_len(shown), len(number))
        if used and used + 1 + size > width:
            _print_rows(console, above, below)
            above, below, used = Text(), Text(), 0
        if used:
            above.append("│")
            below.append(" ")
        above.append(shown, COLOURS[i % len(COLOURS)])
        above.append(" " * (size - cell_len(shown)))
        below.append(number.ljust(size), "dim")
        used += size + bool(used)
    if used:
        _print_rows(console, above, below)


def _print_rows(console: Console, above: Text, below: Text) -> None:
    for row in (above, below):
        row.rstrip()
        console.print(row, soft_wrap=True)


def _tokens(seen: Cut) -> str:
    return f"{len(seen.ids):,} token{'s' * (len(seen.ids) != 1)}"
