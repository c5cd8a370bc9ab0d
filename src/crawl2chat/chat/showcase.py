"""The same few questions to every model of a run, so that their answers can be read side by side."""

import random
from collections.abc import Mapping
from pathlib import Path

from crawl2chat.chat.asking import ask_plainly
from crawl2chat.chat.measured import Measured
from crawl2chat.chat.talk import Talk
from crawl2chat.chat.tools import final_text, offer
from crawl2chat.stages.files import write_jsonl
from crawl2chat.tokenizer import Message

SHOWCASE = "showcase.jsonl"
SHOWN_TOKENS = 128


def showcase_questions(measured: Measured, seed: int) -> list[str]:
    """Held-out questions, a problem, a verse, and who the model is.

    The questions that the file marks as `shown`, the last one first, as the best known come last; or, if it marks
    none, the last, the middle and the first one. The problem is the first of the last group, the hardest by custom.
    """
    rng = random.Random(f"showcase {seed}")
    facts = [row for row in measured.questions if row.check == "mentions"]
    shown = [row for row in facts if row.shown]
    if not shown:
        shown = [facts[i] for i in sorted({0, len(facts) // 2, len(facts) - 1})] if facts else []
    hardest = [problem for problem in measured.problems if problem.group == measured.problems[-1].group]
    return [
        *(rng.choice(row.wordings) for row in reversed(shown)),
        *(ask_plainly(problem.text, rng) for problem in hardest[:1]),
        "Write a verse about the moon.",
        "So who are you?",  # a wording that no stage teaches
    ]


def write_showcase(talks: Mapping[str, Talk], measured: Measured, seed: int, out: Path) -> None:
    """Write `out/showcase.jsonl`: a row for each model's answer to each question."""
    rows = []
    for question in showcase_questions(measured, seed):
        for model, talk in talks.items():
            opening = [offer(tuple(talk.tools))] if talk.tools else []
            added = talk.answer([*opening, Message(role="user", content=question)]).messages
            rows.append({"model": model, "question": question, "answer": final_text(added)})
    write_jsonl(out / SHOWCASE, rows)
