"""Talk to a model in the terminal."""

from collections.abc import Callable

from crawl2chat.chat.dialogue import Dialogue
from crawl2chat.chat.line_input import LineInput
from crawl2chat.chat.slash_commands import COMPLETIONS, SHORT_HELP, run_command
from crawl2chat.chat.talk import Talk
from crawl2chat.stages.interrupts import Terminated


def chat(talk: Talk, *, read: Callable[[str], str] | None = None, system: str | None = None) -> None:
    """Hold a conversation until /quit or the end of input; answers appear as they are made.

    Ctrl-C ends an answer; at the prompt it throws the line away, and a second one leaves. From a pipe each line is a
    message, and only answers go to stdout. read: a function to read lines with in place of the terminal.
    """
    lines = LineInput(read, COMPLETIONS)
    dialogue = Dialogue(talk, system=system, interactive=lines.interactive)
    if lines.interactive:
        dialogue.remark(SHORT_HELP)
    leaves_next = not lines.interactive
    while True:
        try:
            typed = lines.message()
        except EOFError:
            return
        except Terminated:
            raise
        except KeyboardInterrupt:
            if leaves_next:
                return
            leaves_next = True
            dialogue.remark("Ctrl-C again or Ctrl-D leaves")
            continue
        leaves_next = not lines.interactive
        if typed.is_command:
            if not run_command(dialogue, lines, typed.text):
                return
        elif typed.text.strip():
            dialogue.ask(typed.text.strip())
