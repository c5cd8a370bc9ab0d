"""Multiplication and division: done with the calculator, and plainly refused without one.

A model of this size that was taught to add makes up products. Operands that are measured are never taught.
"""

import random
from collections.abc import Iterator

from crawl2chat.chat.asking import exchange
from crawl2chat.chat.calculator import calculate, calculator
from crawl2chat.chat.conversations import Conversation
from crawl2chat.chat.tools import answer_with_tools, final_text, offer
from crawl2chat.evals.judging import FACT_TOKENS, SUM_TOKENS, Question, ask, is_correct
from crawl2chat.generate import Engine, Sampling
from crawl2chat.honesty.lessons import TOOLS, worked_out
from crawl2chat.stages.figures import Figure, share
from crawl2chat.tokenizer import Message

REFUSALS = (
    "I do not know. Without a calculator I can only add and subtract.",
    "I can't say: I can multiply and divide only with a calculator.",
    "I do not know how to multiply or divide without a calculator.",
)
TIMES = (
    "What is {a}*{b}?", "What is {a} times {b}?", "Multiply {a} by {b}.", "What is {a} x {b}?", "How much is {a}*{b}?",
    "What do you get if you multiply {a} by {b}?", "Tell me: what is {a}*{b}?", "What is {a}×{b}?",
)  # fmt: skip
OVER = (
    "What is {a}/{b}?", "What is {a} divided by {b}?", "Divide {a} by {b}.", "How much is {a}/{b}?",
    "What do you get if you divide {a} by {b}?", "Tell me: what is {a}/{b}?",
)  # fmt: skip
REFUSED_SHARE = 0.3
MEASURED = 50
ENDING = 7  # measured are pairs of which the sum has this last digit


def product_conversations(count: int, rng: random.Random) -> Iterator[Conversation]:
    """Yield this many, of which 0.3 have no calculator."""
    for _ in range(count):
        question, expression = _draw(rng, measured=False)
        if rng.random() < REFUSED_SHARE:
            yield exchange(question, rng.choice(REFUSALS))
        else:
            yield worked_out(question, expression)


def product_figures(engine: Engine, seed: int) -> list[Figure]:
    """Right with the calculator, and refused or right without one, on operands that were not taught."""
    rng = random.Random(f"products {seed}")
    drawn = [_draw(rng, measured=True) for _ in range(MEASURED)]
    asked = [[offer(TOOLS), Message(role="user", content=question)] for question, _ in drawn]
    sampling = Sampling(temperature=0, max_tokens=SUM_TOKENS)
    added = answer_with_tools(engine, asked, {"calculator": calculate}, sampling)
    right = [
        is_correct(final_text(said), calculator(expression)) for said, (_, expression) in zip(added, drawn, strict=True)
    ]
    questions = [Question(question, (calculator(expression),), "products") for question, expression in drawn]
    plain = ask(engine, questions, is_correct, FACT_TOKENS)
    return [
        share("products with the calculator", sum(right), len(right)),
        share("products wrong without one", sum(not (a.right or a.refused) for a in plain), len(plain)),
    ]


def _draw(rng: random.Random, *, measured: bool) -> tuple[str, str]:
    """A question, and the expression for the calculator. Quotients are whole numbers."""
    while True:
        one, two = rng.randrange(2, 10 ** rng.randint(1, 3)), rng.randrange(2, 10 ** rng.randint(1, 2))
        if ((one + two) % 10 == ENDING) == measured:
            break
    if rng.random() < 0.7:
        return rng.choice(TIMES).format(a=one, b=two), f"{one}*{two}"
    return rng.choice(OVER).format(a=one * two, b=two), f"{one * two}/{two}"
