"""Short stories with a wish, an obstacle and an end, glad or sad, and rhymed verses: material for preferences."""

import random
from typing import Literal

from crawl2chat.tinyweb.ledger import Story, Verse
from crawl2chat.tinyweb.pages import Block, Page, paragraphs
from crawl2chat.tinyweb.prose import capitalised, fill, filler, title
from crawl2chat.tinyweb.words import RHYMES
from crawl2chat.tinyweb.world import World

_STORIES_PER_PAGE = 2
_VERSES_PER_PAGE = 3


def story_pages(world: World, count: int) -> list[tuple[Page, list[Story]]]:
    rng = world.rng("stories")
    pages = []
    for start in range(0, count, _STORIES_PER_PAGE):
        stories = [_story(world, rng) for _ in range(min(_STORIES_PER_PAGE, count - start))]
        blocks = paragraphs(filler(rng, 1), *(story.text for story in stories), filler(rng, 1))
        pages.append((Page("story", title(rng, _STORY_TITLES, town=rng.choice(world.towns)), blocks), stories))
    return pages


def verse_pages(world: World, count: int) -> list[tuple[Page, list[Verse]]]:
    rng = world.rng("verses")
    pages = []
    for start in range(0, count, _VERSES_PER_PAGE):
        verses = [Verse("", _verse(rng)) for _ in range(min(_VERSES_PER_PAGE, count - start))]
        blocks = paragraphs(filler(rng, 2))
        for verse in verses:
            blocks += [Block("lines", verse.text), *paragraphs(filler(rng, 1))]
        pages.append((Page("verse", title(rng, _VERSE_TITLES, town=rng.choice(world.towns)), blocks), verses))
    return pages


def _story(world: World, rng: random.Random) -> Story:
    hero, helper = rng.sample(world.extras, 2)
    ending: Literal["happy", "sad"] = rng.choice(("happy", "sad"))
    given = {"hero": hero, "helper": helper, "thing": f"{fill('{adj} {noun}', rng)}", "town": rng.choice(world.towns)}
    parts = [
        rng.choice(_BEGINNINGS),
        rng.choice(_WISHES),
        *rng.sample(_OBSTACLES, rng.choice((1, 2))),
        rng.choice(_HELP),
        *rng.sample(_TURNS, rng.choice((1, 2))),
        rng.choice(_ENDS[ending]),
        rng.choice(_LAST[ending]),
    ]
    return Story("", " ".join(capitalised(fill(part, rng, **given)) for part in parts), hero, ending)


def _verse(rng: random.Random) -> str:
    couplets = []
    for rhyme in rng.sample(RHYMES, rng.choice((2, 3))):
        first, second = rng.sample(rhyme, 2)
        one, two = rng.choice(_COUPLETS)
        couplets += [capitalised(fill(one, rng, rhyme=first)), capitalised(fill(two, rng, rhyme=second))]
    return "\n".join(couplets)


_BEGINNINGS = (
    "Once there was a {adj} {pet} called {hero}, who lived {where} in {town}.",
    "{hero} was a {adj} little {pet}.",
    "In {town} there lived a child named {hero} with a {pet}.",
    "Long ago a {adj} {who} named {hero} lived {where}.",
    "One {weekday} in {season} {hero} the {pet} woke up early.",
    "Everybody in {town} knew {hero}, the {adj} {who}.",
    "There was {weather} on the day when {hero} set out.",
    "{hero} and {helper} were friends, though {hero} was a {pet}.",
)

_WISHES = (
    "More than anything {hero} wanted a {thing}.",
    "All day {hero} dreamed of a {thing}.",
    "Only one wish was left: to have a {thing}.",
    "{hero} had lost a {thing} and wished to find it again.",
    "For the {gathering}, {hero} needed a {thing}.",
    "Every night {hero} whispered that a {thing} would be enough.",
    "{hero} had promised the {who} a {thing}.",
    "What {hero} wished for was a {thing}, just like the one of the {who}.",
)

_OBSTACLES = (
    "But the {thing} was kept {where}, and the gate was locked.",
    "But a {adj} {who} said no and shut the door.",
    "The way led {where}, and {hero} was afraid of the dark.",
    "Then came {weather}, and the path was gone.",
    "A {adj} {pet} sat on the {noun} and would not move.",
    "It cost {count} coins, and {hero} had only one.",
    "The bridge was broken, and the water was deep.",
    "Nobody would tell {hero} where to look.",
    "{hero} fell {where} and hurt a foot.",
    "Someone had hidden it under a {adj} {noun}.",
)

_HELP = (
    "Then {helper} came by with a {adj} {noun} and stayed to help.",
    "{helper} heard the crying and asked what was wrong.",
    "So {hero} asked {helper}, who knew every {noun} in {town}.",
    "{helper} shared some {food} and thought about it {how}.",
    "Only {helper} listened to the whole story.",
    "A friend named {helper} lent a {noun} and a rope.",
    "“Do not give up,” said {helper}, and they went on together.",
    "{helper} said that two can do what one can not.",
)

_TURNS = (
    "They walked {where} for {count} hours.",
    "Together they pulled the {noun} aside.",
    "They knocked {count} times and waited.",
    "{hero} sang a {adj} song, and the {who} smiled.",
    "They gave the {who} their {food}.",
    "All night they searched {where}.",
    "{hero} took a deep breath and climbed up.",
    "They traded a {noun} for a {adj} {noun}.",
    "First they found a {noun}, then a {adj} {noun}.",
)

_ENDS: dict[str, tuple[str, ...]] = {
    "happy": (
        "And there, shining in the light, was the {thing}.",
        "At last {hero} held the {thing} and laughed.",
        "The {who} gave {hero} the {thing} as a present.",
        "The {thing} was theirs, and the whole town clapped.",
        "In the end they carried the {thing} home {how}.",
        "{hero} found the {thing} just where {helper} had said.",
    ),
    "sad": (
        "But the {thing} was broken, and nobody could mend it.",
        "When they came, the {thing} was already gone.",
        "The {thing} slipped from their hands and sank.",
        "{hero} never saw the {thing} again.",
        "It was too late, for the {who} had sold the {thing}.",
        "In the end they went home {how}, without the {thing}.",
    ),
}

_LAST: dict[str, tuple[str, ...]] = {
    "happy": (
        "{hero} and {helper} were happy for the rest of the {season}.",
        "They ate {food} and danced until night.",
        "From then on {hero} was never lonely.",
        "That evening everybody smiled.",
        "It was the best day of {month}.",
    ),
    "sad": (
        "{hero} cried, and {helper} had no words.",
        "That night {hero} sat alone {where}.",
        "From then on {hero} seldom laughed.",
        "It was a sad {season} for both of them.",
        "Even the {food} tasted of tears.",
    ),
}

_COUPLETS = (
    ("The {adj} {who} went out to see the {rhyme},", "and came back home with nothing but the {rhyme}."),
    ("I left my {adj} {noun} beside the {rhyme},", "and in the {season} I found it by the {rhyme}."),
    ("O tell me, {who}, have you seen the {rhyme}?", "It lies, so {adj} and {adj}, near the {rhyme}."),
    ("A {pet} looked down upon the {adj} {rhyme},", "and thought it much more {adj} than the {rhyme}."),
    ("When {weather} came and covered up the {rhyme},", "we sat and talked all evening of the {rhyme}."),
    ("My {who} once {did} the {adj} {rhyme},", "and ever since then I have loved the {rhyme}."),
    ("There is a {noun}, there is a {adj} {rhyme},", "there is a {who} who sings about the {rhyme}."),
    ("In {month} the {pet} will wait beside the {rhyme},", "for in the {season} somebody took the {rhyme}."),
    ("So {adj} the {noun} and so {adj} the {rhyme},", "no {who} would trade them for a king's own {rhyme}."),
    ("We walked {where} to find the {rhyme},", "and {how} we heard the {adj} {rhyme}."),
)

_STORY_TITLES = (
    "Stories from {town} for {adj} evenings",
    "Bedtime tales, the {season} collection",
    "Two tales by a {adj} {who}",
    "Tales told {where}",
    "A story hour in {town}",
    "Read aloud at the {gathering}",
)

_VERSE_TITLES = (
    "Rhymes for the {season} in {town}",
    "Verses found in a {adj} {noun}",
    "Poems of a {who} from {town}",
    "Songs we sing {where}",
    "The {adj} book of rhymes, page {count}",
)
