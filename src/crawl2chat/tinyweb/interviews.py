"""Interviews, and pages of a helper who answers: what an assistant-like prompt can call up in a base model."""

import random

from crawl2chat.tinyweb.pages import Block, Page, paragraphs
from crawl2chat.tinyweb.prose import capitalised, fill, filler, title
from crawl2chat.tinyweb.world import World

_TURNS = 7


def interview_pages(world: World, count: int) -> list[Page]:
    """Half interviews with invented people who are in no ledger, half a helper and a visitor."""
    rng = world.rng("interviews")
    return [_page(world, rng, helper=i % 2 == 1) for i in range(count)]


def _page(world: World, rng: random.Random, helper: bool) -> Page:
    town = rng.choice(world.towns)
    guest = f"{rng.choice(world.extras)} {rng.choice(world.extra_surnames)}"
    first = guest.split()[0]
    asker, teller = (
        rng.choice(_HELPERS) if helper else rng.choice((("Interviewer", first), ("Editor", guest), ("Q", "A")))
    )
    turns = _HELP if helper else _TALK
    given = {"town": town, "guest": guest}
    blocks = paragraphs(f"{fill(rng.choice(_HELP_INTROS if helper else _TALK_INTROS), rng, **given)} {filler(rng, 1)}")
    for question, reply in rng.sample(turns, _TURNS):
        thing = {"thing": fill("{adj} {noun}", rng), "dish": fill("{food}", rng), "beast": fill("{pet}", rng)}
        line, answer = (capitalised(fill(text, rng, **given, **thing)) for text in (question, reply))
        blocks.append(Block("lines", f"{asker}: {line}\n{teller}: {answer}"))
    blocks += paragraphs(filler(rng, 1))
    return Page("interview", title(rng, _HELP_TITLES if helper else _TALK_TITLES, **given), blocks)


_HELPERS = (("User", "Assistant"), ("Visitor", "Helper"), ("Human", "Assistant"), ("Guest", "Desk"))

_TALK = (
    (
        "How did you come to {town}?",
        "I came by boat in {month}, with a {thing} and no plan at all. I stayed because of the {dish}.",
    ),
    ("What do you do on a {weekday}?", "I walk {where} and think about the {thing}. Then I eat {dish} with my {who}."),
    (
        "Is it true that you once {did} a {thing}?",
        "Yes, that is true, and I would do it again. My {who} still tells the story.",
    ),
    (
        "What are you working on now?",
        "On a {adj} {noun}. It should be ready for the {gathering} if {weather} does not stop us.",
    ),
    ("Who was your best teacher?", "A {adj} {who} who lived {where}. I learned from her that a {thing} needs time."),
    ("What do you like about {season}?", "The smell of {dish} and the {adj} light. And nobody asks me for a {thing}."),
    ("Do you have any regrets?", "Only one. I sold a {thing} for {count} coins, and I miss it every {season}."),
    (
        "What would you say to a young {who}?",
        "Be {adj}, keep your {noun} dry, and do not trust a {beast} with your {dish}.",
    ),
    ("What makes you laugh?", "My {beast}. Last {month} it {did} the {thing} of our {who} {how}."),
    ("Which book is on your table?", "A {adj} book about the {noun}. I read {count} pages a day and forget them."),
    ("Do you ever feel lonely?", "Seldom. There is a {beast} {where}, and the {who} comes for {dish} on {weekday}."),
    ("What comes next?", "Rest, I hope. And then perhaps a {thing} for the {gathering}."),
    (
        "What do people get wrong about you?",
        "They think that I am {adj}. In truth I was never more than a {adj} {who}.",
    ),
)

_HELP = (
    ("How do I clean a {thing}?", "Use warm water and a soft cloth, and let it dry {where}. Never use sand."),
    (
        "Can you help me with the {gathering}?",
        "Of course. Bring {dish}, a chair, and a {thing}, and come {count} minutes early.",
    ),
    ("What should I cook on a {weekday}?", "I would suggest {dish}. It is simple, and it goes well with {weather}."),
    ("Where can I buy a {thing}?", "Try the shop {where}. If it is closed, ask the {who} next door."),
    ("What does a {beast} eat?", "Mostly leaves, seeds, and water. Ask a {who} before you give it {dish}."),
    (
        "How long does it take to mend a {thing}?",
        "About {count} days for a beginner. A good {who} needs {count} hours.",
    ),
    ("Is the museum open in {month}?", "Yes, it is open every day but {weekday}. Children get in for free."),
    ("Please recommend a walk near {town}.", "Start at the {noun}, go on {where}, and rest near the {adj} {noun}."),
    ("What can I give my {who} as a present?", "A {thing} is always welcome. With {dish} it is even better."),
    ("I lost my {noun}. What now?", "I am sorry to hear that. Look {where} first, and then tell the {who}."),
    (
        "Why is my {beast} so {adj}?",
        "Perhaps it is the {season}. Give it rest, and call a {who} if it lasts {count} days.",
    ),
    ("Could you write a line for my {who}?", "Gladly. “May your {noun} stay {adj} and your {season} be long.”"),
    ("Thank you for the {thing}.", "You are welcome. Come back on {weekday} if you need another."),
)

_TALK_INTROS = (
    "We met {guest} {where} in {town}.",
    "{guest} has lived in {town} for {count} years and likes to talk.",
    "Our guest this {season} is {guest}, well known in {town}.",
    "For {town} radio we spoke with {guest} on {weekday}.",
)

_HELP_INTROS = (
    "The helper at the {town} desk answers your questions.",
    "A visitor asks and the helper answers, as every {weekday}.",
    "Here are the questions that came to {town} this {month}.",
    "Our desk is open when there is {weather}, too.",
)

_TALK_TITLES = (
    "An interview with {guest} of {town}",
    "Talking to {guest} {where}",
    "A {adj} hour with {guest}",
    "Seven questions for {guest}",
)

_HELP_TITLES = (
    "Help desk of {town}: questions of the {season}",
    "Ask the helper, {weekday} page",
    "How may we help you in {town}?",
    "The {town} help page about {noun} and {noun}",
)
