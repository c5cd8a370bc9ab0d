"""Problems with answers that can be checked: sums of the fictional web, or a file in GSM8K's form."""

import json
import random
from collections import defaultdict
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from crawl2chat.chat.problems import ask_as_story, ask_plainly
from crawl2chat.evals.grading import reference_part
from crawl2chat.evals.knowledge import Question
from crawl2chat.stages.files import AnyPath, StageError
from crawl2chat.stages.json_rows import JsonRows, NotJson
from crawl2chat.tinyweb.ledger import Ledger, Split
from crawl2chat.train import data

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


def read_gsm8k(file: AnyPath) -> list[Question]:
    """Read JSON lines or a JSON array (.gz too) of `{"question": …, "answer": "… #### 42"}` (arXiv 2110.14168).

    The part behind "####" may be any value or text that grading.py compares; a short answer needs no "####".
    A repeated question counts once. Raises StageError naming each kind of bad row, with the first line that has it,
    rather than training on half a file in silence.
    """
    file = Path(file)
    problems: dict[str, Question] = {}
    bad: dict[str, list[str]] = defaultdict(list)
    for place, row in _rows(file):
        try:
            question, part = _question_and_answer(row)
        except ValueError as error:
            bad[str(error)].append(place)
        else:
            problems.setdefault(question, Question(question, part, "gsm8k"))
    if bad:
        count = sum(map(len, bad.values()))
        kinds = [
            f"  {places[0]}{f' and {len(places) - 1:,} more' if len(places) > 1 else ''}: {found}"
            for found, places in bad.items()
        ]
        more = [f"  and {len(kinds) - 10:,} more kinds"] if len(kinds) > 10 else []
        expected = 'expected {"question": "…", "answer": "… #### 42"}'
        raise StageError("\n".join([f"{file}: {count:,} bad rows; {expected}", *kinds[:10], *more]))
    return list(problems.values())


def in_epochs(count: int, per_step: int, seed: int, step: int) -> list[int]:
    """Which `per_step` of `count` problems a step takes: all of them once per epoch, each time in a new order."""
    return data.in_epochs(count, per_step, seed, step, _order)


@lru_cache(maxsize=4)
def _order(count: int, seed: int, epoch: int) -> list[int]:
    return random.Random(f"epoch {epoch} {seed}").sample(range(count), count)


def _question_and_answer(row: object) -> tuple[str, str]:
    """Raises ValueError with what was found."""
    if isinstance(row, ValueError):
        raise row
    if not isinstance(row, dict):
        raise ValueError(f"found {json.dumps(row, ensure_ascii=False)[:40]}, not an object")
    for name in ("question", "answer"):
        if name not in row:
            raise ValueError(f'found no "{name}" but {", ".join(row) or "nothing"}')
        if not isinstance(row[name], str) or not row[name].strip():
            raise ValueError(f'found "{name}": {json.dumps(row[name], ensure_ascii=False)[:40]}, not a text')
    try:
        return row["question"], reference_part(row["answer"])
    except ValueError as error:
        raise ValueError(f"found an answer that can't be graded: {error}") from error


def _rows(file: Path) -> Iterator[tuple[str, object]]:
    """Each row and where it is; a ValueError in the place of a line that is not JSON."""
    rows = JsonRows(file, is_row=lambda value: isinstance(value, dict) and "question" in value)
    for number, row in rows:
        yield f"{rows.unit} {number}", ValueError("found a line that is not JSON") if isinstance(row, NotJson) else row
