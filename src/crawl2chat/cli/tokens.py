"""The command that shows how texts are cut into tokens."""

import argparse
import re
from collections.abc import Callable
from pathlib import Path

from crawl2chat.cli.run import read_stdin, text_of

EVERYBODYS = ("gpt2", "gpt4", "gpt4o")  # tokens.public has more about them
NAME = re.compile(r"[A-Za-z0-9][\w.+-]{0,39}", re.ASCII)


def add_tokens(add: Callable[..., argparse.ArgumentParser]) -> None:
    tokens = add("tokens", "show how texts are cut into tokens, by several encodings side by side", tokens_command)
    tokens.usage = "crawl2chat tokens [-h] [--with ENCODING] [--merges] [RUN] TEXT"
    tokens.add_argument(
        "words", nargs="+", metavar="[RUN] TEXT", help="RUN is the same as --with RUN; - for TEXT is all of stdin"
    )
    tokens.add_argument(
        "--with", dest="encodings", action="append", default=[], metavar="ENCODING",
        help="gpt2, gpt4, gpt4o, a run's folder, a folder or file with a tokenizer.json, or NAME=PATH of these; "
        "repeatable (gpt2, gpt4 and gpt4o)",
    )  # fmt: skip
    tokens.add_argument("--merges", action="store_true", help="replay the merges that make the tokens of bytes")


def tokens_command(options: argparse.Namespace) -> int:
    from rich.console import Console

    from crawl2chat.stages.files import StageError
    from crawl2chat.tokenizer.library import open_encoding
    from crawl2chat.tokenizer.terminal import print_cuts, print_merges

    *run, text = options.words
    if len(run) > 1:
        raise StageError(f"tokens: expected one TEXT, or RUN TEXT, not {len(options.words)} arguments; quote the text")
    places = [*run, *options.encodings] or list(EVERYBODYS)
    named = dict(map(_named, places))
    encodings = {name: open_encoding(place) for name, place in named.items()}
    text = read_stdin("tokens") if text == "-" else text_of("tokens", text)
    (print_merges if options.merges else print_cuts)(Console(highlight=False), text, encodings)
    return 0


def _named(given: str) -> tuple[str, str]:
    """What an encoding is called, and where it is; a tilde that the shell left is the home folder."""
    name, equals, path = given.partition("=")
    if not (equals and NAME.fullmatch(name)):
        name = path = given
    return name, path if path in EVERYBODYS else str(Path(path).expanduser())


def named_tokenizer(text: str) -> tuple[str, Path]:
    """A type for argparse: NAME=PATH of an encoding that is shown in addition to others."""
    name, equals, path = text.partition("=")
    if not (equals and path and NAME.fullmatch(name)) or name in (*EVERYBODYS, "run"):
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected NAME=PATH, a path to a tokenizer.json or a folder with one, and a name of letters, "
            f"digits, '.', '_', '+' and '-' other than run, {', '.join(EVERYBODYS)}"
        )
    return name, Path(path).expanduser()
