"""How often a model solves problems, and why a reward does not rise."""

import math
import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from crawl2chat.evals.judging import Question, question_prompt
from crawl2chat.evals.tasks import Problem, Task, pass_at_k
from crawl2chat.generate import Completion, Engine, Sampling
from crawl2chat.rl.grpo import sample_groups
from crawl2chat.rl.samples import Prompts
from crawl2chat.rl.tool_use import ToolAnswer, ToolUse
from crawl2chat.stages.figures import Figure, mean, share
from crawl2chat.tokenizer import Tokenizer


@dataclass(frozen=True)
class Solved:
    """A problem's sampled answers and the greedy one, with their rewards."""

    problem: Question
    drawn: list[Completion]
    rewards: list[float]  # of each sampled answer
    best: Completion
    best_reward: float

    @property
    def right(self) -> list[bool]:
        return [reward >= 1 for reward in self.rewards]

    @property
    def best_right(self) -> bool:
        return self.best_reward >= 1


def encode_problems(problems: Sequence[Question], tokenizer: Tokenizer, tools: ToolUse | None = None) -> Prompts:
    """Return each problem as the first message of a conversation, up to where the answer begins."""
    if tools:
        return tools.prompts([problem.text for problem in problems], tokenizer)
    return [question_prompt(tokenizer, problem.text) for problem in problems]


def solve(
    engine: Engine,
    task: Task,
    problems: Sequence[Problem],
    samples: int,
    max_tokens: int,
    seed: int,
    tools: ToolUse | None = None,
) -> list[Solved]:
    """Answer each problem `samples` times at temperature 1, and once greedily."""
    prompts = encode_problems(problems, engine.tokenizer, tools)
    groups = sample_groups(engine, prompts, samples, Sampling(max_tokens=max_tokens, seed=seed), 0, tools)
    best = sample_groups(engine, prompts, 1, Sampling(temperature=0, max_tokens=max_tokens), 0, tools)
    return [
        Solved(p, drawn, [task.score(p, c) for c in drawn], one, task.score(p, one))
        for p, drawn, (one,) in zip(problems, groups, best, strict=True)
    ]


def pass_figures(solved: Sequence[Solved], when: str) -> list[Figure]:
    """pass@1 and pass@n with intervals over problems, greedy accuracy, length and entropy; names end in `_when`."""
    n = len(solved[0].right)
    answers = [answer for one in solved for answer in one.drawn]
    logprobs = [logprob for answer in answers for logprob in answer.logprobs]
    calls = [[a.calls for a in one.drawn if isinstance(a, ToolAnswer)] for one in solved]
    return [
        *pass_at_1(solved, f"pass_at_1_{when}"),
        mean(f"pass_at_{n}_{when}", [pass_at_k(n, sum(one.right), n) for one in solved], "share"),
        share(f"greedy_{when}", sum(one.best_right for one in solved), len(solved)),
        mean(f"answer_tokens_{when}", [sum(len(a.ids) for a in one.drawn) / n for one in solved], "tokens"),
        *([mean(f"calls_{when}", [sum(each) / n for each in calls], "per answer")] if any(calls) else []),
        # of sampled tokens, the mean of −log p is an estimate of the entropy that they were sampled with
        Figure(f"entropy_{when}", -sum(logprobs) / len(logprobs), "nats/token", count=len(logprobs)),
    ]


def pass_at_1(solved: Sequence[Solved], name: str) -> list[Figure]:
    """The share of sampled answers that are right, of all problems and, if there are several groups, of each."""
    rates: dict[str, list[float]] = defaultdict(list)
    for one in solved:
        rates[one.problem.group].append(sum(one.right) / len(one.right))
    groups = [mean(f"{name}/{group}", rates[group], "share") for group in sorted(rates) if len(rates) > 1]
    return [mean(name, [rate for of_group in rates.values() for rate in of_group], "share"), *groups]


def mean_reward(solved: Sequence[Solved], name: str) -> Figure:
    """The mean reward of sampled answers, with an interval over problems."""
    return mean(name, [sum(one.rewards) / len(one.rewards) for one in solved])


def gain(before: Sequence[Solved], after: Sequence[Solved], name: str) -> Figure:
    """What pass@1 rose by, with an interval over the same problems before and after."""
    rates = [[sum(one.right) / len(one.right) for one in solved] for solved in (before, after)]
    return mean(name, [later - first for first, later in zip(*rates, strict=True)])


NEARLY_ALL = 0.8  # share of groups whose answers are all rewarded alike
GAP = 0.01  # nats; rounding makes less than a thousandth
COLLAPSED = 0.1  # of the entropy at the beginning


def diagnose(metrics: Sequence[dict[str, Any]]) -> list[str]:
    """Likely causes of a flat reward, each with what to do; none when the reward rises.

    metrics: the lines of `metrics.jsonl`. The first quarter of the steps is compared with the last.
    """
    lines = [line for line in metrics if "reward" in line and "skipped" not in line]
    quarter = max(1, len(lines) // 4)
    early, late = lines[:quarter], lines[-quarter:]
    if len(lines) < 2 or _rises(early, late):
        return []

    def mean(name: str, of: Sequence[dict[str, Any]] = lines) -> float:
        return statistics.fmean(line[name] for line in of)

    words: list[str] = []
    if mean("zero_variance") > NEARLY_ALL:
        share = f"in {100 * mean('zero_variance'):.0f} % of the groups all answers are rewarded alike"
        if mean("reward") < 0.5:
            words.append(f"{share}, mostly as wrong: take easier problems or raise reinforce.answers")
        else:
            words.append(f"{share}, mostly as right: the problems are too easy to learn from; take harder ones")
    if mean("cut_short") > 0.5:
        words.append(f"{100 * mean('cut_short'):.0f} % of the answers don't come to an end: raise reinforce.max_tokens")
    if mean("logprob_gap") > GAP:
        words.append(
            f"sampler and trainer differ by {mean('logprob_gap'):.2g} nats per token: they don't mean the same "
            "distribution (temperature, top-k, top-p, precision)"
        )
    if mean("entropy", late) < COLLAPSED * mean("entropy", early):
        words.append(
            f"the entropy fell from {mean('entropy', early):.2g} to {mean('entropy', late):.2g} nats per token, so the "
            f"answers hardly differ: lower reinforce.matrix_lr or raise reinforce.replay_weight"
        )
    if not words and _rises(late, early):
        words.append("the reward falls: lower reinforce.matrix_lr and reinforce.embedding_lr")
    return words or [
        "nothing else looks wrong: raise reinforce.matrix_lr and reinforce.embedding_lr, or reinforce.steps"
    ]


def _rises(early: Sequence[dict[str, Any]], late: Sequence[dict[str, Any]]) -> bool:
    """Whether the mean reward is higher by more than twice the error that its spread over steps gives it."""
    means = [statistics.fmean(line["reward"] for line in lines) for lines in (early, late)]
    spreads = [statistics.pvariance([line["reward"] for line in lines]) / len(lines) for lines in (early, late)]
    return means[1] - means[0] > 2 * math.sqrt(sum(spreads))
