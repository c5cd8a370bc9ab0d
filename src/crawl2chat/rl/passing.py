"""How often a model solves problems: at the first try, in several tries, and at its best guess."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from crawl2chat.evals.knowledge import Question, question_prompt
from crawl2chat.evals.tasks import Problem, Task, pass_at_k
from crawl2chat.generate import Completion, Engine, Sampling
from crawl2chat.rl.grpo import Prompts, sample_groups
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


def encode_problems(problems: Sequence[Question], tokenizer: Tokenizer) -> Prompts:
    """Return each problem as the first message of a conversation, up to where the answer begins."""
    return [question_prompt(tokenizer, problem.text) for problem in problems]


def solve(
    engine: Engine, task: Task, problems: Sequence[Problem], samples: int, max_tokens: int, seed: int
) -> list[Solved]:
    """Answer each problem `samples` times at temperature 1, and once greedily."""
    prompts = encode_problems(problems, engine.tokenizer)
    groups = sample_groups(engine, prompts, samples, Sampling(max_tokens=max_tokens, seed=seed), 0)
    best = engine.generate(prompts, Sampling(temperature=0, max_tokens=max_tokens))
    return [
        Solved(p, drawn, [task.score(p, c) for c in drawn], one, task.score(p, one))
        for p, drawn, one in zip(problems, groups, best, strict=True)
    ]


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
