"""Problems of a crawl folder of the made-up web that has a ledger and no `problems.jsonl` yet."""

import random
from pathlib import Path
from typing import get_args

from crawl2chat.chat.problems import ask_as_story, ask_plainly
from crawl2chat.evals.tasks import PROBLEMS, Problem
from crawl2chat.tinyweb.ledger import Ledger, Split


def has_only_ledger(folder: Path) -> bool:
    return (folder / "ledger").is_dir() and not (folder / PROBLEMS).exists()


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
