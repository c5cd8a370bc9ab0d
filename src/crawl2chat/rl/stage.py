"""The reinforcement stage: problems with verifiable answers and a chat model in, a better solver out."""

import random
import shutil
import sys
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from crawl2chat.chat.conversations import read_conversations, write_conversations
from crawl2chat.chat.measured import read_measured
from crawl2chat.evals.tasks import Problem, Task, load_task, split_problems
from crawl2chat.generate import Engine, Sampling
from crawl2chat.honesty.checkup import CONVERSATIONS, check_again, copy_forward
from crawl2chat.model import Transformer, load_model
from crawl2chat.rl.grpo import Groups, PolicyGradient, Prompts
from crawl2chat.rl.measure import Solved, diagnose, encode_problems, gain, mean_reward, pass_at_1, pass_figures, solve
from crawl2chat.rl.replay import renewed, replay_batches
from crawl2chat.rl.settings import ReinforceSettings
from crawl2chat.stages.figures import Figure
from crawl2chat.stages.files import AnyPath, StageError, atomic_write, write_jsonl
from crawl2chat.stages.stage import METRICS
from crawl2chat.tokenizer import Tokenizer
from crawl2chat.train.data import in_epochs
from crawl2chat.train.devices import choose_device
from crawl2chat.train.loop import train
from crawl2chat.train.metrics import read_metrics
from crawl2chat.train.pretrain import save_stage_model

SHOWN = 40  # held-out problems whose answers are written down
WATCHED = 64  # held-out problems answered while training

Rewards = Callable[[int, Sequence[Problem], Groups], Tensor]  # of a step's problems, (P, K)


def reinforce(problems: AnyPath, model: AnyPath, out: AnyPath, settings: ReinforceSettings) -> list[Figure]:
    """Train the earlier stage's `model` on problems by rewarding right answers; measure it on held-out problems.

    `problems` is a file of problems, a folder with `problems.jsonl`, or Python code that defines a task. The same
    training with coin flips for rewards is the control: what it gains is not owed to the rewards (arXiv 2506.10947).
    Raises StageError for problems or a task that can't be used.
    """
    model, out = Path(model), Path(out)
    tokenizer = Tokenizer.load(model)
    start = load_model(model, device=choose_device(settings))
    task = load_task(problems, settings.task, "reinforce.task")
    training, held_out, too_long = _fitting(task, tokenizer, start, settings)
    training = without_measured(training, model, task.name)
    copy_forward(model, out)
    if not (out / "model").exists():
        trained = _train(model, tokenizer, out, settings, task, training, held_out, task_rewards(task))
        save_stage_model(trained, tokenizer, out)
    _write_diagnosis(out)

    def solved_by(solver: Transformer) -> list[Solved]:
        return solve(Engine(solver, tokenizer), task, held_out, settings.samples, settings.max_tokens, settings.seed)

    before, after = solved_by(start), solved_by(load_model(out, device=choose_device(settings)))
    _write_answers(before, after, out / "answers.jsonl")
    figures = [
        Figure("problems", len(training)),
        Figure("problems_too_long", too_long),
        *pass_figures(before, "before"),
        *pass_figures(after, "after"),
        gain(before, after, "pass_at_1_gain"),
    ]
    if settings.task:
        figures += [mean_reward(before, "reward_before"), mean_reward(after, "reward_after")]
    if settings.random_control:
        print("reinforce: training again with coin flips as rewards, as a control", file=sys.stderr)
        (out / "control").mkdir(exist_ok=True)
        control = _train(
            model, tokenizer, out / "control", settings, task, training, held_out, coin_flips(settings.seed)
        )
        by_chance = solved_by(control)
        figures += pass_at_1(by_chance, "random_reward_pass_at_1")[:1]
        figures.append(gain(before, by_chance, "random_reward_gain"))
    engine = Engine(load_model(out, device=choose_device(settings)), tokenizer)
    if (model / CONVERSATIONS).exists():
        earlier = read_conversations(model / CONVERSATIONS)
        write_conversations(renewed(earlier, engine, settings.max_tokens), out / CONVERSATIONS)
    figures += check_again(engine, model, settings.seed, out, "reinforce")
    for folder in (out, out / "control"):  # of use only until the figures are there
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    return figures


def task_rewards(task: Task) -> Rewards:
    """Rewards as the task gives them."""

    def score(step: int, problems: Sequence[Problem], groups: Groups) -> Tensor:
        return torch.tensor([[task.score(p, c) for c in group] for p, group in zip(problems, groups, strict=True)])

    return score


def coin_flips(seed: int) -> Rewards:
    """Rewards that know nothing of the answers: 0 or 1 by a seeded coin."""

    def flip(step: int, problems: Sequence[Problem], groups: Groups) -> Tensor:
        flips = np.random.default_rng((seed, step)).integers(0, 2, size=(len(groups), len(groups[0])))
        return torch.from_numpy(flips).float()

    return flip


def _fitting(
    task: Task, tokenizer: Tokenizer, model: Transformer, settings: ReinforceSettings
) -> tuple[list[Problem], list[Problem], int]:
    """Problems to learn from and to measure with that leave room for an answer, and how many do not."""
    context = model.config.max_position_embeddings
    parts = split_problems(task.problems, settings.measured, task.name)
    fitting = [
        [
            p
            for p, ids in zip(part, encode_problems(part, tokenizer), strict=True)
            if len(ids) <= context - settings.max_tokens
        ]
        for part in parts
    ]
    too_long = sum(map(len, parts)) - sum(map(len, fitting))
    if not all(fitting):
        raise StageError(
            f"{task.name}: {too_long} problems don't fit the model's context of {context} tokens with an answer of "
            f"reinforce.max_tokens = {settings.max_tokens}; too few are left"
        )
    return fitting[0], fitting[1], too_long


def without_measured(training: Sequence[Problem], model: Path, source: object) -> list[Problem]:
    """Leave out problems that the model's folder holds to be measured again, if an earlier stage divided otherwise.

    Raises StageError if none is left.
    """
    measured = {problem.text for problem in read_measured(model).problems}
    left = [problem for problem in training if problem.text not in measured]
    if not left:
        raise StageError(f"{source}: all problems to learn from are in {model}, to be measured again; add others")
    return left


@lru_cache(maxsize=4)
def problem_order(count: int, seed: int, epoch: int) -> list[int]:
    """The order in which an epoch takes the problems."""
    return random.Random(f"epoch {epoch} {seed}").sample(range(count), count)


def _train(
    base: Path,
    tokenizer: Tokenizer,
    out: Path,
    settings: ReinforceSettings,
    task: Task,
    training: Sequence[Problem],
    held_out: Sequence[Problem],
    rewards_of: Rewards,
) -> Transformer:
    model = load_model(base)
    context = model.config.max_position_embeddings

    def problems_of(step: int) -> list[Problem]:
        return [training[i] for i in in_epochs(len(training), settings.prompts, settings.seed, step, problem_order)]

    def rewards(step: int, prompts: Prompts, groups: Groups) -> Tensor:
        return rewards_of(step, problems_of(step), groups)

    watched = held_out[:WATCHED]

    def watch(done: int) -> dict[str, float]:
        greedy = Sampling(temperature=0, max_tokens=settings.max_tokens)
        answers = Engine(model, tokenizer).generate(encode_problems(watched, tokenizer), greedy)
        return {"held_out_greedy": sum(map(task.solves, watched, answers)) / len(watched)}

    objective = PolicyGradient(
        model,
        tokenizer,
        settings,
        prompts_for=lambda step: encode_problems(problems_of(step), tokenizer),
        reward=rewards,
        replay=replay_batches(base, tokenizer, context, settings),
    )
    train(objective, settings.steps, settings, out, label="reinforce", evaluate=watch)
    return model


def _write_diagnosis(out: Path) -> None:
    """Say why the reward stays flat, if it does, on the terminal and in `diagnosis.txt`."""
    words = diagnose(read_metrics(out / METRICS))
    for line in words:
        print(f"reinforce: the reward stays flat; {line}", file=sys.stderr)
    with atomic_write(out / "diagnosis.txt") as temporary:
        temporary.write_text("".join(f"{line}\n" for line in words or ["The reward rises."]), encoding="utf-8")


def _write_answers(before: Sequence[Solved], after: Sequence[Solved], file: Path) -> None:
    """The first held-out problems with the greedy answers before and after, and how many sampled ones were right."""
    rows = [
        {
            "question": new.problem.text,
            "expected": new.problem.expected,
            "group": new.problem.group,
            "before": old.best.text,
            "after": new.best.text,
            "right_before": old.best_right,
            "right_after": new.best_right,
            "passed_before": f"{sum(old.right)} of {len(old.right)}",
            "passed_after": f"{sum(new.right)} of {len(new.right)}",
        }
        for old, new in zip(before[:SHOWN], after[:SHOWN], strict=True)
    ]
    write_jsonl(file, rows)
