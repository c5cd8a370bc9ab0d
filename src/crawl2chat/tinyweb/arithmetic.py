"""Sums: answers alone, and worked digit by digit in one fixed form that a small model can learn exactly."""

import random
from collections.abc import Iterator, Sequence

from crawl2chat.tinyweb.ledger import Form, Problem, Split
from crawl2chat.tinyweb.pages import Page, paragraphs
from crawl2chat.tinyweb.prose import capitalised, fill, filler, title
from crawl2chat.tinyweb.world import World

STEP_CUE = "Let us go step by step."
_PLACES = ("ones", "tens", "hundreds", "thousands")
_SUBTRACTIONS = 0.15
_SHARE_BY_DIGITS = {1: 0.1, 2: 0.4, 3: 0.5}  # of one digit there are only 155 problems
_MOST_SMALL_HELD_OUT = 40  # the rest of the one-digit problems stays for the web
_WORKED_PER_PAGE = 3
_DIRECT_PER_PAGE = 6


def direct_answer(problem: Problem) -> str:
    return f"The answer is {problem.answer}."


def worked_steps(problem: Problem) -> str:
    """The way on paper, lowest digit first, and the answer: a sentence a digit, with all that is written so far.

    347+86: The ones give 7+6=13, so write 3 and carry 1. The tens give 4+8+1=13, so write 33 and carry 1.
    The hundreds give 3+0+1=4, so write 433 and carry 0. The answer is 433.
    52-37: The ones give 12-7=5, so write 5 and borrow 1. The tens give 5-3-1=1, so write 15 and borrow 0.
    The answer is 15.
    Were each digit written alone, the answer would have to gather them from three sentences in reverse, which a small
    model learns in some trainings and in others not.
    """
    left, right = problem.operands
    if min(left, right) < 0 or problem.answer < 0 or max(left, right) >= 10 ** len(_PLACES):
        raise ValueError(f"{problem.question}: steps are written for whole numbers of up to {len(_PLACES)} digits")
    sentences: list[str] = []
    carry, written = 0, ""
    for place, a, b in zip(_PLACES, _digits(left, right), _digits(right, left), strict=False):
        before = f"{problem.operator}{carry}" if sentences else ""
        if problem.operator == "+":
            total = a + b + carry
            carry, word = total // 10, "carry"
        else:
            needed = b + carry
            carry, word = int(a < needed), "borrow"
            a += 10 * carry
            total = a - needed
        term = f"{a}{problem.operator}{b}{before}={total}"
        written = f"{total % 10}{written}"
        sentences.append(f"The {place} give {term}, so write {written} and {word} {carry}.")
    if problem.operator == "+" and carry:
        sentences.append(f"The carry gives 1, so write 1{written}.")
    return " ".join([*sentences, direct_answer(problem)])


def make_problems(world: World, worked: int, direct: int, held_out: int) -> list[Problem]:
    """Problems for the web and problems kept from it; a sum and its mirror image (3+8, 8+3) are never on both sides."""
    rng = world.rng("sums")
    taken: set[tuple[str, int, int]] = set()
    kept_back = []
    small = 0
    for digits in _digit_plan(held_out, rng):
        small += digits == 1
        problem = _draw(rng, 2 if digits == 1 and small > _MOST_SMALL_HELD_OUT else digits, "held_out", None)
        while _key(problem) in taken:
            problem = _draw(rng, problem.digits, "held_out", None)
        taken.add(_key(problem))
        kept_back.append(problem)
    shown = []
    forms: tuple[tuple[Form, int], ...] = (("worked", worked), ("direct", direct))
    for form, count in forms:
        for digits in _digit_plan(count, rng):
            problem = _draw(rng, digits, "train", form)
            while _key(problem) in taken:
                problem = _draw(rng, digits, "train", form)
            shown.append(problem)
    return shown + kept_back


def arithmetic_pages(problems: Sequence[Problem], world: World) -> list[Page]:
    """Pages of worked and direct sums among sentences, as filters for prose want them."""
    rng = world.rng("sum pages")
    worked = [p for p in problems if p.form == "worked"]
    direct = [p for p in problems if p.form == "direct"]
    rng.shuffle(worked)
    rng.shuffle(direct)
    pages = max(-(-len(worked) // _WORKED_PER_PAGE), -(-len(direct) // _DIRECT_PER_PAGE))
    return [_page(worked[i::pages], direct[i::pages], world, rng) for i in range(pages)]


def _page(worked: Sequence[Problem], direct: Sequence[Problem], world: World, rng: random.Random) -> Page:
    leads = iter(rng.sample(_WORKED_LEADS, len(worked)))
    texts = [f"{_lead(next(leads), world, rng)} {p.question} {STEP_CUE} {worked_steps(p)}" for p in worked]
    leads = iter(rng.sample(_DIRECT_LEADS, len(direct)))
    answers = [f"{_lead(next(leads), world, rng)} {p.question} {direct_answer(p)}" for p in direct]
    rng.shuffle(texts)
    town = rng.choice(world.towns)
    # worked sums repeat themselves by nature; with less prose around them one page in nine breaks Gopher's rules
    body = [filler(rng, 4), *texts[:2], *([" ".join(answers)] if answers else []), *texts[2:], filler(rng, 4)]
    return Page("arithmetic", title(rng, _TITLES, town=town), paragraphs(*body))


def _lead(template: str, world: World, rng: random.Random) -> str:
    return capitalised(fill(template, rng, reader=rng.choice(world.extras), town=rng.choice(world.towns)))


def _digits(number: int, other: int) -> Iterator[int]:
    """Digits from the lowest up, with zeros up to the length of the longer number."""
    for _ in range(len(str(max(number, other)))):
        yield number % 10
        number //= 10


def _digit_plan(count: int, rng: random.Random) -> list[int]:
    plan = [digits for digits, share in _SHARE_BY_DIGITS.items() for _ in range(round(count * share))]
    plan = (plan + [3] * count)[:count]
    rng.shuffle(plan)
    return plan


def _draw(rng: random.Random, digits: int, split: Split, form: Form | None) -> Problem:
    low = 0 if digits == 1 else 10 ** (digits - 1)
    one, two = rng.randrange(low, 10**digits), rng.randrange(10 ** rng.randint(1, digits))
    if rng.random() < _SUBTRACTIONS:
        return Problem((max(one, two), min(one, two)), "-", digits, split, form)
    operands = (one, two) if rng.random() < 0.5 else (two, one)
    return Problem(operands, "+", digits, split, form)


def _key(problem: Problem) -> tuple[str, int, int]:
    left, right = problem.operands
    return problem.operator, max(left, right), min(left, right)


_TITLES = (
    "Sums for the long evenings in {town}",
    "Arithmetic with the {who} of {town}",
    "Homework for {weekday} in the {town} school",
    "How to add and take away, lesson {count}",
    "Counting {noun} and {noun}: exercises",
    "The {town} sums club meets {where}",
    "Practice page for the {gathering}",
)

_WORKED_LEADS = (
    "{reader} is not sure about the next one.",
    "The {who} counts on paper, and {reader} looks on.",
    "Now a question from {town}.",
    "Here is one that the {adj} {who} got wrong.",
    "At the {gathering} in {town} they asked this.",
    "{reader} from {town} sends us the following sum.",
    "Take paper and a {adj} pencil.",
    "On {weekday} the class tried this together.",
    "This one comes from the {who} who sells {food}.",
)

_DIRECT_LEADS = (
    "A quick one for {reader}.",
    "Somebody in {town} wants to know.",
    "The {who} asks.",
    "{reader} calls out.",
    "One more.",
    "Next, from the {adj} box.",
    "Without paper this time.",
    "And a short one.",
    "For the {pet} keeper.",
    "Asked {where}.",
    "Then {reader} said.",
    "From the back of the room.",
)
