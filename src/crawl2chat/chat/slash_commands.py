"""What a person can do in a chat besides asking: lines that begin with a slash."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from crawl2chat.chat.dialogue import Dialogue
from crawl2chat.chat.line_input import FILE, QUOTES, LineInput
from crawl2chat.chat.saved import change, describe, load_chat, save_chat
from crawl2chat.generate.settings import CONTROLS
from crawl2chat.stages.files import StageError

LEAVING = ("/quit", "/exit")
REMOVED = '""'  # typed for a text, takes it away
SHORT_HELP = "/help lists the commands · Ctrl-C ends an answer · /quit leaves"


class Command(NamedTuple):
    """How it is typed, what it does, and the function that gets what follows its name."""

    usage: str
    help: str
    run: Callable[[Dialogue, LineInput, str], None]


def run_command(dialogue: Dialogue, lines: LineInput, line: str) -> bool:
    """Carry out a line such as `/set top_p 0.9`; returns whether the chat goes on. What is wrong with it is said."""
    name, _, argument = line.partition(" ")
    if name in LEAVING:
        return False
    try:
        if name not in COMMANDS:
            raise ValueError(f"{name}: no such command. {SHORT_HELP}; a space before the slash makes it a message")
        COMMANDS[name].run(dialogue, lines, argument.strip())
    except (StageError, ValueError) as error:
        dialogue.remark(str(error))
    return True


def _help(dialogue: Dialogue, lines: LineInput, argument: str) -> None:
    for command in COMMANDS.values():
        print(f"{command.usage:<18} {command.help}")
    print(f"{LEAVING[0]:<18} leaves, as Ctrl-D does")
    print(
        "Ctrl-C ends an answer. Tab completes commands, the up arrow brings back earlier lines. For a text of several "
        f"lines end a line with \\, press Alt-Enter, or begin and end the text with a line of {QUOTES}."
    )


def _reset(dialogue: Dialogue, lines: LineInput, argument: str) -> None:
    dialogue.begin([])
    dialogue.remark("forgotten; the system message and the settings stay")


def _system(dialogue: Dialogue, lines: LineInput, argument: str) -> None:
    if argument:
        dialogue.system = None if argument == REMOVED else argument
    print(dialogue.system or "no system message")


def _retry(dialogue: Dialogue, lines: LineInput, argument: str) -> None:
    _question(dialogue)
    dialogue.retry()


def _edit(dialogue: Dialogue, lines: LineInput, argument: str) -> None:
    edited = argument or lines.edited(_question(dialogue))
    if edited is None:
        raise ValueError("editing in place needs a terminal that can move its cursor; /edit TEXT replaces the question")
    if _question(dialogue) and edited.strip():
        dialogue.edit(edited.strip())


def _set(dialogue: Dialogue, lines: LineInput, argument: str) -> None:
    name, _, value = argument.partition(" ")
    value = value.strip()
    if name and name not in CONTROLS:
        raise ValueError(f"{name}: no such setting; there are {', '.join(CONTROLS)}")
    if value:
        dialogue.talk.sampling = change(dialogue.talk.sampling, {name: "" if value == REMOVED else value})
    now = describe(dialogue.talk.sampling)
    for shown in [name] if name else CONTROLS:
        print(f"{shown} = {json.dumps(now[shown], ensure_ascii=False)}")


def _save(dialogue: Dialogue, lines: LineInput, argument: str) -> None:
    if not argument:
        raise ValueError("/save FILE: name a file")
    if not dialogue.answered:
        raise ValueError("nothing was said yet, so there is nothing to save")
    file = Path(argument).expanduser()
    save_chat(file, dialogue.opening, dialogue.answered, dialogue.system, dialogue.talk.sampling)
    dialogue.remark(f"{len(dialogue.answered)} messages in {file}")


def _load(dialogue: Dialogue, lines: LineInput, argument: str) -> None:
    if not argument:
        raise ValueError("/load FILE: name a file that /save wrote")
    saved = load_chat(Path(argument).expanduser())
    dialogue.begin(saved.messages)
    dialogue.system = saved.system
    dialogue.talk.sampling = saved.sampling or dialogue.talk.sampling
    settings = "and settings " if saved.sampling else ""
    system = f"; system message: {saved.system}" if saved.system else ""
    dialogue.remark(f"{len(saved.messages)} messages {settings}from {argument}{system}")


def _stats(dialogue: Dialogue, lines: LineInput, argument: str) -> None:
    dialogue.shows_stats = not dialogue.shows_stats
    dialogue.remark(f"tokens and times are {'shown' if dialogue.shows_stats else 'no longer shown'} after each answer")


def _question(dialogue: Dialogue) -> str:
    if dialogue.question is None:
        raise ValueError("nothing was asked yet")
    return dialogue.question


COMMANDS = {
    "/help": Command("/help", "shows this", _help),
    "/reset": Command("/reset", "forgets the conversation", _reset),
    "/system": Command("/system [TEXT]", f"shows or sets the system message; {REMOVED} removes it", _system),
    "/retry": Command("/retry", "answers the last question again, with another seed", _retry),
    "/edit": Command("/edit [TEXT]", "edits or replaces the last question, and answers it", _edit),
    "/set": Command("/set [NAME VALUE]", "shows or sets how tokens are drawn: temperature, top_p, max_tokens …", _set),
    "/save": Command("/save FILE", "keeps the conversation, its system message and settings", _save),
    "/load": Command("/load FILE", "goes on with a kept one", _load),
    "/stats": Command("/stats", "tokens, tokens/s and time to the first token after each answer, or no longer", _stats),
}
COMPLETIONS = {**dict.fromkeys([*COMMANDS, *LEAVING], ()), "/set": tuple(CONTROLS), "/save": (FILE,), "/load": (FILE,)}
