"""A reward of your own for problems that you have: right answers, of which shorter ones are worth a little more.

    crawl2chat reinforce problems.jsonl runs/laptop/sft --out runs/short --reinforce.task examples/custom_reward.py

In a recipe: `reinforce.task = "examples/custom_reward.py"`. A reward is any finite number; 1 and more counts as solved
in pass@1 and pass@k. Raise an error for what should never happen: the run then stops and names the problem.
"""

from crawl2chat.evals.tasks import Problem, judge

MAX_BONUS = 0.2
LONG = 400  # characters; answers of this length and more earn no bonus


def reward(problem: Problem, answer: str) -> float:
    """1 for a right answer and up to 0.2 more the shorter it is; 0 for a wrong one, however short."""
    return judge(problem, answer) * (1 + MAX_BONUS * max(0.0, 1 - len(answer) / LONG))
