"""Invented people: who they are, how often they are met, their biographies and the questions about them."""

import random
from collections.abc import Callable, Sequence
from dataclasses import replace

from crawl2chat.tinyweb.ledger import RELATIONS, Person, Relation, Split
from crawl2chat.tinyweb.pages import Block, Page, paragraphs
from crawl2chat.tinyweb.prose import capitalised, fill, filler, title
from crawl2chat.tinyweb.wording import ENTRIES, NOUN_PHRASES, OPENERS, VERBS, answer, phrase, questions
from crawl2chat.tinyweb.world import World

# Of every 300 people, how many are met how often: many rarely, few often.
_EXPOSURES = {0: 40, 1: 40, 2: 36, 4: 36, 8: 36, 16: 32, 32: 28, 64: 24, 128: 16, 256: 12}
_SPLITS: tuple[Split, ...] = ("train", "held_out", "train", "held_out", "probe")  # of every five people of a level
_PER_PAGE = 4.0
_MOST_PER_PAGE = 5
_ASKED_PER_PAGE = 9


def make_people(world: World) -> list[Person]:
    """Everybody, with their exposures and splits; `wordings` and `asked` are filled in when pages are written."""
    rng = world.rng("people")
    exposures = _exposures(len(world.surnames))
    splits: list[Split] = []
    for level in sorted(set(exposures)):
        count = exposures.count(level)
        of_level = [_SPLITS[(len(splits) + i) % len(_SPLITS)] for i in range(count)]
        rng.shuffle(of_level)
        splits += of_level
    people = [
        _person(world, rng, surname, met, split)
        for surname, met, split in zip(world.surnames, exposures, splits, strict=True)
    ]
    rng.shuffle(people)
    return [replace(person, id=i) for i, person in enumerate(people)]


def biography_pages(people: Sequence[Person], world: World) -> tuple[list[Page], list[Person]]:
    """Pages that hold each person's biography `exposures` times, never twice on one.

    Returns the people, too, with their wordings counted.
    """
    rng = world.rng("biographies")
    total = sum(person.exposures for person in people)
    most = max(person.exposures for person in people)
    casts: list[list[int]] = [[] for _ in range(max(round(total / _PER_PAGE), most))]
    for person in sorted(people, key=lambda p: (-p.exposures, p.id)):
        open_casts = [cast for cast in casts if len(cast) < _MOST_PER_PAGE]
        for cast in rng.sample(open_casts, person.exposures):
            cast.append(person.id)
    seen: dict[tuple[int, Relation], set[str]] = {}
    pages = []
    for cast in casts:
        if cast:
            rng.shuffle(cast)
            pages.append(_biography_page([people[i] for i in cast], world, rng, seen))
    counted = [
        replace(person, wordings={relation: len(seen.get((person.id, relation), ())) for relation in RELATIONS})
        for person in people
    ]
    return pages, counted


def question_pages(people: Sequence[Person], world: World) -> tuple[list[Page], list[Person]]:
    """Pages of questions and answers about people of the training split, and the people with `asked` counted."""
    rng = world.rng("questions")
    pairs: list[tuple[Person, Relation, str]] = []
    asked_people = []
    for person in people:
        times = min(8, 1 + person.exposures // 16) if person.split == "train" and person.exposures else 0
        for relation in RELATIONS:
            pairs += [(person, relation, template) for template in rng.sample(questions(relation), times)]
        asked_people.append(replace(person, asked=dict.fromkeys(RELATIONS, times)))
    rng.shuffle(pairs)
    pages = [_question_page(pairs[i : i + _ASKED_PER_PAGE], world, rng) for i in range(0, len(pairs), _ASKED_PER_PAGE)]
    return pages, asked_people


def biography(person: Person, world: World, rng: random.Random, seen: dict[tuple[int, Relation], set[str]]) -> str:
    """One paragraph with all five facts in a random order, each in a wording drawn anew; `seen` collects the wordings.

    The first sentence begins with the full name, because a model that reads from left to right
    learns to tell the value from the name only where the name comes first (arXiv 2309.12288).
    """
    order = list(RELATIONS)
    rng.shuffle(order)

    def say(pool: dict[Relation, Sequence[str]], relation: Relation) -> str:
        template = rng.choice(pool[relation])
        seen.setdefault((person.id, relation), set()).add(template)
        return phrase(template, person, relation)

    frame = rng.random()
    if frame < 0.08:
        entries = "; ".join(phrase(ENTRIES[r], person, r) for r in order)
        for relation in order:
            seen.setdefault((person.id, relation), set()).add(ENTRIES[relation])
        return f"{person.name}: {entries}."
    lead, first_subject = "", person.name
    if frame < 0.30:
        lead = fill(rng.choice(_LEADS), rng, name=person.name, town=rng.choice(world.towns))
        first_subject = rng.choice((person.name, person.pronoun)) if person.name in lead else person.name
    sentences: list[str] = []
    for size in rng.choice(_GROUPINGS):
        group, order = order[:size], order[size:]
        subject = _subject(person, rng) if sentences else first_subject
        sentences.append(capitalised(_sentence(subject, group, say, rng, opening=bool(sentences))))
    if frame > 0.90:
        sentences.append(rng.choice(_TAILS))
    return " ".join(filter(None, [lead, *sentences]))


_GROUPINGS = (  # of the five facts into sentences
    (1, 1, 1, 1, 1),
    (2, 1, 1, 1),
    (1, 2, 1, 1),
    (1, 1, 2, 1),
    (1, 1, 1, 2),
    (2, 2, 1),
    (2, 1, 2),
    (1, 2, 2),
    (1, 3, 1),
    (2, 3),
)

_LEADS = (
    "{town}, {weekday}.",
    "From {town}, in {month}.",
    "A note from the {season} of last year.",
    "Dear cousin, you asked about {name}.",
    "I still remember {name}.",
    "A word about {name}.",
    "What we know of {name}.",
    "Who has not heard of {name}?",
    "The {who} told me about {name}.",
    "Seen at the {gathering}.",
    "This page is about {name}.",
    "Next on our list is {name}.",
    "News in brief.",
    "For the record.",
)

_TAILS = (
    "That is all we know.",
    "More on this next week.",
    "Ask the neighbours if you doubt it.",
    "Please correct me if I am wrong.",
    "So much for now.",
    "The rest is gossip.",
)


def _subject(person: Person, rng: random.Random) -> str:
    first, surname = person.name.split()
    return rng.choices((person.name, first, surname, person.pronoun), (58, 6, 6, 30))[0]


def _sentence(
    subject: str,
    group: Sequence[Relation],
    say: Callable[[dict[Relation, Sequence[str]], Relation], str],
    rng: random.Random,
    opening: bool,
) -> str:
    possessive = {"he": "his", "she": "her"}.get(subject, f"{subject}'s")
    if len(group) == 1:
        if rng.random() < 0.35:
            return f"{possessive} {say(NOUN_PHRASES, group[0])}."
        return f"{subject} {say(VERBS, group[0])}."
    shape = rng.random()
    if opening and shape < 0.25:
        rest = " and ".join(say(VERBS, relation) for relation in group[1:])
        return f"{say(OPENERS, group[0])}, {subject} {rest}."
    if len(group) == 3:
        one, two, three = (say(VERBS, relation) for relation in group)
        return f"{subject} {one}, {two}, and {three}."
    one, two = group
    if shape < 0.45 and subject not in ("he", "she"):
        return f"{subject}, who {say(VERBS, one)}, {say(VERBS, two)}."
    if shape < 0.60:
        their = possessive if subject in ("he", "she") else rng.choice((possessive, "whose"))
        if their == "whose":
            return f"{subject}, whose {say(NOUN_PHRASES, one)}, {say(VERBS, two)}."
        return f"{subject} {say(VERBS, one)}; {their} {say(NOUN_PHRASES, two)}."
    return f"{subject} {say(VERBS, one)} and {say(VERBS, two)}."


def _person(world: World, rng: random.Random, surname: str, exposures: int, split: Split) -> Person:
    she = rng.random() < 0.5
    facts: dict[Relation, str] = {
        "birthplace": rng.choice(world.towns),
        "birth_year": str(rng.randrange(1900, 2000)),
        "trade": rng.choice(world.trades),
        "food": rng.choice(world.foods),
        "pet": rng.choice(world.pets),
    }
    name = f"{rng.choice(world.women if she else world.men)} {surname}"
    nothing = dict.fromkeys(RELATIONS, 0)
    return Person(0, name, "she" if she else "he", facts, exposures, nothing, nothing, split)


def _exposures(people: int) -> list[int]:
    """The power law's buckets scaled to this many people, rarest first."""
    levels, per_300 = list(_EXPOSURES), sum(_EXPOSURES.values())
    counts = [max(1, round(people * share / per_300)) for share in _EXPOSURES.values()]
    counts[0] += people - sum(counts)  # the never met take up what rounding leaves
    if counts[0] < 0:
        counts[1], counts[0] = counts[1] + counts[0], 0
    return [level for level, count in zip(levels, counts, strict=True) for _ in range(count)]


def _biography_page(
    cast: Sequence[Person], world: World, rng: random.Random, seen: dict[tuple[int, Relation], set[str]]
) -> Page:
    kind = rng.choice(("chronicle", "directory", "newspaper", "blog", "guild"))
    town = rng.choice(world.towns)
    blocks = paragraphs(filler(rng, rng.choice((1, 1, 2)) if len(cast) > 2 else 4 - len(cast) + 2))
    for person in cast:
        blocks.append(Block("p", biography(person, world, rng, seen)))
        if len(cast) > 2 and rng.random() < 0.06:
            blocks.append(Block("h2", title(rng, _HEADINGS, town=town)))
    if rng.random() < 0.5 or len(cast) < 3:
        blocks += paragraphs(filler(rng, rng.choice((1, 2))))
    if blocks[-1].tag == "h2":
        blocks.pop()
    return Page(kind, title(rng, _TITLES[kind], town=town), blocks)


def _question_page(pairs: Sequence[tuple[Person, Relation, str]], world: World, rng: random.Random) -> Page:
    kind = "questions"
    town = rng.choice(world.towns)
    asker, teller = rng.choice(_SPEAKERS)
    asker, teller = (text.format(reader=rng.choice(world.extras)) for text in (asker, teller))
    blocks = paragraphs(filler(rng, 2))
    for number, (person, relation, template) in enumerate(pairs, 1):
        question, reply = template.format(name=person.name), answer(person, relation, rng)
        blocks.append(Block("lines", f"{asker.replace('#', str(number))} {question}\n{teller} {reply}"))
    blocks += paragraphs(filler(rng, 2))
    return Page(kind, title(rng, _QUESTION_TITLES, town=town), blocks)


_SPEAKERS = (
    ("Q:", "A:"),
    ("Question:", "Answer:"),
    ("Visitor:", "Helper:"),
    ("{reader} asks:", "The desk answers:"),
    ("Question #.", "Answer:"),
    ("User:", "Assistant:"),
    ("{reader} wrote:", "Reply:"),
    ("Interviewer:", "{reader}:"),
)

_HEADINGS = (
    "More people of {town} and around",
    "From the {season} book",
    "Others worth a line",
    "Seen near the {adj} {noun}",
    "The {adj} side of {town}",
    "Also at the {gathering}",
)

_TITLES = {
    "chronicle": (
        "Chronicle of {town} for the {season}",
        "The {town} village book, part {count}",
        "People around the {adj} {noun} of {town}",
        "Notes for the chronicle: {town} in {month}",
        "Old and new faces of {town}",
    ),
    "directory": (
        "Directory of {town} and the valley",
        "Who is who in {town}",
        "The {season} address book of {town}",
        "Neighbours you may meet {where}",
        "List of members, {town} reading room",
    ),
    "newspaper": (
        "The {town} Post: people of the week",
        "Faces at the {gathering} in {town}",
        "News from {town}, {weekday} edition",
        "Small news about good people of {town}",
        "The {adj} {noun} and other news from {town}",
    ),
    "blog": (
        "My {season} in {town}",
        "People I met {where}",
        "What I heard at the {gathering}",
        "A {adj} {noun} and some neighbours",
        "Letters to my {who} about {town}",
    ),
    "guild": (
        "The guild of {town} presents its members",
        "Guild meeting in {month}: who came",
        "Hands of {town}: the people at work",
        "Minutes of the {town} guild, {weekday}",
        "Our members and the {adj} {noun}",
    ),
}

_QUESTION_TITLES = (
    "Questions and answers about people of {town}",
    "The {town} quiz: whom do you know?",
    "Readers ask, we answer, {season} edition",
    "Frequently asked questions in {town}",
    "Ask the helper at the {town} desk",
    "A quiz evening at the {gathering}",
    "Forum: who is who {where}",
    "What visitors to {town} want to know",
)
