"""Talk to a model in the terminal."""

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from crawl2chat.chat.tools import Tool, answer_with_tools, final_text, offer
from crawl2chat.generate import Engine, Sampling
from crawl2chat.tokens import Message

HELP = "/reset forgets the conversation · /quit leaves · /help shows this"
PAGE = "The helper at the desk answers your questions.\n"  # a page on which an assistant is at work
SPEAKERS = {"user": "User", "assistant": "Assistant"}


class Talk:
    """How messages become a prompt, and a prompt becomes an answer.

    A chat model reads ChatML. A base model has never seen it: it is given a page on which a helper answers, and
    goes on with that page to the end of the line. With tools, calls are carried out and shown.
    """

    def __init__(
        self,
        engine: Engine,
        sampling: Sampling,
        *,
        base: bool = False,
        tools: Mapping[str, Tool] | None = None,
        address: Callable[[int], str | None] = lambda page: None,
    ) -> None:
        """address: of a page by the number that the search gives it, to be shown beside an answer that names it."""
        self.engine, self.base, self.tools, self.address = engine, base, tools or {}, address
        self.sampling = replace(sampling, stop=(*sampling.stop, "\n")) if base else sampling

    def prompt(self, messages: Sequence[Message]) -> list[int]:
        tokenizer = self.engine.tokenizer
        if not self.base:
            return tokenizer.encode_chat(messages, add_generation_prompt=True)[0]
        lines = [f"{SPEAKERS[m['role']]}: {m['content']}\n" if m["role"] in SPEAKERS else m["content"] + "\n"
                 for m in messages]  # fmt: skip
        return [tokenizer.end_of_text, *tokenizer.encode(PAGE + "".join(lines) + "Assistant:")]

    def answer(self, messages: Sequence[Message], write: Callable[[str], object]) -> list[Message]:
        """The messages that answer, written out as they arrive."""
        if self.tools:
            try:
                (added,) = answer_with_tools(self.engine, [messages], self.tools, self.sampling)
            except KeyboardInterrupt:
                write(" …")
                return []
            for message in added:
                write(_shown(message))
            for page in re.findall(r"\bPage (\d+)\b", final_text(added)):
                write(f" ({self.address(int(page)) or 'there is no such page'})")
            return added
        text = ""
        try:
            for piece in self.engine.stream(self.prompt(messages), self.sampling):
                text += piece
                write(piece)
        except KeyboardInterrupt:  # ends the answer, not the chat
            write(" …")
        return [Message(role="assistant", content=text)]


def chat(talk: Talk, *, read: Callable[[str], str] = input, system: str | None = None) -> None:
    """Hold a conversation until /quit or the end of input; answers appear as they are made.

    When a conversation outgrows the model's context, its oldest turns are left out, and it says so.
    """
    opening = [offer(tuple(talk.tools))] if talk.tools else []
    opening += [Message(role="system", content=system)] if system else []
    history: list[Message] = []
    print(HELP)
    while True:
        try:
            line = read("you> ").strip()
        except (EOFError, KeyboardInterrupt):
            print()
            return
        if line in ("/quit", "/exit"):
            return
        if line == "/help":
            print(HELP)
        elif line == "/reset":
            history = []
        elif line.startswith("/"):
            print(f"{line.split()[0]}: no such command. {HELP}")
        elif line:
            history = _turn(talk, opening, [*history, Message(role="user", content=line)])


def fit_context(talk: Talk, opening: list[Message], history: list[Message]) -> list[Message] | None:
    """The newest turns that leave room for an answer; None when not even the last message does.

    Room is `max_tokens`, or half the context if that is less. What is left begins with a user's message.
    """
    context = talk.engine.context
    room = context - min(talk.sampling.max_tokens, context // 2)
    for start in range(len(history)):
        if history[start]["role"] == "user" and len(talk.prompt([*opening, *history[start:]])) <= room:
            return history[start:]
    return None


def _turn(talk: Talk, opening: list[Message], history: list[Message]) -> list[Message]:
    """Answer the last message; returns the history with the answer, or without the message if it can't fit."""
    fitted = fit_context(talk, opening, history)
    if fitted is None:
        print(f"(that message is too long for this model's context of {talk.engine.context} tokens)")
        return history[:-1]
    if len(fitted) < len(history):
        print(f"(the oldest {len(history) - len(fitted)} messages no longer fit the context and are left out)")

    def write(piece: str) -> None:
        sys.stdout.write(piece)
        sys.stdout.flush()

    write("bot> ")
    added = talk.answer([*opening, *fitted], write)
    write("\n")
    return [*fitted, *added]


def _shown(message: Message) -> str:
    if message["role"] == "tool":
        return f"     {message['content']}\nbot> "
    calls = ""
    for called in message.get("tool_calls", ()):
        given = ", ".join(map(str, called["function"]["arguments"].values()))
        calls += f"[{called['function']['name']}{given and ': ' + given}]\n"
    return message["content"] + calls
