"""Lines from a person at a terminal, with editing and history, or from a pipe, without prompts."""

import sys
from collections.abc import Callable
from types import ModuleType
from typing import NamedTuple

QUOTES = '"""'  # alone on a line: begins and ends a text of several lines


class Typed(NamedTuple):
    """A message, or a command if it begins with a slash and is no block."""

    text: str
    is_block: bool

    @property
    def is_command(self) -> bool:
        return self.text.startswith("/") and not self.is_block


class LineInput:
    """Reads messages. `read` stands in for a person at a terminal; without it stdin is what it is."""

    def __init__(self, read: Callable[[str], str] | None = None) -> None:
        self.interactive = read is not None or (sys.stdin.isatty() and sys.stdout.isatty())
        self.readline = _import_readline() if read is None and self.interactive else None
        self._read = read or (input if self.interactive else _read_pipe)
        if read is None and hasattr(sys.stdin, "reconfigure"):
            # bytes that are not text are not worth a traceback, and a byte order mark is not a part of the message
            sys.stdin.reconfigure(encoding="utf-8-sig", errors="replace")

    def message(self) -> Typed:
        """One line; more if it ends with a backslash, or all between two lines of three quotes.

        Raises EOFError at the end of input and KeyboardInterrupt when Ctrl-C threw away what was typed.
        """
        line = self._read("you> ")
        is_block = line.strip() == QUOTES
        lines = [] if is_block else [line]
        try:
            if is_block:
                while (line := self._read("...> ")).strip() != QUOTES:
                    lines.append(line)
            else:
                while lines[-1].endswith("\\"):
                    lines[-1] = lines[-1][:-1]
                    lines.append(self._read("...> "))
        except EOFError:  # ends the message, and at the next call the chat
            pass
        return Typed("\n".join(lines), is_block)

    def edited(self, text: str) -> str | None:
        """The text after the person has edited it in place; empty if given up, None where there is no way to edit."""
        if self.readline is None:
            return None
        readline = self.readline
        readline.set_startup_hook(lambda: readline.insert_text(text))
        try:
            return self._read("edit> ")
        except (EOFError, KeyboardInterrupt):
            print()
            return ""
        finally:
            readline.set_startup_hook(None)


def _read_pipe(prompt: str) -> str:
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line.removesuffix("\n")


def _import_readline() -> ModuleType | None:
    """Arrow keys and history for `input`, which takes them from the module once it is imported."""
    try:
        import readline
    except ImportError:
        return None
    return readline
