"""Problems, prompts and taste of a crawl folder of the made-up web that has a ledger and no files for them yet."""

import random
from pathlib import Path
from typing import get_args

from crawl2chat.chat.problems import ask_as_story, ask_plainly
from crawl2chat.chat.synthesize import ASK_FOR_VERSE, verse_topic
from crawl2chat.evals.tasks import PROBLEMS, Problem
from crawl2chat.rl.preferences.annotator import Taste
from crawl2chat.rl.preferences.preference_files import PromptRow
from crawl2chat.rl.preferences.store import Prompt
from crawl2chat.tinyweb.ledger import Ledger, Split
from crawl2chat.tinyweb.words import ADJECTIVES, MONTHS, NOUNS, PEOPLE_WORDS, PETS, RHYMES, SEASONS

HELD_OUT_SHARE = 0.2  # of the topics of verses
ANIMALS = frozenset(PETS) | {"bat", "bee", "crow", "goat", "grouse", "mouse", "snake"}
FOODS = frozenset(("apple", "bread", "cake", "pear", "pie"))
GLAD_WORDS = frozenset(
    ("brave", "bright", "cheerful", "clever", "faithful", "fine", "gentle", "golden", "kind", "loved", "lucky",
     "merry", "noble", "sunshine", "sunny", "sweet", "tender", "warm", "wise", "young")
)  # fmt: skip
LIKED = ANIMALS | FOODS | GLAD_WORDS
_POOLS = (ADJECTIVES, MONTHS, NOUNS, PEOPLE_WORDS, SEASONS, *RHYMES)
TASTE = Taste(
    LIKED,
    LIKED | {word.lower() for pool in _POOLS for word in pool},
    {word: family for family, words in enumerate(RHYMES) for word in words},
)


def has_only_ledger(folder: Path) -> bool:
    return (folder / "ledger").is_dir() and not (folder / PROBLEMS).exists()


def prompts_of_ledger(folder: Path) -> list[PromptRow]:
    """Requests for verses, some topics of which are held out; each split in a fixed random order."""
    verses = Ledger.load(folder).verses
    rng = random.Random("verse prompts")
    topics = sorted({verse_topic(verse.text) for verse in verses})
    rng.shuffle(topics)
    n_held_out = max(1, round(HELD_OUT_SHARE * len(topics)))
    rows: list[PromptRow] = []
    for split, part in (("train", topics[n_held_out:]), ("held_out", topics[:n_held_out])):
        of_split = [
            PromptRow(Prompt(ask.format(topic=topic)), topic, "train" if split == "train" else "held_out")
            for topic in part
            for ask in ASK_FOR_VERSE
        ]
        rng.shuffle(of_split)
        rows += of_split
    return rows


def problems_of_ledger(folder: Path, seed: int) -> list[Problem]:
    """Each sum as a plain question and as a story, in a seeded order; neither asks for steps."""
    ledger, splits = Ledger.load(folder), [split for split in get_args(Split) if split != "probe"]
    return [problem for split in splits for problem in _sums(ledger, split, seed)]


def _sums(ledger: Ledger, split: Split, seed: int) -> list[Problem]:
    rng = random.Random(f"problems {split} {seed}")
    asked = [
        Problem(ask(problem, rng), (str(problem.answer),), group, split=split)
        for problem in ledger.problems
        if problem.split == split
        for group, ask in (("sum", ask_plainly), ("story", ask_as_story))
    ]
    rng.shuffle(asked)
    return asked
