"""What is measured of a chat model, and what its folder carries so that each later stage can measure it again.

`questions.jsonl` and `problems.jsonl` in a model's folder hold only what is asked at the end, so that the check-up of
later stages needs none of the files that an earlier one was made from.
"""

import random
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from crawl2chat.chat.asking import ask_directly, ask_for_steps, ask_plainly
from crawl2chat.evals.judging import SUM_TOKENS, Answer, Question, ask, is_correct
from crawl2chat.evals.questions import QuestionRow, read_questions, write_questions
from crawl2chat.evals.tasks import Problem, judge, read_problems, split_problems
from crawl2chat.generate import Engine
from crawl2chat.stages.files import atomic_write, write_jsonl

CONVERSATIONS, QUESTIONS, PROBLEMS, CARD = "conversations.jsonl", "questions.jsonl", "problems.jsonl", "card.json"
PER_GROUP = 100  # problems that are asked in each way
MEASURED_PROBLEMS = 200  # of a file whose rows have no split


@dataclass(frozen=True)
class Measured:
    """What is asked at the end and never taught from."""

    questions: list[QuestionRow]
    problems: list[Problem]

    def __bool__(self) -> bool:
        return bool(self.questions or self.problems)

    def write(self, out: Path) -> None:
        """Leave both in a stage's folder; a kind without any leaves no file."""
        if self.questions:
            write_questions(self.questions, out / QUESTIONS)
        if self.problems:
            write_jsonl(out / PROBLEMS, map(_row_of, self.problems))

    @property
    def what(self) -> str:
        """What figures call the problems: the made-up web's are sums, grouped by their digits."""
        return "sums" if all(problem.group.endswith(" digits") for problem in self.problems) else "problems"


def read_measured(folder: Path) -> Measured:
    """Return what an earlier stage left in its folder with `Measured.write`."""
    questions, problems = folder / QUESTIONS, folder / PROBLEMS
    return Measured(
        read_questions(questions) if questions.is_file() else [], read_problems(problems) if problems.is_file() else []
    )


def held_out_questions(rows: Sequence[QuestionRow]) -> list[QuestionRow]:
    return [row for row in rows if row.split == "held_out"]


def share_out(problems: Sequence[Problem], source: object) -> tuple[list[Problem], list[Problem]]:
    """Return the problems to learn from, and those to measure with.

    Measured are the held-out problems of the groups that nothing is learned from; all held-out ones if each group has
    problems to learn from. A file without splits is divided as the stage reinforce divides it.
    """
    if all(problem.split is None for problem in problems):
        return split_problems(problems, MEASURED_PROBLEMS, source)
    training = [problem for problem in problems if problem.split in ("train", "probe")]
    held_out = [problem for problem in problems if problem.split == "held_out"]
    learned = {problem.group for problem in problems if problem.split != "held_out"}
    return training, [problem for problem in held_out if problem.group not in learned] or held_out


def copy_forward(model: Path, out: Path) -> None:
    """Copy what later stages need of an earlier one."""
    for name in (CONVERSATIONS, CARD, QUESTIONS, PROBLEMS):
        if (model / name).is_file():
            with atomic_write(out / name) as temporary:
                shutil.copyfile(model / name, temporary)


def write_answers(answers: Sequence[Answer], file: Path) -> None:
    """Write a row per answer: the question, what was said, and whether it is right."""
    rows = (
        {
            "question": answer.question.text,
            "answer": answer.text,
            "expected": answer.question.expected,
            "right": answer.right,
            "group": answer.question.group,
        }
        for answer in answers
    )
    write_jsonl(file, rows)


def ask_each_fact(rows: Iterable[QuestionRow], seed: int) -> list[Question]:
    """Each fact once, in one of its wordings."""
    rng = random.Random(f"questions {seed}")
    return [Question(rng.choice(row.wordings), row.answers, row.group) for row in rows]


def in_two_ways(problems: Sequence[Problem], seed: int) -> tuple[list[Problem], list[Problem]]:
    """Some problems of each group, asked for an answer at once, and the same ones step by step."""
    rng = random.Random(f"sums {seed}")
    at_once: list[Problem] = []
    in_steps: list[Problem] = []
    for problem in _some_of_each_group(problems):
        at_once.append(replace(problem, text=ask_directly(problem.text, rng)))
        in_steps.append(replace(problem, text=ask_for_steps(problem.text, rng)))
    return at_once, in_steps


def plainly(problems: Sequence[Problem], seed: int) -> list[Problem]:
    """The problems of `in_two_ways`, asked without a word on how to answer."""
    rng = random.Random(f"plain sums {seed}")
    return [replace(problem, text=ask_plainly(problem.text, rng)) for problem in _some_of_each_group(problems)]


def ask_problems(engine: Engine, problems: Sequence[Problem]) -> list[Answer]:
    """Put each problem to a chat model, greedily; each is judged as it says itself."""
    answers = ask(engine, problems, is_correct, SUM_TOKENS)
    return [replace(a, right=judge(p, a.text) >= 1) for p, a in zip(problems, answers, strict=True)]


def _some_of_each_group(problems: Sequence[Problem]) -> list[Problem]:
    groups = dict.fromkeys(problem.group for problem in problems)
    return [p for group in groups for p in [p for p in problems if p.group == group][:PER_GROUP]]


def _row_of(problem: Problem) -> dict[str, Any]:
    answers = list(problem.answers)
    row: dict[str, Any] = {"question": problem.text, "answer": answers[0] if len(answers) == 1 else answers}
    row |= {"check": problem.check} if problem.check != "value" else {}
    row |= {"group": problem.group, "split": "held_out"}
    return row | ({"solution": problem.solution} if problem.solution else {})
