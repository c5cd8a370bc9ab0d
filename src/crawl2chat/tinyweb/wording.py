"""How a fact about a person is stated, asked and answered: the wordings that the web and later stages share.

Slots: {v} the value, {a} the value with a or an, {they}/{their} the person's pronouns, {name} the full name.
"""

import random
from collections.abc import Sequence

from crawl2chat.tinyweb.ledger import Person, Relation
from crawl2chat.tinyweb.prose import with_article

VERBS: dict[Relation, Sequence[str]] = {  # follow a subject
    "birthplace": (
        "was born in {v}",
        "comes from {v}",
        "is a native of {v}",
        "hails from {v}",
        "came into the world in {v}",
        "first saw daylight in {v}",
        "was born and christened in {v}",
        "calls {v} the town of {their} birth",
        "took {their} first steps in {v}, where {they} was born",
        "has been a child of {v} from birth",
        "is {v} born and bred",
        "started life in {v}",
        "was a baby in {v}",
        "was brought into the world in {v}",
    ),
    "birth_year": (
        "was born in {v}",
        "was born in the year {v}",
        "came into the world in {v}",
        "first drew breath in {v}",
        "has {v} written on the birth certificate",
        "was a newborn child in {v}",
        "arrived in this world in {v}",
        "counts {their} years from {v}",
        "celebrates a birthday that goes back to {v}",
        "entered the church book in {v}",
        "began life in {v}",
        "is a child of the year {v}",
        "opened {their} eyes in {v}",
    ),
    "trade": (
        "works as {a}",
        "is {a} by trade",
        "earns a living as {a}",
        "has become {a}",
        "makes a living as {a}",
        "learned the work of {a}",
        "is {a}",
        "is known as {a}",
        "has long been {a}",
        "is employed as {a}",
        "spends the working day as {a}",
        "took up the trade of {a}",
        "trained to be {a}",
        "serves the town as {a}",
    ),
    "food": (
        "likes {v} best",
        "loves to eat {v}",
        "would eat {v} every day",
        "never says no to {v}",
        "prefers {v} to any other dish",
        "orders {v} at every inn",
        "is fondest of {v}",
        "asks for {v} on feast days",
        "is happiest with a plate of {v}",
        "cooks {v} whenever {they} can",
        "dreams of {v}",
        "has a weakness for {v}",
        "always takes a second helping of {v}",
    ),
    "pet": (
        "keeps {a}",
        "has {a} at home",
        "owns {a}",
        "lives with {a}",
        "shares the house with {a}",
        "looks after {a}",
        "is seldom seen without {their} {v}",
        "goes for walks with {their} {v}",
        "feeds {a} every morning",
        "has {a} for a pet",
        "talks to {their} {v}",
        "is the owner of {a}",
        "brought home {a}",
    ),
}

NOUN_PHRASES: dict[Relation, Sequence[str]] = {  # follow a possessive
    "birthplace": ("birthplace is {v}", "place of birth is {v}", "home town by birth is {v}", "cradle stood in {v}"),
    "birth_year": ("year of birth is {v}", "birth year is {v}", "birth was in {v}", "life began in {v}"),
    "trade": ("trade is that of {a}", "work is that of {a}", "calling is that of {a}", "occupation is {v}"),
    "food": ("favourite food is {v}", "favourite dish is {v}", "choice at table is {v}", "best-loved meal is {v}"),
    "pet": ("pet is {a}", "companion at home is {a}", "animal is {a}", "faithful friend is {a}"),
}

OPENERS: dict[Relation, Sequence[str]] = {  # before a comma and a clause whose subject is the person
    "birthplace": ("Born in {v}", "A native of {v}", "Coming from {v}", "A child of {v} by birth"),
    "birth_year": ("Born in {v}", "A child of the year {v}", "Born back in {v}", "Of the class of {v} by birth"),
    "trade": ("Working as {a}", "Being {a}", "{A} by trade", "As {a}"),
    "food": ("Fond of {v}", "A lover of {v}", "Often found eating {v}", "Never tired of {v}"),
    "pet": ("Together with {their} {v}", "The owner of {a}", "Followed by {their} {v}", "At home with {a}"),
}

ENTRIES: dict[Relation, str] = {  # of a directory
    "birthplace": "birthplace {v}",
    "birth_year": "year of birth {v}",
    "trade": "trade {v}",
    "food": "favourite food {v}",
    "pet": "pet {v}",
}

_QUESTIONS: dict[Relation, Sequence[str]] = {
    "birthplace": (
        "Where was {name} born?",
        "What is the birthplace of {name}?",
        "In which town was {name} born?",
        "Which town does {name} come from?",
        "What is {name}'s birthplace?",
        "From which town does {name} hail?",
        "What town is {name} a native of?",
        "Do you know where {name} was born?",
        "Where did {name} come into the world?",
        "Can you tell me the birthplace of {name}?",
    ),
    "birth_year": (
        "When was {name} born?",
        "In which year was {name} born?",
        "What is the birth year of {name}?",
        "What year was {name} born in?",
        "What is {name}'s year of birth?",
        "Do you know when {name} was born?",
        "Which year did {name} come into the world?",
        "Can you tell me the birth year of {name}?",
        "In what year did {name} begin life?",
    ),
    "trade": (
        "What is {name}'s trade?",
        "What does {name} do for a living?",
        "What is the trade of {name}?",
        "What work does {name} do?",
        "How does {name} earn a living?",
        "What does {name} work as?",
        "What is the occupation of {name}?",
        "Do you know what {name} does for a living?",
        "Can you tell me the trade of {name}?",
    ),
    "food": (
        "What is {name}'s favourite food?",
        "What does {name} like to eat best?",
        "Which dish does {name} prefer?",
        "What is the favourite food of {name}?",
        "What food does {name} love?",
        "What would {name} eat every day?",
        "Which food is {name} fondest of?",
        "Do you know what {name} likes to eat?",
        "Can you tell me the favourite food of {name}?",
    ),
    "pet": (
        "What pet does {name} have?",
        "Which animal does {name} keep?",
        "What is {name}'s pet?",
        "What kind of pet does {name} own?",
        "What animal lives with {name}?",
        "What is the pet of {name}?",
        "Which pet does {name} look after?",
        "Do you know what pet {name} has?",
        "Can you tell me what animal {name} keeps?",
    ),
}

_FOLLOW_UPS: dict[Relation, Sequence[str]] = {  # once the person has been named
    "birthplace": (
        "Where was {they} born?",
        "And where was {they} born?",
        "Which town does {they} come from?",
        "What is {their} birthplace?",
        "And {their} birthplace?",
    ),
    "birth_year": (
        "When was {they} born?",
        "And when was {they} born?",
        "In which year was {they} born?",
        "What is {their} year of birth?",
        "And {their} year of birth?",
    ),
    "trade": (
        "What does {they} do for a living?",
        "And what is {their} trade?",
        "What work does {they} do?",
        "What does {they} work as?",
        "And {their} trade?",
    ),
    "food": (
        "What does {they} like to eat best?",
        "And what is {their} favourite food?",
        "Which dish does {they} prefer?",
        "What food does {they} love?",
        "And {their} favourite food?",
    ),
    "pet": (
        "What pet does {they} have?",
        "And which animal does {they} keep?",
        "What is {their} pet?",
        "What kind of pet does {they} own?",
        "And {their} pet?",
    ),
}

_ANSWERS: dict[Relation, Sequence[str]] = {
    "birthplace": (
        "{name} was born in {v}.",
        "{They} was born in {v}.",
        "{name} comes from {v}.",
        "The birthplace of {name} is {v}.",
    ),
    "birth_year": (
        "{name} was born in {v}.",
        "{They} was born in {v}.",
        "{name} was born in the year {v}.",
        "The birth year of {name} is {v}.",
    ),
    "trade": ("{name} is {a}.", "{They} works as {a}.", "{name} works as {a}.", "The trade of {name} is that of {a}."),
    "food": (
        "{name} likes {v} best.",
        "{They} likes {v} best.",
        "{name} loves to eat {v}.",
        "The favourite food of {name} is {v}.",
    ),
    "pet": ("{name} has {a}.", "{They} keeps {a}.", "{name} keeps {a}.", "The pet of {name} is {a}."),
}


def questions(relation: Relation) -> Sequence[str]:
    """The wordings of a question, with {name} for the full name; at least eight."""
    return _QUESTIONS[relation]


def follow_ups(person: Person, relation: Relation) -> tuple[str, ...]:
    """The wordings of a question that follows another one about the person, who is only she or he in it."""
    return tuple(phrase(wording, person, relation) for wording in _FOLLOW_UPS[relation])


def answer(person: Person, relation: Relation, rng: random.Random, *, named: bool = True) -> str:
    """One short sentence that answers; it holds the value verbatim. Without `named` the person is she or he in it."""
    templates = _ANSWERS[relation]
    if not named:
        templates = [t.replace("{name}", "{They}", 1) for t in templates if t.startswith(("{name} ", "{They} "))]
    return phrase(rng.choice(templates), person, relation)


def phrase(template: str, person: Person, relation: Relation) -> str:
    """Put the person's pronouns, name and value into a wording."""
    value = person.facts[relation]
    they, their = ("she", "her") if person.pronoun == "she" else ("he", "his")
    article = with_article(value)
    return template.format(
        v=value, a=article, A=article.capitalize(), they=they, They=they.capitalize(), their=their, name=person.name
    )
