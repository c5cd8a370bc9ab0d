"""What the writer is asked, with examples, in short forms that a small model follows, too.

A passage comes before what is asked of it, so that the engine reads it once for all questions about it.
"""

from collections.abc import Sequence
from typing import NamedTuple

from crawl2chat.tokenizer import Message


class Example(NamedTuple):
    """A passage with the short facts in it; one of these is asked for, in two wordings."""

    passage: str
    facts: tuple[str, ...]
    answer: str
    question: str
    reworded: str


EXAMPLES = (
    Example(
        "The Severn Bridge was opened by Queen Elizabeth II on 8 September 1966. It replaced a ferry from Aust to "
        "Beachley and cost eight million pounds.",
        ("Queen Elizabeth II", "8 September 1966", "eight million pounds"),
        "eight million pounds",
        "How much did the Severn Bridge cost?",
        "What was the price of building the Severn Bridge?",
    ),
    Example(
        "Anna Kessel, who has run the bakery in Lindau since her father retired, bakes rye bread only on Fridays. Her "
        "shop is closed on Mondays.",
        ("Anna Kessel", "Lindau", "Mondays"),
        "Anna Kessel",
        "Who runs the bakery in Lindau?",
        "What is the name of the person who runs the bakery in Lindau?",
    ),
    Example(
        "To reset the Brio 3 heat pump, hold the left button for ten seconds until the green light blinks. Error E04 "
        "means that the water filter is blocked.",
        ("ten seconds", "the left button", "the water filter is blocked"),
        "ten seconds",
        "For how long must the left button of the Brio 3 heat pump be held to reset it?",
        "How long do you hold the left button when you reset the Brio 3 heat pump?",
    ),
)


def list_facts(passage: str) -> list[Message]:
    """Ask for short facts, one per line, in the words of the passage."""
    shots = [(example.passage, "\n".join(example.facts)) for example in EXAMPLES]
    return _asked("Copy short facts out of the text: names, numbers, dates, places.", shots, passage)


def write_question(passage: str, answer: str) -> list[Message]:
    """Ask for the question that this part of the passage answers."""
    shots = [(_with_answer(example.passage, example.answer), example.question) for example in EXAMPLES]
    system = (
        "Write a question with the given answer, in the language of the text. Name what it is about: it is read "
        "without the text."
    )
    return _asked(system, shots, _with_answer(passage, answer))


def answer_from(passage: str, question: str) -> list[Message]:
    """Ask the question about the passage, for an answer in its words."""
    shots = [(_with_question(example.passage, example.question), example.answer) for example in EXAMPLES]
    return _asked("Answer with a few words of the text.", shots, _with_question(passage, question))


def answer_by_heart(question: str) -> list[Message]:
    """Ask the question alone."""
    return [Message(role="user", content=question)]


def answer_in_a_sentence(passage: str, question: str) -> list[Message]:
    """Ask the question about the passage, for an answer as an assistant would give it."""
    return [Message(role="user", content=f"{passage}\n\n{question} Answer in one short sentence.")]


def reword(question: str) -> list[Message]:
    """Ask for the same question in other words."""
    shots = [(example.question, example.reworded) for example in EXAMPLES]
    return _asked("Ask the same in other words.", shots, question)


def _with_answer(passage: str, answer: str) -> str:
    return f"{passage}\nAnswer: {answer}"


def _with_question(passage: str, question: str) -> str:
    return f"{passage}\nQuestion: {question}"


def _asked(system: str, shots: Sequence[tuple[str, str]], what: str) -> list[Message]:
    messages = [Message(role="system", content=system)]
    for asked, answered in shots:
        messages += [Message(role="user", content=asked), Message(role="assistant", content=answered)]
    return [*messages, Message(role="user", content=what)]
