"""Steps of reinforcement learning per minute: answers drawn, rewarded and learned from."""

import statistics
from functools import partial

import torch

from crawl2chat.rl.grpo import Groups, PolicyGradient, Prompts
from crawl2chat.rl.settings import PolicySettings
from crawl2chat.stages.figures import Figure
from crawl2chat.train.metrics import peak_memory
from gpu_parts.decoding import random_model, random_prompts
from gpu_parts.job import Job, Show, attempt
from gpu_parts.texts import endless
from gpu_parts.training import Enough, run_training

WARM_UP = 1  # steps


def policy(job: Job, show: Show) -> None:
    for precision in ("fp32", "bf16"):
        show(attempt(job, f"GRPO, depth {job.sizes.policy_depth}, {precision}", partial(steps, job, precision)))


def steps(job: Job, precision: str) -> list[Figure]:
    """No answer ends before its limit, so each step draws and learns the same number of tokens.

    A reward that needs no judge: the share of even ids.
    """
    sizes = job.sizes
    tokenizer = endless(sizes.vocab)
    context = sizes.prompt + sizes.new_tokens
    model = random_model(sizes.policy_depth, context, sizes.vocab, "cpu", torch.float32)
    settings = PolicySettings(
        steps=10**6, prompts=sizes.prompts, answers=sizes.answers, max_tokens=sizes.new_tokens, precision=precision,
        replay_weight=0, device=job.device, checkpoint_every=10**9, evaluate_every=10**9,
    )  # fmt: skip
    prompts = random_prompts(job, sizes.prompts)

    def prompts_for(step: int) -> Prompts:
        if step >= WARM_UP + sizes.policy_steps or job.left() <= 0:
            raise Enough
        return prompts

    def reward(step: int, prompts: Prompts, groups: Groups) -> torch.Tensor:
        return torch.tensor([[sum(id % 2 == 0 for id in c.ids) / len(c.ids) for c in group] for group in groups])

    lines = run_training(PolicyGradient(model, tokenizer, settings, prompts_for, reward), settings.steps, settings)
    if len(lines) <= WARM_UP:
        raise TimeoutError(f"{len(lines)} steps in time; the first {WARM_UP} is not counted")
    timed = lines[WARM_UP:]
    seconds = statistics.median(line["seconds"] for line in timed)
    drawn = sizes.prompts * sizes.answers * sizes.new_tokens
    return [
        Figure("steps_per_minute", 60 / seconds, count=len(timed)),
        Figure("step", seconds, "s"),
        Figure("sampled", statistics.median(line["sampled_per_second"] for line in timed), "tokens/s"),
        Figure("tokens_of_a_step", drawn, "tokens"),
        Figure("logprob_gap", statistics.fmean(line["logprob_gap"] for line in timed), "nats"),
        Figure("logprob_gap_max", max(line["logprob_gap_max"] for line in timed), "nats"),
        Figure("peak_memory", peak_memory(job.device) / 1e9, "GB"),
    ]
