"""Filling templates from word pools, and the plain sentences that surround the rest of a page."""

import random
import re
from collections.abc import Sequence

from crawl2chat.tinyweb import words

POOLS: dict[str, Sequence[str]] = {
    "noun": words.NOUNS,
    "adj": words.ADJECTIVES,
    "did": words.PAST_VERBS,
    "where": words.PLACES,
    "who": words.PEOPLE_WORDS,
    "season": words.SEASONS,
    "month": words.MONTHS,
    "weekday": words.WEEKDAYS,
    "count": words.COUNTS,
    "weather": words.WEATHER,
    "gathering": words.GATHERINGS,
    "feeling": words.FEELINGS,
    "how": words.RELATIVE_ADVERBS,
    "food": words.FOODS,
    "pet": words.PETS,
}

_SLOT = re.compile(r"\{(\w+?)\d?\}")
_ARTICLE = re.compile(r"\b([Aa]) (?=[aeiouAEIOU])")


def fill(template: str, rng: random.Random, **given: str) -> str:
    """Replace each {slot} by what is given for it or by a random word of its pool; a becomes an where it must.

    A digit after a slot's name ({noun2}) only tells slots apart for the reader; each occurrence draws anew.
    """
    filled = _SLOT.sub(lambda m: given[m[1]] if m[1] in given else rng.choice(POOLS[m[1]]), template)
    return _ARTICLE.sub(r"\1n ", filled)


def capitalised(text: str) -> str:
    return text[0].upper() + text[1:]


def with_article(noun: str) -> str:
    return ("an " if noun[0] in "aeiou" else "a ") + noun


def filler(rng: random.Random, sentences: int, **given: str) -> str:
    """Some different plain sentences about everyday things, as one paragraph."""
    return " ".join(capitalised(fill(t, rng, **given)) for t in rng.sample(_FILLER, sentences))


def title(rng: random.Random, templates: Sequence[str], **given: str) -> str:
    return capitalised(fill(rng.choice(templates), rng, **given))


_FILLER = (
    "The {gathering} was moved to {weekday} because of {weather}.",
    "Somebody left a {adj} {noun} {where}, and the {who} would like to know whose it is.",
    "Last {month} the {who} {did} the {adj} {noun} and nobody complained.",
    "We still talk about the {season} when {weather} came every day for {count} weeks.",
    "My {who} says that a {adj} {noun} is worth more than {count} new ones.",
    "There was {weather} in the morning, and by noon everyone was {feeling}.",
    "The old {noun} {where} has been repaired by a {who}.",
    "If you pass the {adj} {noun} {where}, please shut the gate.",
    "It takes {count} people to carry the {noun}, but only one {who} to lose it.",
    "In {season} the light {where} turns {adj}, and visitors stop to draw it.",
    "A {who} from the next valley brought {count} loaves and a {adj} {noun}.",
    "Nobody remembers who {did} the first {noun} {where}.",
    "The {gathering} ended late, and the {who} was {feeling}.",
    "I bought a {adj} {noun} at the {gathering} and gave it to my {who}.",
    "Every {weekday} a {who} walks {where} and counts the {adj} birds.",
    "The council spent {count} hours on the question of the {adj} {noun}.",
    "With {weather} outside, there is nothing better than {food}.",
    "A {adj} {pet} was seen {where} on {weekday} evening.",
    "They say that the {who} once {did} a {noun} {how}.",
    "The {adj} {noun} in the town hall was a gift from a {who}.",
    "For {count} years the {noun} {where} was kept locked, and then the {who} found a key.",
    "On {weekday} the {who} {did} the {noun} {how}, which made us {feeling}.",
    "People here like {food} in {season} and long walks in {month}.",
    "A {who} and a {who} quarrelled over a {adj} {noun}, but not for long.",
    "The road {where} is closed until {month}, so take the path by the {noun}.",
    "We thank the {who} who {did} the {adj} {noun} for the {gathering}.",
    "It was {weather} that spoiled the {gathering}, not the {food}.",
    "Our {who} keeps a {adj} {noun} on the windowsill and a {pet} in the yard.",
    "Twice in {month} we heard a {noun} {where}, and nobody could explain it.",
    "The best view of the {adj} {noun} is from the bench {where}.",
    "Whoever {did} the {noun} on {weekday} should speak to the {who}.",
    "A naïve {who} might think that a {noun} lasts for ever.",
    "The café {where} now serves {food} on {weekday}.",
    "The façade of the {adj} {noun} shop will be painted in {month}.",
    "As a child I was afraid of the {noun} {where}, and now I am {feeling} when I see it.",
    "A {adj} wind came up, and the {who} {did} the {noun} {how}.",
    "There are {count} ways to mend a {noun}, and the {who} knows them all.",
    "Since {month} the {adj} {pet} {where} has become rather famous.",
    "Not far from here, {where}, a {who} sells {food} and {adj} stories.",
    "The {noun} that the {who} {did} in {month} is back in its place.",
    "Nothing much happened on {weekday}, except that the {pet} {did} a {noun}.",
    "A letter from a {who} praises our {food} and our {adj} {noun}.",
    "When {weather} comes in {season}, the {who} shuts the {adj} {noun} {how}.",
    "Next {month} there will be a {gathering} {where}, and all are welcome.",
    "The children asked for a {adj} {noun}, and they were given {food} instead.",
    "I am {feeling} to report that the {noun} {where} works again.",
    "The choir sang {where}, and a {pet} joined in {how}.",
    "One {adj} {noun} is enough for most families, as my {who} likes to say.",
    "It is said that {count} {adj} coins lie buried {where}.",
    "By {month} the {noun} was gone, and the {who} {did} another one {how}.",
)
