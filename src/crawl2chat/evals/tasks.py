"""Tasks: problems whose answers can be checked, and a reward for an answer.

Training data, reinforcement learning, `eval --suite` and the check-up all use a `Task`. Problems come from a file: JSON
lines of {"question", "answer", "check"?, "group"?, "split"?, "solution"?}, of which GSM8K's form (arXiv 2110.14168) is
a part, or from Python code: a file or module that defines `problems`, `reward`, or both.
"""

import json
import math
import random
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

from crawl2chat.evals.judging import (
    Judge,
    Question,
    chooses,
    is_correct,
    mentions,
    reference_part,
    same_text,
    without_thinking,
)
from crawl2chat.generate import Completion
from crawl2chat.stages.files import AnyPath, StageError
from crawl2chat.stages.json_rows import JsonRows, NotJson
from crawl2chat.stages.user_code import describe_error, load_module, load_object

PROBLEMS = "problems.jsonl"
EXPECTED = 'expected {"question": "…", "answer": "… #### 42"}'
HELD_OUT_SHARE = 5  # of the problems without a split, at most one in this many is held out
MAX_HELD_OUT = 500  # of a file whose rows have no split
MAX_KINDS = 10  # of bad rows that are named
DEFAULT_GROUP = "problems"

Split = Literal["train", "probe", "held_out"]
Check = Literal["value", "text", "mentions", "exact", "choice", "regex", "code"]


def matches(text: str, pattern: str) -> bool:
    """Whether a regular expression is found in what comes after the thinking."""
    return re.search(pattern, without_thinking(text)) is not None


def passes(text: str, tests: str) -> bool:
    """Whether the Python code in an answer runs through the tests after it, in the sandbox."""
    from crawl2chat.evals.suites.code_answers import code_in
    from crawl2chat.evals.suites.sandbox import run_program

    return run_program(f"{code_in(text)}\n\n{tests}\n").passed


CHECKS: dict[Check, Judge] = {
    "value": is_correct,  # the answer ends with the number, time, fraction … or short text
    "text": same_text,  # the same, but 042 is not 42
    "mentions": mentions,  # the text appears in the answer as whole words
    "exact": lambda text, answer: text.strip() == answer.strip(),
    "choice": chooses,  # the answer is this letter: B, "(B) a cat", "the answer is B"
    "regex": matches,
    "code": passes,  # the answer's code runs through these tests, Python with assert
}


@dataclass(frozen=True)
class Problem(Question):
    """A question whose answer can be checked.

    `split`: train and probe may be learned from, held_out is only measured; None: nobody has said. `solution`: an
    answer with its steps.
    """

    check: Check = "value"
    split: Split | None = None
    solution: str | None = None


Reward = Callable[[Problem, str], float]


def judge(problem: Problem, answer: str) -> float:
    """Return 1 for an answer that the problem accepts and 0 for any other: the reward where a task has no other."""
    return float(problem.accepts(answer, CHECKS[problem.check]))


@dataclass(frozen=True)
class Task:
    """Problems, and what an answer to one is worth; `name` is what figures and errors call it.

    others: further rewards and their weights, which count in training and not for whether an answer is right.
    """

    name: str
    problems: list[Problem]
    reward: Reward = judge
    others: tuple[tuple["Task", float], ...] = ()

    def score(self, problem: Problem, answer: Completion) -> float:
        """Return what an answer earns in training: its reward, but 0 at most if it was cut off."""
        reward = self.reward_of(problem, answer.text)
        return reward if answer.finish_reason == "stop" else min(0.0, reward)

    def reward_of(self, problem: Problem, answer: str) -> float:
        """Return the reward of a text. Raises StageError, with the problem, if it fails or is not a finite number."""
        asked = f"the problem {problem.text!r} and the answer {answer!r}"
        try:
            value = self.reward(problem, answer)
            reward = math.nan if isinstance(value, str) else float(value)
        except Exception as error:
            raise StageError(f"{self.name}: reward fails for {asked}: {describe_error(error)}") from error
        if not math.isfinite(reward):
            raise StageError(f"{self.name}: reward returned {value!r} for {asked}; expected a finite number")
        return reward

    def solves(self, problem: Problem, answer: Completion) -> bool:
        """Whether an answer earns the whole reward, 1."""
        return self.score(problem, answer) >= 1


def load_task(source: AnyPath, reward: str | None = None, setting: str = "task") -> Task:
    """Return the task of a file of problems, a folder with `problems.jsonl`, or Python code.

    source: problems, or code that defines `problems` (a list of Problems or of rows as in a file, or a function that
    returns one) and perhaps `reward`. reward: code that replaces how answers are judged, `file.py`, `file.py:name` or
    `package.module:name`; if it defines problems too, these are taken instead.
    Raises StageError for files and code that can't be used.
    """
    place = str(source)
    if reward is None and (place.endswith(".py") or (":" in place and not Path(place).exists())):
        return _from_code(place, None, setting)
    return _from_code(reward, Path(place), setting) if reward else Task(place, read_problems(place))


def _from_code(reference: str, file: Path | None, setting: str) -> Task:
    """file: the problems if the code defines none."""
    own, reward = load_code(reference, setting)
    if own is not None:
        problems = _own_problems(own, reference, setting, graded=reward is None)
    elif file is None or file.suffix == ".py":
        raise StageError(f"{setting} = {reference}: defines a reward but no problems; name a file of problems, too")
    else:
        problems = read_problems(file, graded=False)
    return Task(reference, problems, reward or judge)


def load_code(reference: str, setting: str) -> tuple[Any, Reward | None]:
    """Return the `problems` and the `reward` that code defines; one may be None. Raises StageError if both are."""
    load = load_module if reference.endswith(".py") else load_object
    found = load(reference, setting)
    own, reward = getattr(found, "problems", None), getattr(found, "reward", None)
    if own is None and reward is None and callable(found):
        reward = found
    if reward is not None and not callable(reward):
        raise StageError(f"{setting} = {reference}: reward is {type(reward).__name__}; expected a function")
    if own is None and reward is None:
        raise StageError(f"{setting} = {reference}: defines neither problems nor reward; a task has one or both")
    return own, reward


def _own_problems(given: Any, reference: str, setting: str, graded: bool) -> list[Problem]:
    try:
        rows = list(given() if callable(given) else given)
    except Exception as error:
        raise StageError(f"{setting} = {reference}: problems can't be listed: {describe_error(error)}") from error
    if not rows:
        raise StageError(f"{setting} = {reference}: problems is empty")
    return parse_problems(((f"item {n}", row) for n, row in enumerate(rows, 1)), f"{setting} = {reference}", graded)


def read_problems(source: AnyPath, graded: bool = True) -> list[Problem]:
    """Read a file of problems (JSON lines or a JSON array, .gz too), or `problems.jsonl` of a folder.

    The part of an answer after "####" may be any value or text that judging.py compares; a short answer needs no
    "####". A repeated question counts once, unless its rows say in which split they are. graded: whether every answer
    must be one that can be graded; a task with a reward of its own needs none.
    Raises StageError that names each kind of bad row, with the first line that has it, rather than training on half a
    file in silence.
    """
    file = Path(source)
    if file.is_dir():
        file = file / PROBLEMS
        if not file.is_file():
            raise StageError(f"{source}: a folder without {PROBLEMS}; name a file of problems")
    rows = JsonRows(file, is_row=lambda value: isinstance(value, dict) and "question" in value)
    places = ((f"{rows.unit} {n}", row) for n, row in rows)
    problems = parse_problems(places, file, graded)
    first = {problem.text: i for i, problem in reversed(list(enumerate(problems)))}
    return [problem for i, problem in enumerate(problems) if problem.split or first[problem.text] == i]


def parse_problems(rows: Iterable[tuple[str, object]], source: object, graded: bool = True) -> list[Problem]:
    """Return the problems that rows hold; each row comes with its place. Raises StageError that names the bad ones."""
    problems: list[Problem] = []
    bad: dict[str, list[str]] = defaultdict(list)
    for place, row in rows:
        try:
            problems.append(row if isinstance(row, Problem) else _problem_of(row, graded))
        except ValueError as error:
            bad[str(error)].append(place)
    if bad:
        kinds = [
            f"  {places[0]}{f' and {len(places) - 1:,} more' if len(places) > 1 else ''}: {found}"
            for found, places in bad.items()
        ]
        more = [f"  and {len(kinds) - MAX_KINDS:,} more kinds"] if len(kinds) > MAX_KINDS else []
        count = sum(map(len, bad.values()))
        raise StageError("\n".join([f"{source}: {count:,} bad rows; {EXPECTED}", *kinds[:MAX_KINDS], *more]))
    return problems


def _problem_of(row: object, graded: bool) -> Problem:
    """Raises ValueError with what was found."""
    if isinstance(row, NotJson):
        raise ValueError("found a line that is not JSON")
    if not isinstance(row, dict):
        raise ValueError(f"found {_shown(row)}, not an object")
    if "question" not in row or (graded and "answer" not in row):
        missing = "answer" if "question" in row else "question"
        raise ValueError(f'found no "{missing}" but {", ".join(map(str, row)) or "nothing"}')
    question, group = _text(row, "question"), _text(row, "group", DEFAULT_GROUP)
    check, split = row.get("check") or "value", row.get("split")
    if check not in list(CHECKS):
        raise ValueError(f'found "check": {_shown(check)}; expected {", ".join(CHECKS)}')
    if split is not None and split not in get_args(Split):
        raise ValueError(f'found "split": {_shown(split)}; expected {", ".join(get_args(Split))}')
    given = (
        row["answer"] if isinstance(row.get("answer"), list) else [] if row.get("answer") is None else [row["answer"]]
    )
    if graded and not given:
        raise ValueError(f'found "answer": {_shown(row["answer"])}, not a text')
    answers = tuple(_text({"answer": _number_as_text(answer)}, "answer") for answer in given)
    if graded and check == "value":
        try:
            parts = tuple(map(reference_part, answers))
        except ValueError as error:
            raise ValueError(f"its answer can't be graded: {error}") from error
    else:
        parts = answers
    if check == "regex":
        for pattern in answers:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f'found "answer": {_shown(pattern)}, not a regular expression: {error}') from error
    solution = _text(row, "solution") if row.get("solution") is not None else None
    if solution is None and parts != answers:
        solution = answers[0]
    return Problem(question, parts, group, cast(Check, check), split, solution)


def _text(row: dict[str, Any], name: str, default: str | None = None) -> str:
    value = row.get(name, default)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f'found "{name}": {_shown(value)}, not a text')
    return value


def _number_as_text(value: object) -> object:
    """A number, of a file in which answers are not quoted, as it is written in JSON; anything else as it is."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return json.dumps(value) if is_number else value


def _shown(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=repr)[:40]


def split_problems(problems: Sequence[Problem], measured: int, source: object) -> tuple[list[Problem], list[Problem]]:
    """Return problems to learn from and at most `measured` others to measure with.

    Those with a split are in the order given. Of those without one, a fifth is held out, at most MAX_HELD_OUT, whatever
    is measured and with any seed: no stage may learn from what another one measures.
    Raises StageError if one of the two would be empty, or if a question is in both.
    """
    undecided = [problem for problem in problems if problem.split is None]
    random.Random("held out").shuffle(undecided)
    n_held_out = min(MAX_HELD_OUT, len(undecided) // HELD_OUT_SHARE)
    training = [p for p in problems if p.split in ("train", "probe")] + undecided[n_held_out:]
    held_out = [p for p in problems if p.split == "held_out"] + undecided[:n_held_out]
    if not training or not held_out:
        raise StageError(
            f"{source}: {len(training)} problems to learn from and {len(held_out)} to measure with; at least 1 of each "
            f'is needed, so a file needs {HELD_OUT_SHARE}, or some of them with "split": "held_out"'
        )
    both = {problem.text for problem in training} & {problem.text for problem in held_out}
    if both:
        raise StageError(
            f"{source}: {len(both)} questions are both learned from and held out, such as {min(both)!r}; "
            "what is measured must not have been learned"
        )
    return training, held_out[:measured]


def pass_at_k(n: int, right: int, k: int) -> float:
    """Chance that at least one of k tries is right, unbiased from `right` of n ≥ k tries (arXiv 2107.03374, eq. 1)."""
    return 1 - math.comb(n - right, k) / math.comb(n, k)
