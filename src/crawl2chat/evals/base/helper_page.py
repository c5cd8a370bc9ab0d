"""A page on which an assistant is at work: how a base model, which has seen no conversations, is made to answer."""

from collections.abc import Sequence

from crawl2chat.tokenizer import Message

PAGE = "The helper at the desk answers your questions.\n\n"
SPEAKERS = {"user": "User", "assistant": "Assistant"}


def helper_page(messages: Sequence[Message]) -> str:
    """The page up to where the assistant speaks next; messages of other roles stand there as text."""
    said = [(SPEAKERS.get(m["role"]), " ".join(m["content"].split())) for m in messages]  # a line a speaker
    lines = "".join(f"{speaker}: {text}\n" if speaker else f"{text}\n" for speaker, text in said)
    return f"{PAGE}{lines}{SPEAKERS['assistant']}:"
