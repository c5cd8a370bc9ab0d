"""What the made-up web writes to be asked for: prompts for verses, the taste that judges them, and presets for chat."""

import random
from collections.abc import Iterator
from typing import Any

from crawl2chat.chat.presets import Column, Preset, story_preset, sum_presets
from crawl2chat.tinyweb.ledger import Ledger
from crawl2chat.tinyweb.teaching import ASK_FOR_VERSE, verse_topic
from crawl2chat.tinyweb.words import ADJECTIVES, MONTHS, NOUNS, PEOPLE_WORDS, PETS, RHYMES, SEASONS

HELD_OUT_SHARE = 0.2  # of the topics
OPENING_WORDS = 7  # of a passage that is to be recited

# The simulated annotator likes animals, things to eat and whatever sounds glad.
ANIMALS = frozenset(PETS) | {"bat", "bee", "crow", "goat", "grouse", "mouse", "snake"}
FOODS = frozenset(("apple", "bread", "cake", "pear", "pie"))
GLAD_WORDS = frozenset(
    "brave bright cheerful clever faithful fine gentle golden kind loved lucky merry noble sunshine sunny sweet "
    "tender warm wise young".split()
)
LIKED = ANIMALS | FOODS | GLAD_WORDS
# Words that carry a verse's meaning; those of its grammar may be repeated.
CONTENT = LIKED | {
    word.lower() for pool in (ADJECTIVES, MONTHS, NOUNS, PEOPLE_WORDS, SEASONS, *RHYMES) for word in pool
}


def prompt_rows(ledger: Ledger) -> Iterator[dict[str, str]]:
    """Requests for verses, with prompts about some topics held out; each split in a fixed random order.

    No seed decides, so that what a person ranks beforehand is never what a run holds out.
    """
    rng = random.Random("verse prompts")
    topics = sorted({verse_topic(verse.text) for verse in ledger.verses})
    rng.shuffle(topics)
    n_held_out = max(1, round(HELD_OUT_SHARE * len(topics)))
    for split, part in (("train", topics[n_held_out:]), ("held_out", topics[:n_held_out])):
        rows = [
            {"prompt": ask.format(topic=topic), "group": topic, "split": split}
            for topic in part
            for ask in ASK_FOR_VERSE
        ]
        rng.shuffle(rows)
        yield from rows


def taste() -> dict[str, Any]:
    """Word lists by which the simulated annotator ranks verses."""
    return {"liked": sorted(LIKED), "content": sorted(CONTENT), "rhymes": [list(words) for words in RHYMES]}


def presets_of(ledger: Ledger) -> Iterator[Preset]:
    """Questions for the chat page of which this web knows what is to be seen: names, sums and passages are its own."""
    people = sorted((p for p in ledger.people if p.split == "held_out"), key=lambda p: (p.exposures, p.id))
    asked = "What does {} do for a living?"
    if people and people[-1].exposures:
        known = people[-1]
        yield Preset(
            "Somebody well known",
            asked.format(known.name),
            f"{known.name} is described on {known.exposures} pages of this web, as a {known.facts['trade']}. What "
            "was met often can be known by heart. Does the base model know it, too?",
            _columns("pretrain", "sft", "honesty"),
        )
    if once := [person for person in people if person.exposures == 1]:
        yield Preset(
            "Somebody met once",
            asked.format(once[0].name),
            f"{once[0].name} is on one page, as a {once[0].facts['trade']}: seldom enough to be "
            "forgotten. Which model makes something up, which one says that it does not know, and which one looks it "
            "up?",
            (*_columns("sft", "honesty"), Column("honesty", tools=True)),
        )
    if never := [person for person in people if not person.exposures]:
        yield Preset(
            "Nobody",
            asked.format(never[0].name),
            f"No page speaks of {never[0].name}, so nothing can be known. Which model invents an answer "
            "(a hallucination), and which one says that it does not know?",
            (*_columns("pretrain", "sft", "honesty"), Column("honesty", tools=True)),
        )
    for problem in ledger.problems:
        if problem.split == "held_out" and problem.operator == "+" and min(problem.operands) > 99:
            yield from sum_presets(*problem.operands)
            break
    for story in ledger.stories[:1]:
        yield story_preset(f"Tell me a story about {story.hero}.")
    if ledger.passages:
        often = max(ledger.passages, key=lambda passage: passage.copies)
        yield Preset(
            "A text read often",
            " ".join(often.text.split()[:OPENING_WORDS]),
            f"This beginning is on about {often.copies} pages, always with the same continuation. Under the answer, "
            "“Where is this from?” finds what of it is in the training documents word for word.",
            (Column("pretrain", text=True),),
        )


def _columns(*stages: str) -> tuple[Column, ...]:
    return tuple(map(Column, stages))
