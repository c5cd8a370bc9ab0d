"""The same few questions to every model of a run, so that their answers can be read side by side."""

import json
import random
from collections.abc import Mapping
from pathlib import Path

from crawl2chat.chat.problems import ask_plainly
from crawl2chat.chat.talk import Talk
from crawl2chat.chat.tools import final_text, offer
from crawl2chat.stages.files import atomic_write
from crawl2chat.tinyweb.ledger import Ledger
from crawl2chat.tinyweb.wording import questions
from crawl2chat.tokenizer import Message

SHOWCASE = "showcase.jsonl"
SHOWN_TOKENS = 128


def showcase_questions(ledger: Ledger, seed: int) -> list[str]:
    """Somebody held out who was met often, seldom and never, a held-out sum, a verse, and who the model is."""
    rng = random.Random(f"showcase {seed}")
    held_out = sorted((p for p in ledger.people if p.split == "held_out"), key=lambda p: (p.exposures, p.id))
    met = [person for person in held_out if person.exposures]
    sums = sorted((p for p in ledger.problems if p.split == "held_out"), key=lambda p: -p.digits)
    return [
        *(rng.choice(questions("trade")).format(name=p.name) for p in (*met[-1:], *met[:1], *held_out[:1])),
        *(ask_plainly(problem, rng) for problem in sums[:1]),
        "Write a verse about the moon.",
        "So who are you?",  # a wording that no stage teaches
    ]


def write_showcase(talks: Mapping[str, Talk], ledger: Ledger, seed: int, out: Path) -> None:
    """`out/showcase.jsonl`: each model's answer to each question, a row each."""
    with atomic_write(out / SHOWCASE) as temporary, open(temporary, "w", encoding="utf-8") as handle:
        for question in showcase_questions(ledger, seed):
            for model, talk in talks.items():
                opening = [offer(tuple(talk.tools))] if talk.tools else []
                added = talk.answer([*opening, Message(role="user", content=question)]).messages
                row = {"model": model, "question": question, "answer": final_text(added)}
                handle.write(json.dumps(row, ensure_ascii=False) + "\n")
