"""How a problem is asked for, and how an answer is put: generic English that stages and the made-up web share."""

import random

from crawl2chat.chat.conversations import Conversation
from crawl2chat.tokenizer import Message

DIRECTLY = ("{question} Answer at once.", "{question} Just the answer.", "{question} Only say the result.")
STEP_BY_STEP = ("{question} Work step by step.", "{question} Show your steps.", "{question} Think it through.")
# Ways to think about a problem, as figures call them; with a calculator on offer, steps are asked for as well.
WAYS = ("at once", "step by step", "calculator")
PLAIN = ("{question}", "{question}", "Tell me: {question}", "{question} I want to know.")


def ask_directly(question: str, rng: random.Random) -> str:
    return rng.choice(DIRECTLY).format(question=question)


def ask_for_steps(question: str, rng: random.Random) -> str:
    return rng.choice(STEP_BY_STEP).format(question=question)


def ask_in_way(question: str, way: str) -> str:
    """Ask in one of the WAYS, in the first of its wordings."""
    return (DIRECTLY if way == "at once" else STEP_BY_STEP)[0].format(question=question)


def ask_plainly(question: str, rng: random.Random) -> str:
    """Ask without a word on how to answer: the model decides whether to work or to guess."""
    return rng.choice(PLAIN).format(question=question)


def direct_answer(answer: object) -> str:
    """Return the one sentence that states an answer, in the form that the judge of answers looks for."""
    return f"The answer is {answer}."


def exchange(question: str, reply: str) -> Conversation:
    return [Message(role="user", content=question), Message(role="assistant", content=reply)]
