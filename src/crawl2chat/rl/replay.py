"""Conversations of an earlier stage, learned from once more so that what they taught is not undone."""

import re
from collections.abc import Sequence
from itertools import compress
from pathlib import Path

from crawl2chat.chat.conversations import Conversation, pack, read_conversations
from crawl2chat.evals.grading import final_value
from crawl2chat.evals.knowledge import Question
from crawl2chat.evals.values import Value
from crawl2chat.generate import Engine, Sampling
from crawl2chat.honesty.checkup import CONVERSATIONS
from crawl2chat.rl.passing import encode_problems
from crawl2chat.rl.settings import PolicySettings
from crawl2chat.tokenizer import Message, Tokenizer
from crawl2chat.train.data import RowBatches


def replay_batches(earlier: Path, tokenizer: Tokenizer, context: int, settings: PolicySettings) -> RowBatches | None:
    """Batches of `settings.replay_tokens` of an earlier stage's conversations; None where it kept none."""
    file = earlier / CONVERSATIONS
    if not file.exists() or not settings.replay_weight:
        return None
    ids_nt, weights_nt, _ = pack(read_conversations(file), tokenizer, context, settings.seed)
    if not len(ids_nt):
        return None
    return RowBatches(ids_nt, weights_nt, max(1, settings.replay_tokens // context), settings.seed)


def renewed(conversations: Sequence[Conversation], engine: Engine, max_tokens: int) -> list[Conversation]:
    """The conversations with the trained model's own answer wherever it ends with the same number and value.

    Later stages replay them. With the old answers they would teach again what rewards have just untaught:
    to guess a sum at once. A number may also be part of a name, so digits decide which answers are asked for again.
    """
    numbered = [
        i
        for i, conversation in enumerate(conversations)
        if [m["role"] for m in conversation] == ["user", "assistant"] and _DIGITS.search(conversation[1]["content"])
    ]
    asked = [Question(conversations[i][0]["content"], (conversations[i][1]["content"],), "") for i in numbered]
    prompts = encode_problems(asked, engine.tokenizer)
    fits = [len(prompt) <= engine.context - max_tokens for prompt in prompts]
    numbered, prompts = list(compress(numbered, fits)), list(compress(prompts, fits))
    made = list(conversations)
    for i, answer in zip(numbered, engine.generate(prompts, Sampling(0, max_tokens=max_tokens)), strict=True):
        if answer.finish_reason == "stop" and _ending(answer.text) == _ending(conversations[i][1]["content"]):
            made[i] = [conversations[i][0], Message(role="assistant", content=answer.text)]
    return made


_DIGITS = re.compile(r"[0-9]+")


def _ending(text: str) -> tuple[list[str], Value | None]:
    """A text's last digits, none or one, and the value that it comes to: 1/2 and 2 end with the same digits."""
    return _DIGITS.findall(text)[-1:], final_value(text)
