"""How a base model, which has seen no conversations, is asked: by a text that begins a document, continued greedily."""

from collections.abc import Sequence

from crawl2chat.generate import Engine, Sampling
from crawl2chat.tokenizer import Message

HELPER_PAGE = "The helper at the desk answers your questions.\n\n"
SPEAKERS = {"user": "User", "assistant": "Assistant"}


def greedy(engine: Engine, prompts: Sequence[str], max_tokens: int, stop: tuple[str, ...] = ("\n",)) -> list[str]:
    """Return the most probable continuation of each prompt, up to `stop`.

    If a prompt is longer than the context has room for, its beginning is left out.
    """
    ids = [fitting(engine, prompt, max_tokens) for prompt in prompts]
    sampling = Sampling(temperature=0, max_tokens=max_tokens, stop=stop)
    return [completion.text for completion in engine.generate(ids, sampling)]


def fitting(engine: Engine, prompt: str, more: int) -> list[int]:
    """Return the ids of a document that begins with `prompt`; its beginning is cut so that `more` tokens have room."""
    ids = [engine.tokenizer.bos_id, *engine.tokenizer.encode(prompt)]
    return ids[-max(1, engine.context - more) :]


def helper_page(messages: Sequence[Message]) -> str:
    """Return a page on which an assistant answers, up to where it speaks next; other roles' messages are plain text."""
    said = [(SPEAKERS.get(m["role"]), " ".join(m["content"].split())) for m in messages]  # one line per speaker
    lines = "".join(f"{speaker}: {text}\n" if speaker else f"{text}\n" for speaker, text in said)
    return f"{HELPER_PAGE}{lines}{SPEAKERS['assistant']}:"
