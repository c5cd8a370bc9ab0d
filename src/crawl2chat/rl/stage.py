"""The reinforcement stage: problems with verifiable answers and a chat model in, a better solver out."""

import os
import random
import shutil
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from torch import Tensor

from crawl2chat.chat.conversations import read_conversations, write_conversations
from crawl2chat.chat.measured import read_measured
from crawl2chat.evals.tasks import Problem, Task, load_code, load_task, split_problems
from crawl2chat.generate import Completion, Sampling
from crawl2chat.honesty.checkup import CONVERSATIONS, check_again, copy_forward
from crawl2chat.model import Transformer, load_model
from crawl2chat.rl.grpo import PolicyGradient, engine_for, sample_groups
from crawl2chat.rl.judge_reward import JUDGEMENTS, JudgeReward, judge_of
from crawl2chat.rl.measure import Solved, diagnose, encode_problems, gain, mean_reward, pass_at_1, pass_figures, solve
from crawl2chat.rl.replay import renewed, replay_batches
from crawl2chat.rl.rollout_log import RolloutLog
from crawl2chat.rl.samples import Groups, Prompts
from crawl2chat.rl.served import FOLDER, served_policy
from crawl2chat.rl.settings import ReinforceSettings
from crawl2chat.rl.tool_use import ToolUse, tools_of
from crawl2chat.stages.figures import Figure, mean
from crawl2chat.stages.files import AnyPath, StageError, atomic_write, write_jsonl
from crawl2chat.stages.stage import METRICS
from crawl2chat.tokenizer import Tokenizer
from crawl2chat.train.data import in_epochs
from crawl2chat.train.devices import choose_device, load_engine
from crawl2chat.train.loop import train
from crawl2chat.train.lora import Start
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
    begun = Start(model, settings.lora, device=choose_device(settings))
    start = begun.reference
    task = load_task(problems, settings.task, "reinforce.task")
    task = replace(task, others=other_rewards(settings))
    tools, judge = tools_of(settings, model, tokenizer), judge_of(settings, out)
    training, held_out, too_long = _fitting(task, tokenizer, start, settings, tools)
    training = without_measured(training, model, task.name)
    copy_forward(model, out)
    if not (out / "model").exists():
        rewards = with_judge(task_rewards(task), judge)
        trained = _train(begun, tokenizer, out, settings, task, training, held_out, rewards, tools)
        save_stage_model(trained, tokenizer, out)
    _write_diagnosis(out)

    def solved_by(solver: Transformer) -> list[Solved]:
        prompts = encode_problems(held_out, tokenizer, tools)
        engine = engine_for(solver, tokenizer, prompts, settings, tools)
        return solve(engine, task, held_out, settings.samples, settings.max_tokens, settings.seed, tools)

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
    for other, _ in task.others:
        for solved, when in ((before, "before"), (after, "after")):
            worth = [fmean(other.score(p, c) for c in one.drawn) for p, one in zip(held_out, solved, strict=True)]
            figures.append(mean(f"reward_{when}/{other.name}", worth))
    if judge:
        for solved, when in ((before, "before"), (after, "after")):
            scores = judge.scores(
                [one.problem for one in solved for _ in one.drawn], [a for one in solved for a in one.drawn]
            )
            n = settings.samples
            figures.append(mean(f"judge_{when}", [fmean(scores[i : i + n]) for i in range(0, len(scores), n)]))
    if settings.random_control:
        print("reinforce: training again with coin flips as rewards, as a control", file=sys.stderr)
        (out / "control").mkdir(exist_ok=True)
        control = _train(
            begun, tokenizer, out / "control", settings, task, training, held_out, coin_flips(settings.seed), tools
        )
        by_chance = solved_by(control)
        figures += pass_at_1(by_chance, "random_reward_pass_at_1")[:1]
        figures.append(gain(before, by_chance, "random_reward_gain"))
    engine = load_engine(out, tokenizer, settings, out)
    if (model / CONVERSATIONS).exists():
        earlier = read_conversations(model / CONVERSATIONS)
        write_conversations(renewed(earlier, engine, settings.max_tokens), out / CONVERSATIONS)
    figures += check_again(engine, model, settings.seed, out, "reinforce")
    for folder in (out, out / "control"):  # of use only until the figures are there
        for name in ("checkpoints", FOLDER):
            shutil.rmtree(folder / name, ignore_errors=True)
    (out / JUDGEMENTS).unlink(missing_ok=True)
    return figures


def task_rewards(task: Task) -> Rewards:
    """Rewards as the task gives them, plus its others by their weights. Programs are run several at a time."""

    def worth(problem: Problem, answer: Completion) -> float:
        return task.score(problem, answer) + sum(weight * other.score(problem, answer) for other, weight in task.others)

    def score(step: int, problems: Sequence[Problem], groups: Groups) -> Tensor:
        each = [problem for problem, group in zip(problems, groups, strict=True) for _ in group]
        answers = [answer for group in groups for answer in group]
        if any(problem.check == "code" for problem in problems):
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                rewards = list(pool.map(worth, each, answers))
        else:
            rewards = list(map(worth, each, answers))
        return torch.tensor(rewards).view(len(groups), -1)

    return score


def with_judge(rewards_of: Rewards, judge: JudgeReward | None) -> Rewards:
    """The rewards plus the judge's weighted score of each answer, for which a step's answers are judged together."""
    if judge is None:
        return rewards_of

    def score(step: int, problems: Sequence[Problem], groups: Groups) -> Tensor:
        each = [problem for problem, group in zip(problems, groups, strict=True) for _ in group]
        scores = judge.scores(each, [answer for group in groups for answer in group])
        return rewards_of(step, problems, groups) + judge.weight * torch.tensor(scores).view(len(groups), -1)

    return score


def other_rewards(settings: ReinforceSettings) -> tuple[tuple[Task, float], ...]:
    """What `settings.rewards` names, with its weight. Raises StageError for code that defines no reward."""
    found = []
    for code, weight in settings.weighted_rewards():
        _, reward = load_code(code, "reinforce.rewards")
        if reward is None:
            raise StageError(
                f"reinforce.rewards = {code}: defines no reward; expected a function of problem and answer"
            )
        found.append((Task(code, [], reward), weight))
    return tuple(found)


def coin_flips(seed: int) -> Rewards:
    """Rewards that know nothing of the answers: 0 or 1 by a seeded coin."""

    def flip(step: int, problems: Sequence[Problem], groups: Groups) -> Tensor:
        flips = np.random.default_rng((seed, step)).integers(0, 2, size=(len(groups), len(groups[0])))
        return torch.from_numpy(flips).float()

    return flip


def _fitting(
    task: Task, tokenizer: Tokenizer, model: Transformer, settings: ReinforceSettings, tools: ToolUse | None
) -> tuple[list[Problem], list[Problem], int]:
    """Problems to learn from and to measure with that leave room for an answer, and how many do not."""
    context = model.config.max_position_embeddings
    parts = split_problems(task.problems, settings.measured, task.name)
    fitting = [
        [
            p
            for p, ids in zip(part, encode_problems(part, tokenizer, tools), strict=True)
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
    start: Start,
    tokenizer: Tokenizer,
    out: Path,
    settings: ReinforceSettings,
    task: Task,
    training: Sequence[Problem],
    held_out: Sequence[Problem],
    rewards_of: Rewards,
    tools: ToolUse | None,
) -> Transformer:
    model = start.trainable(settings.seed)
    context = model.config.max_position_embeddings

    def problems_of(step: int) -> list[Problem]:
        order = in_epochs(len(training), settings.prompts, settings.seed, step // settings.updates, problem_order)
        return [training[i] for i in order]

    def rewards(step: int, prompts: Prompts, groups: Groups) -> Tensor:
        return rewards_of(step, problems_of(step), groups)

    watched = held_out[:WATCHED]

    def watch(done: int) -> dict[str, float]:
        greedy = Sampling(temperature=0, max_tokens=settings.max_tokens)
        prompts = encode_problems(watched, tokenizer, tools)
        engine = engine_for(model, tokenizer, prompts, settings, tools)
        answers = [answer for (answer,) in sample_groups(engine, prompts, 1, greedy, 0, tools)]
        return {"held_out_greedy": sum(map(task.solves, watched, answers)) / len(watched)}

    objective = PolicyGradient(
        model,
        tokenizer,
        settings,
        prompts_for=lambda step: encode_problems(problems_of(step), tokenizer, tools),
        reward=rewards,
        replay=replay_batches(start.folder, tokenizer, context, settings),
        reference=start.reference,
        tools=tools,
        served=served_policy(settings, out),
        log=RolloutLog(out, tokenizer, settings, problems_of),
    )
    train(objective, settings.steps, settings, out, label="reinforce", evaluate=watch, adapter_lr=settings.lora.lr)
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
