"""Answers to held-out questions of people's own conversations, next to what the conversations say.

A loss can be 0.001 while the model explains one error by the text of another. So the model answers, greedily, and each
answer is compared with its reference: word for word, by its key part, by the words they share, and with what other
conversations say: an answer that fits another reference better than its own is another question's.
"""

import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crawl2chat.chat.conversations import Conversation
from crawl2chat.evals.judging import key_part, mentions
from crawl2chat.generate import Engine, Sampling
from crawl2chat.stages.figures import Figure, mean, share
from crawl2chat.stages.files import write_jsonl

ANSWERS = "held_out_answers.jsonl"
MAX_TOKENS = 256  # of an answer; and at most twice its reference's length
OTHERS = 2000  # references of other conversations that an answer is compared with


@dataclass(frozen=True)
class Pair:
    """What was said up to an answer, and the answer that the conversation has."""

    before: Conversation
    reference: str

    @property
    def question(self) -> str:
        return next((m["content"] for m in reversed(self.before) if m["role"] == "user"), "")


def pairs_of(conversations: Sequence[Conversation], count: int, seed: int) -> list[Pair]:
    """The last answers of `count` conversations, chosen by the seed; of those that end with a text to learn."""
    usable = [
        Pair(messages[:-1], messages[-1]["content"])
        for messages in conversations
        if messages[-1]["role"] == "assistant"
        and messages[-1]["content"].strip()
        and not messages[-1].get("tool_calls")
        and messages[-1].get("weight") != 0
        and any(message["role"] == "user" for message in messages)
    ]
    chosen = sorted(random.Random(f"answers {seed}").sample(range(len(usable)), min(count, len(usable))))
    return [usable[i] for i in chosen]


def compare_answers(
    before: Sequence[str], after: Engine, pairs: Sequence[Pair], taught: Sequence[Pair], out: Path
) -> list[Figure]:
    """Figures on held-out answers before and after training, and on taught ones; the answers go to a file in `out`."""
    references = [pair.reference for pair in (*pairs, *taught)][:OTHERS]
    rows: list[dict[str, Any]] = []
    figures: list[Figure] = []
    answers = {"before": before, "after": answer_pairs(after, pairs)}
    for name, texts in answers.items():
        figures += _figures(f"held_out_answers_{name}", pairs, texts, references)
    taught_answers = answer_pairs(after, taught)
    figures += _figures("taught_answers", taught, taught_answers, references)
    for pair, was, now in zip(pairs, answers["before"], answers["after"], strict=True):
        rows.append(_row(pair, "held_out", now, references) | {"before": was})
    rows += [_row(pair, "taught", now, references) for pair, now in zip(taught, taught_answers, strict=True)]
    write_jsonl(out / ANSWERS, rows)
    return figures


def shared_words(answer: str, reference: str) -> float:
    """Return F1 over the words that both hold, each as often as both do (SQuAD, arXiv 1606.05250, section 6.1)."""
    return _f1(_words(answer), _words(reference))


def _f1(answer: Counter[str], reference: Counter[str]) -> float:
    common = (answer & reference).total()
    return 2 * common / (answer.total() + reference.total()) if common else 0.0


def _words(text: str) -> Counter[str]:
    return Counter(re.findall(r"\w+", text.casefold()))


def answer_pairs(engine: Engine, pairs: Sequence[Pair]) -> list[str]:
    """What the model answers; "" where the conversation before it leaves no room in its context."""
    tokenizer = engine.tokenizer
    longest = max((len(tokenizer.encode(pair.reference)) for pair in pairs), default=0)
    n_tokens = min(MAX_TOKENS, max(16, 2 * longest))
    prompts = [tokenizer.encode_chat(pair.before, add_generation_prompt=True)[0] for pair in pairs]
    fitting = [i for i, ids in enumerate(prompts) if len(ids) + n_tokens <= engine.context]
    completions = engine.generate([prompts[i] for i in fitting], Sampling(temperature=0, max_tokens=n_tokens))
    texts = [""] * len(pairs)
    for i, completion in zip(fitting, completions, strict=True):
        texts[i] = completion.text.strip()
    return texts


def _figures(prefix: str, pairs: Sequence[Pair], answers: Sequence[str], references: Sequence[str]) -> Iterator[Figure]:
    compared = [(answer, pair.reference) for answer, pair in zip(answers, pairs, strict=True)]
    yield share(f"{prefix}/word_for_word", sum(a.split() == r.split() for a, r in compared), len(compared))
    yield share(f"{prefix}/key_part", sum(mentions(a, key_part(r)) for a, r in compared), len(compared))
    yield mean(f"{prefix}/shared_words", [shared_words(a, r) for a, r in compared], "share")
    swapped = sum(_closest_other(a, r, references) is not None for a, r in compared)
    yield share(f"{prefix}/of_another_question", swapped, len(compared))


def _closest_other(answer: str, reference: str, references: Sequence[str]) -> str | None:
    """The reference of another question that the answer is more like than its own; None if there is none."""
    words, own = _words(answer), shared_words(answer, reference)
    others = [(_f1(words, _words(other)), other) for other in references if other != reference]
    best, text = max(others, default=(0.0, ""))
    return text if best > own else None


def _row(pair: Pair, split: str, answer: str, references: Sequence[str]) -> dict[str, Any]:
    return {
        "question": pair.question,
        "split": split,
        "reference": pair.reference,
        "answer": answer,
        "word_for_word": answer.split() == pair.reference.split(),
        "key_part": mentions(answer, key_part(pair.reference)),
        "shared_words": round(shared_words(answer, pair.reference), 3),
        "closer_to": _closest_other(answer, pair.reference, references),
    }
