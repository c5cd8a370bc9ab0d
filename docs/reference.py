"""Write docs/reference/cli.md and settings.md, or check that they are up to date: python docs/reference.py [--check]

Commands and options come from the parser itself and settings from the recipe's types, so nothing is listed twice.
With --check nothing is written: the difference is printed, and the exit status is 1 if there is one.
"""

import argparse
import contextlib
import difflib
import io
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

from crawl2chat.cli.main import main as crawl2chat
from crawl2chat.stages.pipeline import Recipe
from crawl2chat.stages.settings import SettingHelp, describe_settings

FOLDER = Path(__file__).parent / "reference"
NOTE = "<!-- Written by `python docs/reference.py`; change the help texts instead. -->"


def parser_that_helps(*arguments: str) -> argparse.ArgumentParser:
    """Return the parser whose `--help` these arguments ask for, as the command line builds it."""
    found: list[argparse.ArgumentParser] = []

    def remember(self: argparse.Action, parser: argparse.ArgumentParser, *_: object) -> None:
        found.append(parser)
        parser.exit()

    quiet = contextlib.redirect_stdout(io.StringIO())
    with mock.patch.object(argparse._HelpAction, "__call__", remember), quiet, contextlib.suppress(SystemExit):
        crawl2chat([*arguments, "--help"])
    return found[0]


def subcommands(parser: argparse.ArgumentParser) -> list[str]:
    (action,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    return list(action.choices)


def cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def usage(action: argparse.Action) -> str:
    """Return `--out DIR` or `RECIPE`, with the optional and repeated parts marked as in a usage line."""
    value = action.metavar or (action.dest.upper() if action.option_strings else action.dest)
    if action.choices is not None and not action.metavar:
        value = "{" + ",".join(map(str, action.choices)) + "}"
    value = str(value if isinstance(value, str) else value[0])
    many = {"?": f"[{value}]", "*": f"[{value} …]", "+": f"{value} …", None: value, 0: ""}
    value = many.get(action.nargs, " ".join([value] * action.nargs) if isinstance(action.nargs, int) else value)
    return ", ".join(f"{option} {value}".strip() for option in action.option_strings) or value


def command(name: str) -> Iterator[str]:
    parser = parser_that_helps(name)
    yield f"## {name}"
    yield ""
    yield cell(parser.description or "")
    epilog = (parser.epilog or "").strip()
    if epilog and parser.formatter_class is argparse.RawDescriptionHelpFormatter:
        yield from ("", "```", *epilog.splitlines(), "```")
    elif epilog:
        yield from ("", cell(epilog))
    for group in parser._action_groups:
        actions = [a for a in group._group_actions if a.help != argparse.SUPPRESS and a.dest != "help"]
        if not actions:
            continue
        yield ""
        yield f"| {group.title or 'options'} | |"
        yield "|---|---|"
        for action in actions:
            text = parser._get_formatter()._expand_help(action) if action.help else ""
            text += " (required)" if action.option_strings and action.required else ""
            yield f"| `{cell(usage(action))}` | {cell(text)} |"
    yield ""


def commands() -> Iterator[str]:
    yield from ("# Commands", "", NOTE, "", "`crawl2chat COMMAND --help` prints the same in the terminal.")
    yield "Settings, which have a dot in their name, are in [settings.md](settings.md)."
    yield ""
    for name in subcommands(parser_that_helps()):
        yield from command(name)


def row(setting: SettingHelp) -> str:
    kind = ", ".join(part for part in (setting.kind, setting.bounds) if part)
    default = f"`{setting.default}`" if setting.default else ""
    return f"| `{setting.name}` | {cell(kind)} | {cell(default)} | {cell(setting.help)} |"


def settings() -> Iterator[str]:
    yield from ("# Settings", "", NOTE, "")
    yield "A recipe is a TOML file with one table per stage."
    yield "Each setting can also be given on the command line: `--pretrain.depth 6`."
    yield "An empty default means that the setting is optional."
    head = ("", "| setting | type and bounds | default | meaning |", "|---|---|---|---|")
    by_table: dict[str, list[str]] = {}
    for setting in describe_settings(Recipe):
        table, dot, _ = setting.name.partition(".")
        by_table.setdefault(table if dot else "The run", []).append(row(setting))
    for title, table_rows in by_table.items():
        kind = Recipe.model_fields[title].annotation if title in Recipe.model_fields else None
        described = cell((kind.__doc__ or "").split("\n\n")[0]) if kind else ""
        yield from ("", f"## {title}", *(("", described) if described else ()), *head, *table_rows)


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--check", action="store_true", help="print the difference and write nothing")
    check = options.parse_args().check
    stale = False
    for file, lines in ((FOLDER / "cli.md", commands()), (FOLDER / "settings.md", settings())):
        text = "\n".join(lines).rstrip() + "\n"
        if not check:
            file.parent.mkdir(exist_ok=True)
            file.write_text(text, encoding="utf-8")
            continue
        before = file.read_text(encoding="utf-8") if file.exists() else ""
        difference = list(difflib.unified_diff(before.splitlines(), text.splitlines(), str(file), "now", lineterm=""))
        print("\n".join(difference), end="\n" if difference else "")
        stale = stale or bool(difference)
    if stale:
        print("the reference is out of date: run `python docs/reference.py`", file=sys.stderr)
    return int(stale)


if __name__ == "__main__":
    sys.exit(main())
