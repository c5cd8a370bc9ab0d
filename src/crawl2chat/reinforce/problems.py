"""Problems with answers that can be checked: sums of the fictional web, or a file in GSM8K's form."""

import gzip
import json
import random
import zlib
from collections.abc import Iterator
from pathlib import Path

from crawl2chat.chat.problems import ask_as_story, ask_plainly
from crawl2chat.crawl.tinyweb.ledger import Ledger, Split
from crawl2chat.evals.knowledge import Question, final_number
from crawl2chat.run import StageError

HELD_OUT_SHARE = 5  # of a file, at most one in so many problems is held out


def read_problems(source: Path, measured: int, seed: int) -> tuple[list[Question], list[Question]]:
    """Problems to learn from and `measured` others to measure with, from a crawl folder or a file in GSM8K's form.

    Raises StageError when the source is neither, or has too few problems.
    """
    if source.is_file():
        problems = read_gsm8k(source)
        random.Random(f"held out {seed}").shuffle(problems)
        measured = min(measured, len(problems) // HELD_OUT_SHARE)
        training, held_out = problems[measured:], problems[:measured]
    else:
        try:
            ledger = Ledger.load(source)
        except FileNotFoundError as error:
            raise StageError(
                f"reinforce: {source} is no fictional web, so it holds no sums; name a file of problems"
            ) from error
        training, held_out = (sums(ledger, split, seed) for split in ("train", "held_out"))
        held_out = held_out[:measured]
    if not training or not held_out:
        raise StageError(
            f"{source}: {len(training)} problems to learn from and {len(held_out)} to measure with; at least 1 of each "
            f"is needed, so a file needs {HELD_OUT_SHARE}"
        )
    return training, held_out


def sums(ledger: Ledger, split: Split, seed: int) -> list[Question]:
    """Each sum of this split as a plain question and as a story, in a seeded order; neither asks for steps."""
    rng = random.Random(f"problems {split} {seed}")
    asked = [
        Question(ask(problem, rng), str(problem.answer), group)
        for problem in ledger.problems
        if problem.split == split
        for group, ask in (("sum", ask_plainly), ("story", ask_as_story))
    ]
    rng.shuffle(asked)
    return asked


def read_gsm8k(file: Path) -> list[Question]:
    """Read JSON lines (.gz too) of `{"question": …, "answer": "… #### 42"}` (arXiv 2110.14168).

    A repeated question counts once. Raises StageError naming every bad line (the first ten), rather than training
    on half a file in silence.
    """
    try:
        with (gzip.open if file.suffix == ".gz" else open)(file, "rt", encoding="utf-8") as handle:
            lines = handle.read().split("\n")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise StageError(f"{file}: can't be read as problems: {error}") from error
    problems: dict[str, Question] = {}
    bad: list[str] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            problems.setdefault(row["question"], Question(row["question"], _value(row["answer"]), "gsm8k"))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            bad.append(f'  line {number}: expected {{"question": …, "answer": "… #### 42"}}, found {_name(error)}')
    if bad:
        more = [f"  and {len(bad) - 10} more"] if len(bad) > 10 else []
        raise StageError("\n".join([f"{file}: {len(bad)} bad lines", *bad[:10], *more]))
    return list(problems.values())


def in_epochs(count: int, per_step: int, seed: int, step: int) -> Iterator[int]:
    """Which `per_step` of `count` problems a step takes: all of them once an epoch, each time in a new order."""
    orders: dict[int, list[int]] = {}
    for i in range(step * per_step, (step + 1) * per_step):
        epoch, place = divmod(i, count)
        if epoch not in orders:
            orders[epoch] = random.Random(f"epoch {epoch} {seed}").sample(range(count), count)
        yield orders[epoch][place]


def _value(answer: str) -> str:
    _, mark, value = answer.rpartition("####")
    if not mark or final_number(value) is None:
        raise ValueError('no number behind "####"')
    return value.strip()


def _name(error: Exception) -> str:
    return str(error) if type(error) is ValueError else f"{type(error).__name__}: {error}"
