"""Lost property and letters: pages whose names and numbers stand on no other page, and stand there several times.

What recurs within a page can only be predicted by looking back and copying. From such pages a model learns to read
what is in front of it (induction, arXiv 2209.11895), which looking things up needs later.
"""

import random

from crawl2chat.crawl.tinyweb.pages import Page, paragraphs
from crawl2chat.crawl.tinyweb.prose import capitalised, fill, filler, title
from crawl2chat.crawl.tinyweb.world import World, coin_names

_NAMES_PER_PAGE = 2
_SENTENCES = 8


def lost_property_pages(world: World, count: int) -> list[Page]:
    rng = world.rng("lost property")
    coined = iter(coin_names(world, rng, 2 * _NAMES_PER_PAGE * count))
    return [_page(world, rng, [f"{next(coined)} {next(coined)}" for _ in range(_NAMES_PER_PAGE)]) for _ in range(count)]


def _page(world: World, rng: random.Random, names: list[str]) -> Page:
    town = rng.choice(world.towns)
    numbers = [str(rng.randrange(10, 10_000)) for _ in names]
    thing = fill("{adj} {noun}", rng)
    lines: list[str] = []
    for i, template in enumerate(rng.sample(_SENTENCES_ABOUT, _SENTENCES)):
        one, two = (0, 1) if i % 3 else (1, 0)  # both are soon named and named again
        given = {"one": names[one], "two": names[two], "number": numbers[one], "thing": thing, "town": town}
        lines.append(capitalised(fill(template, rng, **given)))
    half = rng.randrange(3, 7)
    blocks = paragraphs(" ".join(lines[:half]), filler(rng, 2), " ".join(lines[half:]))
    return Page("lost_property", title(rng, _TITLES, town=town), blocks)


_SENTENCES_ABOUT = (
    "{one} has lost a {thing} and asks whether {two} has seen it.",
    "The slip of {one} bears the number {number}.",
    "Number {number} was given to {one} on {weekday}.",
    "{two} wrote to {one} about the {thing}.",
    "A letter to {one} came back, and {two} keeps it now.",
    "We have told {one} to bring slip {number}.",
    "If you meet {one}, please say that {two} is waiting {where}.",
    "According to {two}, the {thing} belongs to {one}.",
    "{one} paid for slip {number} in {month}.",
    "Nobody but {one} has asked for the {thing}.",
    "{two} doubts what {one} told the {who}.",
    "In the book it says {number}, and beside it {one}.",
    "The {who} saw {one} {where} in {month}.",
    "Then {one} called on {two} and was {feeling}.",
    "“My number is {number},” said {one} to the {who}.",
    "{one} would like to thank {two} for the {thing}.",
)

_TITLES = (
    "Lost property of {town}, {month}",
    "Letters to the {town} desk about a {adj} {noun}",
    "The {town} book of slips and numbers",
    "Who has seen it? Notes from the {gathering}",
    "Found {where}: slips of the {season}",
)
