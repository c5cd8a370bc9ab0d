"""Greedy continuations of texts that begin a document, which is how a base model is asked."""

from collections.abc import Sequence

from crawl2chat.generate import Engine, Sampling
from crawl2chat.generate.request import Rule


def greedy(
    engine: Engine,
    prompts: Sequence[str],
    max_tokens: int,
    stop: tuple[str, ...] = ("\n",),
    rules: Sequence[Rule | None] | None = None,
) -> list[str]:
    """The most probable continuation of each prompt, up to `stop`; `rules` as in `Engine.generate`.

    Of a prompt that is longer than the context has room for, the beginning is left out.
    """
    ids = [fitting(engine, prompt, max_tokens) for prompt in prompts]
    return [
        c.text for c in engine.generate(ids, Sampling(temperature=0, max_tokens=max_tokens, stop=stop), rules=rules)
    ]


def fitting(engine: Engine, prompt: str, more: int) -> list[int]:
    """Ids of a document that begins so, without what leaves no room for `more` tokens behind it."""
    ids = [engine.tokenizer.end_of_text, *engine.tokenizer.encode(prompt)]
    return ids[-max(1, engine.context - more) :]
