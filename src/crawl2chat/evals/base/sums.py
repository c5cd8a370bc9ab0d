"""Sums at once and step by step: a token buys one pass through the model, so steps have to be written out."""

import random

from crawl2chat.evals.base.greedy import greedy
from crawl2chat.evals.base.subject import Subject
from crawl2chat.evals.grading import is_correct
from crawl2chat.stages.figures import Figure, mean, share
from crawl2chat.tinyweb.arithmetic import STEP_CUE

LEAD = "Now a question from the town."  # sums stand behind a sentence in the web, none begins a page
AT_ONCE_TOKENS, STEPS_TOKENS = 12, 128  # three digits take 6 and 84


def measure_sums(subject: Subject) -> list[Figure]:
    """Sums that no page holds, asked for in the web's words: by digits, and what steps gain over all."""
    if subject.ledger is None:
        return []
    problems = [problem for problem in subject.ledger.problems if problem.split == "held_out"]
    random.Random(f"{subject.settings.seed}/sums").shuffle(problems)
    problems = problems[: subject.settings.questions]
    asked = [f"{LEAD} {problem.question}" for problem in problems]
    # pages go on with another question on the same line
    at_once = greedy(subject.engine, [f"{text} The answer is" for text in asked], AT_ONCE_TOKENS, ("\n", "?", "."))
    stepwise = greedy(subject.engine, [f"{text} {STEP_CUE}" for text in asked], STEPS_TOKENS, ("\n", "?"))
    marks = {
        name: [is_correct(text, str(problem.answer)) for text, problem in zip(texts, problems, strict=True)]
        for name, texts in (("sums_at_once", at_once), ("sums_step_by_step", stepwise))
    }
    figures: list[Figure] = []
    for name, right in marks.items():
        for digits in sorted({problem.digits for problem in problems}):
            of_digits = [mark for mark, problem in zip(right, problems, strict=True) if problem.digits == digits]
            figures.append(share(f"{name}/{digits}", sum(of_digits), len(of_digits)))
    gains = [
        100.0 * (steps - once) for steps, once in zip(marks["sums_step_by_step"], marks["sums_at_once"], strict=True)
    ]
    return [*figures, mean("steps_gain", gains, "points")] if gains else figures
