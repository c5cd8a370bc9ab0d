"""Lines from a person at a terminal, with editing, history and completion, or from a pipe, without prompts."""

import os
import select
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from crawl2chat.stages.interrupts import Terminated

if TYPE_CHECKING:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.completion import CompleteEvent, Completer
    from prompt_toolkit.key_binding import KeyBindings

QUOTES = '"""'  # alone on a line: begins and ends a text of several lines
FILE = "FILE"  # among the completions of a command: names of files


class Typed(NamedTuple):
    """A message, or a command if it begins with a slash and is not a block."""

    text: str
    is_block: bool

    @property
    def is_command(self) -> bool:
        return self.text.startswith("/") and not self.is_block


class LineInput:
    """Reads messages from the terminal or a pipe, or with the function `read`, which is given the prompt."""

    def __init__(
        self, read: Callable[[str], str] | None = None, completions: Mapping[str, Sequence[str]] | None = None
    ) -> None:
        """completions: per command what may follow it, for the Tab key."""
        self.interactive = read is not None or (sys.stdin.isatty() and sys.stdout.isatty())
        self._session: PromptSession[str] | None = None
        if read is None and self.interactive and os.environ.get("TERM", "dumb").lower() not in ("dumb", "unknown"):
            self._session = _prompt_session(completions or {})
            read = self._session.prompt
        self._read = read or (_read_plainly if self.interactive else _read_pipe)
        if read is None and hasattr(sys.stdin, "reconfigure"):
            # bytes that are not text are not worth a traceback, and a byte order mark is not a part of the message
            sys.stdin.reconfigure(encoding="utf-8-sig", errors="replace")

    def message(self) -> Typed:
        """One line; more if it ends with a backslash, or all between two lines of three quotes.

        Raises EOFError at the end of input and KeyboardInterrupt when Ctrl-C threw away what was typed.
        """
        text = self._read("you> ")
        try:
            while _in_block(text):
                text += "\n" + self._read("...> ")
            while text.endswith("\\") and not _is_block(text):
                text = text[:-1]
                text += "\n" + self._read("...> ")
        except EOFError:  # ends the message, and at the next call the chat
            pass
        if not _is_block(text):
            return Typed(text, is_block=False)
        lines = text.split("\n")[1:]
        return Typed("\n".join(lines if _in_block(text) else lines[:-1]), is_block=True)

    def line(self, prompt: str) -> str:
        """One line. Raises EOFError at the end of input and KeyboardInterrupt on Ctrl-C."""
        return self._read(prompt)

    def edited(self, text: str) -> str | None:
        """The text after the person has edited it in place; empty if given up, None if there is no way to edit."""
        if self._session is None:
            return None
        try:
            return self._session.prompt("edit> ", default=text)
        except Terminated:
            raise
        except (EOFError, KeyboardInterrupt):
            return ""


def _is_block(text: str) -> bool:
    return text.split("\n", 1)[0].strip() == QUOTES


def _in_block(text: str) -> bool:
    """Whether the text is a block that has not ended."""
    lines = text.split("\n")
    return _is_block(text) and (len(lines) == 1 or lines[-1].strip() != QUOTES)


def _read_plainly(prompt: str) -> str:
    """From a terminal that can't move its cursor.

    A signal that comes between the prompt and a plain read would be heard only after the next key. It is not lost
    here, because it also writes to a pipe that is waited for.
    """
    print(prompt, end="", flush=True)
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    before = signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    try:
        while sys.stdin not in select.select([sys.stdin, woken], [], [])[0]:
            os.read(woken, 1)  # Python's own handler runs before the next line, and raises
        line = sys.stdin.readline()
    except KeyboardInterrupt:
        print()
        raise
    finally:
        signal.set_wakeup_fd(before)
        os.close(woken)
        os.close(wake)
    if not line:
        print()
        raise EOFError
    return line.removesuffix("\n")


def _read_pipe(prompt: str) -> str:
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line.removesuffix("\n")


def _prompt_session(completions: Mapping[str, Sequence[str]]) -> "PromptSession[str]":
    """A prompt whose history lasts as long as the chat. Ctrl-C is a key to it, so none is lost while it draws."""
    from prompt_toolkit import PromptSession
    from prompt_toolkit.output.vt100 import Vt100_Output
    from prompt_toolkit.shortcuts import CompleteStyle

    output = Vt100_Output.from_pty(sys.stdout, term=os.environ.get("TERM"))
    output.enable_cpr = False  # a terminal that does not answer the question where its cursor is would get a warning
    return PromptSession(
        multiline=True,
        key_bindings=_keys(),
        prompt_continuation="...> ",
        completer=_completer(completions),
        complete_style=CompleteStyle.READLINE_LIKE,  # without a menu, for which lines would be kept free
        complete_while_typing=False,
        enable_suspend=True,
        output=output,
    )


def _keys() -> "KeyBindings":
    from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

    keys = KeyBindings()

    @keys.add("enter")
    def _(event: KeyPressEvent) -> None:
        """Ends the message, unless it is a block that is open or its last line ends with a backslash."""
        buffer = event.current_buffer
        if _in_block(buffer.text):
            buffer.insert_text("\n")
        elif buffer.text.endswith("\\") and not _is_block(buffer.text):
            buffer.text = buffer.text[:-1]
            buffer.cursor_position = len(buffer.text)
            buffer.insert_text("\n")
        else:
            buffer.validate_and_handle()

    @keys.add("escape", "enter")
    def _(event: KeyPressEvent) -> None:
        """Alt-Enter begins another line."""
        event.current_buffer.insert_text("\n")

    return keys


def _completer(completions: Mapping[str, Sequence[str]]) -> "Completer":
    from prompt_toolkit.completion import Completer, Completion, PathCompleter
    from prompt_toolkit.document import Document

    class Commands(Completer):
        """Of a line that begins with a slash: the command, then what may follow it."""

        def get_completions(self, document: Document, event: "CompleteEvent") -> Iterator[Completion]:
            typed = document.text_before_cursor
            command, space, argument = typed.partition(" ")
            if not typed.startswith("/") or "\n" in typed:
                return
            if FILE in completions.get(command, ()) and space:
                yield from PathCompleter(expanduser=True).get_completions(Document(argument), event)
                return
            for choice in completions.get(command, ()) if space else completions:
                if choice.startswith(argument if space else command):
                    yield Completion(choice + " ", start_position=-len(argument if space else command))

    return Commands()
