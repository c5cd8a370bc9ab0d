"""Talk to a model in the terminal."""

import sys
from collections.abc import Callable

from crawl2chat.generate import Engine, Sampling
from crawl2chat.tokens import Message

HELP = "/reset forgets the conversation · /quit leaves · /help shows this"


def chat(engine: Engine, sampling: Sampling, *, read: Callable[[str], str] = input, system: str | None = None) -> None:
    """Hold a conversation until /quit or the end of input; answers appear as they are made.

    When a conversation outgrows the model's context, its oldest turns are left out, and it says so.
    """
    opening = [Message(role="system", content=system)] if system else []
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
            history = _turn(engine, sampling, opening, [*history, Message(role="user", content=line)])


def _turn(engine: Engine, sampling: Sampling, opening: list[Message], history: list[Message]) -> list[Message]:
    """Answer the last message; returns the history with the answer, or without the message if it can't fit."""
    fitted = fit_context(engine, opening, history, sampling.max_tokens)
    if fitted is None:
        print(f"(that message is too long for this model's context of {engine.context} tokens)")
        return history[:-1]
    if len(fitted) < len(history):
        print(f"(the oldest {len(history) - len(fitted)} messages no longer fit the context and are left out)")
    prompt, _ = engine.tokenizer.encode_chat([*opening, *fitted], add_generation_prompt=True)
    sys.stdout.write("bot> ")
    answer = ""
    try:
        for piece in engine.stream(prompt, sampling):
            answer += piece
            sys.stdout.write(piece)
            sys.stdout.flush()
    except KeyboardInterrupt:  # ends the answer, not the chat
        sys.stdout.write(" …")
    sys.stdout.write("\n")
    return [*fitted, Message(role="assistant", content=answer)]


def fit_context(
    engine: Engine, opening: list[Message], history: list[Message], max_tokens: int
) -> list[Message] | None:
    """The newest turns that leave room for an answer; None when not even the last message does.

    Room is `max_tokens`, or half the context if that is less. What is left begins with a user's message.
    """
    room = engine.context - min(max_tokens, engine.context // 2)
    for start in range(len(history)):
        if history[start]["role"] != "user":
            continue
        ids, _ = engine.tokenizer.encode_chat([*opening, *history[start:]], add_generation_prompt=True)
        if len(ids) <= room:
            return history[start:]
    return None
