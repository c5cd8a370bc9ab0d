"""How often a model solves problems: at the first try, in several tries, and at its best guess."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from crawl2chat.evals.grading import is_correct
from crawl2chat.evals.knowledge import Question, question_prompt
from crawl2chat.generate import Engine, Sampling
from crawl2chat.generate.engine import Completion
from crawl2chat.rl.grpo import Prompts, sample_groups
from crawl2chat.stages.figures import Figure, mean, share
from crawl2chat.tokenizer import Tokenizer


@dataclass(frozen=True)
class Solved:
    """A problem's drawn answers and the greedy one, and which are right."""

    problem: Question
    drawn: list[Completion]
    right: list[bool]  # of each drawn answer
    best: Completion
    best_right: bool


def encode_problems(problems: Sequence[Question], tokenizer: Tokenizer) -> Prompts:
    """Each problem as the first message of a conversation, up to where the answer begins."""
    return [question_prompt(tokenizer, problem.text) for problem in problems]


def solve(engine: Engine, problems: Sequence[Question], samples: int, max_tokens: int, seed: int) -> list[Solved]:
    """Answer each problem `samples` times at temperature 1, and once greedily."""
    prompts = encode_problems(problems, engine.tokenizer)
    groups = sample_groups(engine, prompts, samples, Sampling(max_tokens=max_tokens, seed=seed), 0)
    best = engine.generate(prompts, Sampling(temperature=0, max_tokens=max_tokens))
    return [
        Solved(p, drawn, [is_right(p, c) for c in drawn], one, is_right(p, one))
        for p, drawn, one in zip(problems, groups, best, strict=True)
    ]


def is_right(problem: Question, answer: Completion) -> bool:
    """Whether an answer came to an end by itself and is correct."""
    return answer.finish_reason == "stop" and problem.accepts(answer.text, is_correct)


def pass_at_k(n: int, right: int, k: int) -> float:
    """Chance that at least one of k tries is right, unbiased from `right` of n ≥ k tries (arXiv 2107.03374, eq. 1)."""
    return 1 - math.comb(n - right, k) / math.comb(n, k)


def pass_figures(solved: Sequence[Solved], when: str) -> list[Figure]:
    """pass@1 and pass@n with intervals over problems, greedy accuracy, length and entropy; names end in `_when`."""
    n = len(solved[0].right)
    answers = [answer for one in solved for answer in one.drawn]
    logprobs = [logprob for answer in answers for logprob in answer.logprobs]
    return [
        *pass_at_1(solved, f"pass_at_1_{when}"),
        mean(f"pass_at_{n}_{when}", [pass_at_k(n, sum(one.right), n) for one in solved], "share"),
        share(f"greedy_{when}", sum(one.best_right for one in solved), len(solved)),
        mean(f"answer_tokens_{when}", [sum(len(a.ids) for a in one.drawn) / n for one in solved], "tokens"),
        # of drawn tokens, the mean of −log p is an estimate of the entropy that they were drawn with
        Figure(f"entropy_{when}", -sum(logprobs) / len(logprobs), "nats/token", count=len(logprobs)),
    ]


def pass_at_1(solved: Sequence[Solved], name: str) -> list[Figure]:
    """The share of drawn answers that are right, of all problems and, if there are several groups, of each."""
    rates: dict[str, list[float]] = defaultdict(list)
    for one in solved:
        rates[one.problem.group].append(sum(one.right) / len(one.right))
    groups = [mean(f"{name}/{group}", rates[group], "share") for group in sorted(rates) if len(rates) > 1]
    return [mean(name, [rate for of_group in rates.values() for rate in of_group], "share"), *groups]


def gain(before: Sequence[Solved], after: Sequence[Solved], name: str) -> Figure:
    """What pass@1 rose by, with an interval over the same problems before and after."""
    rates = [[sum(one.right) / len(one.right) for one in solved] for solved in (before, after)]
    return mean(name, [later - first for first, later in zip(*rates, strict=True)])
