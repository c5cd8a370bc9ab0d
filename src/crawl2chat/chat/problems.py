"""Sums as somebody would ask them: with a wish for steps or for haste, without either, or told as a story."""

import random
from collections.abc import Sequence

from crawl2chat.tinyweb.arithmetic import STEP_CUE, worked_steps
from crawl2chat.tinyweb.ledger import Problem

DIRECTLY = ("{question} Answer at once.", "{question} Just the answer.", "{question} Only say the result.")
STEP_BY_STEP = ("{question} Work step by step.", "{question} Show your steps.", "{question} Think it through.")
PLAIN = ("{question}", "{question}", "Tell me: {question}", "{question} I want to know.")

_MORE = (
    "{name} has {left} {things} and gets {right} more. How many {things} does {name} have now?",
    "There are {left} {things} in one box and {right} in another. How many {things} are there together?",
    "{name} sold {left} {things} in spring and {right} in autumn. How many {things} did {name} sell in all?",
    "A shelf holds {left} {things}. {name} adds {right}. How many {things} are on it then?",
)
_FEWER = (
    "{name} has {left} {things} and gives away {right}. How many {things} are left?",
    "Of {left} {things}, {right} are broken. How many {things} are whole?",
    "A shop had {left} {things} and sold {right}. How many {things} remain?",
    "{name} needs {left} {things} and has {right}. How many {things} are missing?",
)
_NAMES = ("Mira", "Tobin", "Elsa", "Ralf", "Nora", "Pim", "Greta", "Anton")
_THINGS = ("apples", "pears", "coins", "stones", "books", "shells", "nails", "buttons", "candles", "stamps")


def ask_directly(problem: Problem, rng: random.Random) -> str:
    return rng.choice(DIRECTLY).format(question=problem.question)


def ask_for_steps(problem: Problem, rng: random.Random) -> str:
    return rng.choice(STEP_BY_STEP).format(question=problem.question)


def ask_plainly(problem: Problem, rng: random.Random) -> str:
    """No word on how to answer: whether to work or to guess is left to the one who is asked."""
    return rng.choice(PLAIN).format(question=problem.question)


def ask_as_story(problem: Problem, rng: random.Random) -> str:
    """A word problem, which leaves it open as well."""
    templates: Sequence[str] = _MORE if problem.operator == "+" else _FEWER
    left, right = problem.operands
    return rng.choice(templates).format(left=left, right=right, name=rng.choice(_NAMES), things=rng.choice(_THINGS))


def work_out(problem: Problem) -> str:
    """The answer with its steps. They begin with the sum itself, which a word problem does not state."""
    left, right = problem.operands
    return f"{STEP_CUE} {left}{problem.operator}{right}. {worked_steps(problem)}"
