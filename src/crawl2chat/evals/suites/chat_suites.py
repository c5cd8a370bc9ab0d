"""Tests of chat models: ARC's questions with choices, problems such as GSM8K's, HumanEval's functions."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from string import ascii_uppercase
from typing import Any

from crawl2chat.evals.judging import question_prompt
from crawl2chat.evals.scoring import Span, score
from crawl2chat.evals.suites.code_answers import program_of
from crawl2chat.evals.suites.core import cut
from crawl2chat.evals.suites.rows import Rows
from crawl2chat.evals.suites.rows import field as value_of
from crawl2chat.evals.suites.rows import text as text_of
from crawl2chat.evals.suites.sandbox import Limits, Outcome, run_programs
from crawl2chat.evals.tasks import Problem, Task, judge, parse_problems, pass_at_k
from crawl2chat.generate import Completion, Engine, Sampling
from crawl2chat.model import Transformer
from crawl2chat.stages.figures import Figure, mean, share
from crawl2chat.stages.files import StageError
from crawl2chat.stages.progress import Progress
from crawl2chat.tokenizer import Tokenizer

PASS_AT = (1, 10, 100)


@dataclass(frozen=True)
class Measured:
    """Figures, and what the model said to each question."""

    figures: list[Figure]
    answers: list[dict[str, Any]] = field(default_factory=list)


def measure_arc(model: Transformer, tokenizer: Tokenizer, rows: Rows) -> Measured:
    """Questions with lettered choices (ARC, arXiv 1803.05457), asked as nanochat's chat_eval asks them.

    The answer is the letter that the model finds most probable where its answer begins, whatever it would write: a
    model that would rather explain itself is not counted as wrong for that. Rows have CORE's form (query, choices,
    gold) or the hub's (question, choices.text, choices.label, answerKey).
    """
    context = model.config.max_position_embeddings
    questions = [_choices_of(rows, i) for i in range(len(rows.rows))]
    groups, n_cut = [], 0
    for text, choices, _ in questions:
        prompt = question_prompt(tokenizer, _with_letters(text, choices))
        spans = [Span(prompt + tokenizer.encode(letter), len(prompt)) for letter in ascii_uppercase[: len(choices)]]
        n_cut += any(len(span.ids) > context for span in spans)
        groups.append([cut(span, context) for span in spans])
    with Progress("arc", sum(map(len, groups)), "letter") as progress:
        scores = score(model, groups, progress.advance)
    nats = [[of.nats for of in found] for found in scores]
    chosen = [of.index(min(of)) for of in nats]
    answers = [
        {"question": text, "answer": choices[letter], "right": letter == right}
        for (text, choices, right), letter in zip(questions, chosen, strict=True)
    ]
    n, marks = len(questions), sum(letter == of[2] for of, letter in zip(questions, chosen, strict=True))
    return Measured([share("arc_accuracy", marks, n), share("arc_questions_cut_to_the_context", n_cut, n)], answers)


def _with_letters(question: str, choices: Sequence[str]) -> str:
    listed = "".join(f"- {choice}={letter}\n" for choice, letter in zip(choices, ascii_uppercase, strict=False))
    return f"Multiple Choice question: {question}\n{listed}\nRespond only with the letter of the correct answer."


def _choices_of(rows: Rows, i: int) -> tuple[str, list[str], int]:
    """A row's question, its choices, and which of them is right."""
    flat = "query" in rows.rows[i]
    choices = value_of(rows, i, "choices") if flat else value_of(rows, i, "choices", "text")
    if not isinstance(choices, list) or len(choices) > len(ascii_uppercase):
        raise StageError(f"{rows.source}, row {i}: choices = {choices!r}; expected a list of at most 26 texts")
    if flat:
        question, right = text_of(rows, i, "query").removeprefix("Question: "), rows.rows[i].get("gold")
        if not isinstance(right, int) or not 0 <= right < len(choices):
            raise StageError(f"{rows.source}, row {i}: gold = {right!r} is not one of its {len(choices)} choices")
        return question, choices, right
    labels, key = value_of(rows, i, "choices", "label"), value_of(rows, i, "answerKey")
    if not isinstance(labels, list) or len(labels) != len(choices):
        raise StageError(f"{rows.source}, row {i}: {len(choices)} choices have the labels {labels!r}; expected as many")
    if key not in labels:
        raise StageError(f"{rows.source}, row {i}: answerKey = {key!r} is not one of its labels {labels!r}")
    return text_of(rows, i, "question"), choices, labels.index(key)


def problems_of_rows(rows: Rows) -> list[Problem]:
    """Return the rows of a test set as problems. Raises StageError that names the rows whose answer can't be graded."""
    return parse_problems(((f"row {i}", row) for i, row in enumerate(rows.rows)), rows.source)


def measure_task(engine: Engine, task: Task, label: str, sampling: Sampling, samples: int = 1) -> Measured:
    """Problems such as GSM8K's word problems (arXiv 2110.14168): how often answers are right, and their mean reward.

    label: what names of figures begin with.
    """
    completions = _complete(engine, [problem.text for problem in task.problems], sampling, samples, label)
    rewards = [
        [task.reward_of(problem, c.text) if c else 0.0 for c in of_problem]
        for problem, of_problem in zip(task.problems, completions, strict=True)
    ]
    answers: list[dict[str, Any]] = [
        {"question": problem.text, "expected": problem.expected, "answer": c.text if c else None, "right": reward >= 1}
        for problem, of_problem, earned in zip(task.problems, completions, rewards, strict=True)
        for c, reward in zip(of_problem, earned, strict=True)
    ]
    figures = pass_figures(label, [[reward >= 1 for reward in earned] for earned in rewards])
    if task.reward is not judge:
        figures.append(mean(f"{label}_reward", [sum(earned) / samples for earned in rewards]))
        for answer, reward in zip(answers, chain.from_iterable(rewards), strict=True):
            answer["reward"] = reward
    return Measured(figures + _how_it_went(label, completions), answers)


def measure_humaneval(
    engine: Engine, rows: Rows, sampling: Sampling, samples: int = 1, limits: Limits | None = None
) -> Measured:
    """Functions to complete (arXiv 2107.03374): right if the row's tests pass. RUNS WHAT THE MODEL WROTE: sandbox.py.

    The model is asked for the whole function in a code block; code_answers.py says what counts of its answer.
    """
    n_rows = len(rows.rows)
    prompts = [text_of(rows, i, "prompt") for i in range(n_rows)]
    names = [text_of(rows, i, "entry_point") for i in range(n_rows)]
    tests = [text_of(rows, i, "test") for i in range(n_rows)]
    questions = [
        f"Complete this Python function. Answer with the whole function in a code block.\n\n```python\n{prompt}\n```"
        for prompt in (prompt.rstrip() for prompt in prompts)
    ]
    completions = _complete(engine, questions, sampling, samples, "humaneval")
    programs = [
        program_of(prompts[i], names[i], tests[i], c.text) for i, of_row in enumerate(completions) for c in of_row if c
    ]
    outcomes: list[Outcome] = []
    with Progress("sandbox", len(programs), "program") as progress:
        for begin in range(0, len(programs), 16):
            outcomes += run_programs(programs[begin : begin + 16], limits)
            progress.update(len(outcomes))
    marks: list[list[bool]] = [[] for _ in completions]
    answers: list[dict[str, Any]] = []
    came_of = iter(outcomes)
    for prompt, of_row, rights in zip(prompts, completions, marks, strict=True):
        for c in of_row:
            outcome = next(came_of) if c else Outcome(False, False, "")
            rights.append(outcome.passed)
            said = {"question": prompt, "answer": c.text if c else None}
            answers.append(said | {"right": outcome.passed, "stderr": outcome.stderr[-500:]})
    timed_out = share("humaneval_timed_out", sum(outcome.timed_out for outcome in outcomes), len(outcomes))
    return Measured([*pass_figures("humaneval", marks), timed_out, *_how_it_went("humaneval", completions)], answers)


def pass_figures(suite: str, marks: Sequence[Sequence[bool]]) -> list[Figure]:
    """`suite_pass_at_k` for each k that there are samples for; marks: of each problem's samples, as many of each."""
    n = len(marks[0])
    if n == 1:
        return [share(f"{suite}_pass_at_1", sum(map(sum, marks)), len(marks))]
    return [
        mean(f"{suite}_pass_at_{k}", [pass_at_k(n, sum(of), k) for of in marks], "share")
        for k in sorted({*PASS_AT, n})
        if k <= n
    ]


def _complete(
    engine: Engine, questions: Sequence[str], sampling: Sampling, samples: int, label: str
) -> list[list[Completion | None]]:
    """`samples` answers to each question; None where a question leaves no room for one in the model's context."""
    prompts = [question_prompt(engine.tokenizer, text) for text in questions]
    fitting = [i for i, prompt in enumerate(prompts) if len(prompt) < engine.context for _ in range(samples)]
    completions: list[list[Completion | None]] = [[] for _ in prompts]
    found = engine.generate([prompts[i] for i in fitting], sampling, label=label)
    for i, completion in zip(fitting, found, strict=True):
        completions[i].append(completion)
    return [of or [None] * samples for of in completions]


def _how_it_went(suite: str, completions: Sequence[Sequence[Completion | None]]) -> list[Figure]:
    written = [c for of_row in completions for c in of_row if c]
    too_long = sum(of_row[0] is None for of_row in completions)
    figures = [share(f"{suite}_answers_that_end", sum(c.finish_reason == "stop" for c in written), len(written))]
    if written:
        figures.append(mean(f"{suite}_tokens_of_an_answer", [float(len(c.ids)) for c in written], "tokens"))
    return [*figures, share(f"{suite}_questions_too_long", too_long, len(completions))]
