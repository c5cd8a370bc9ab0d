"""Group-relative policy gradient: of several answers to one prompt, those above the group's mean become more probable.

GRPO (arXiv 2402.03300) as Dr. GRPO (2503.20783) and nanochat do it: on policy, so without clipping and ratios;
without a KL term; without dividing by a deviation; averaged over the tokens of all answers.
Sampler and trainer must mean the same distribution, so answers are drawn at temperature 1 from all tokens.

Shapes: P prompts, K answers each, B = P·K sequences, T tokens, V vocabulary.
"""

import functools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from crawl2chat.generate import Engine, Sampling
from crawl2chat.generate.engine import Completion
from crawl2chat.model import Transformer
from crawl2chat.rl.settings import PolicySettings
from crawl2chat.stages.interrupts import Stop
from crawl2chat.stages.progress import Progress
from crawl2chat.stages.stage import METRICS
from crawl2chat.tokenizer import Tokenizer
from crawl2chat.train.checkpoint import Checkpoints
from crawl2chat.train.data import Batches
from crawl2chat.train.devices import choose_device, deterministic
from crawl2chat.train.guard import Guard
from crawl2chat.train.loop import resume, training_state
from crawl2chat.train.loss import add_gradients, weighted_loss
from crawl2chat.train.metrics import Metrics, read_metrics
from crawl2chat.train.micro_batch import explain_out_of_memory
from crawl2chat.train.optim import MuonAdamW
from crawl2chat.train.schedule import lr_scale
from crawl2chat.train.tracking import tracked

Prompts = list[list[int]]  # (P) token ids, such as of `encode_chat(…, add_generation_prompt=True)`
Groups = list[list[Completion]]  # (P, K)


def group_advantages(rewards_pk: Tensor, *, normalise: Literal["none", "group", "batch"] = "none") -> Tensor:
    """How much better each answer did than its siblings: reward minus the mean of its prompt's group.

    rewards_pk: (prompts, answers per prompt). Returns the same shape.
    Dividing by the group's deviation favours prompts that are nearly solved or nearly hopeless
    (Dr. GRPO, arXiv 2503.20783, section 3), so it is off by default.
    """
    centred_pk = rewards_pk - rewards_pk.mean(dim=1, keepdim=True)
    if normalise == "none":
        return centred_pk
    spread = rewards_pk.std(dim=1, keepdim=True) if normalise == "group" else rewards_pk.std()
    return centred_pk / (spread + 1e-6)


def token_logprobs(model: Transformer, ids_bt: Tensor, mask_bt: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Log-probability of each next token given those before it, and the entropy it was drawn with; in nats.

    Both are (B, T − 1) and belong to ids_bt[:, 1:]. The entropy is for watching and has no gradient.
    With a mask of that shape they are worked out where it is 1 and are 0 elsewhere: the head is most of a small
    model's work, and prompts and padding need none of it.
    """
    next_bt = ids_bt[:, 1:]
    wanted_bt = torch.ones_like(next_bt, dtype=torch.bool) if mask_bt is None else mask_bt.bool()
    log_p_nv = model.logits(model.features(ids_bt)[:, :-1][wanted_bt]).float().log_softmax(dim=-1)
    logprobs_n = -F.nll_loss(log_p_nv, next_bt[wanted_bt], reduction="none")
    with torch.no_grad():
        entropy_n = -(log_p_nv.exp() * log_p_nv).sum(dim=-1)
    nothing_bt = logprobs_n.new_zeros(next_bt.shape)
    return nothing_bt.masked_scatter(wanted_bt, logprobs_n), nothing_bt.masked_scatter(wanted_bt, entropy_n)


def policy_gradient_loss(logprobs_bt: Tensor, advantages_b: Tensor, mask_bt: Tensor) -> Tensor:
    """−Σ advantage · log π over the tokens where the mask is 1, a token (REINFORCE with a token-level mean).

    Every token weighs the same, so a long answer is neither favoured nor spared by its length.
    """
    return -(advantages_b[:, None] * logprobs_bt * mask_bt).sum() / mask_bt.sum()


def sample_groups(engine: Engine, prompts: Prompts, answers: int, sampling: Sampling, first_seed: int) -> Groups:
    """`answers` answers to each prompt, all drawn at once; seeds count up from `first_seed`, prompt by prompt."""
    repeated = [prompt for prompt in prompts for _ in range(answers)]
    drawn = engine.generate(repeated, sampling, range(first_seed, first_seed + len(repeated)))
    return [drawn[i : i + answers] for i in range(0, len(drawn), answers)]


def optimise_policy(
    model: Transformer,
    tokenizer: Tokenizer,
    steps: int,
    settings: PolicySettings,
    out: Path,
    *,
    label: str,
    prompts_for: Callable[[int], Prompts],
    reward: Callable[[int, Prompts, Groups], Tensor],
    replay: Batches | None = None,
    after_step: Callable[[int], dict[str, float]] | None = None,
) -> None:
    """Move `model` in place towards what `reward` rewards, from the newest checkpoint in `out` if there is one.

    A step draws `settings.answers` answers to each prompt of `prompts_for(step)`, asks `reward(step, prompts,
    groups)` for theirs, (P, K), and takes one optimiser step; `replay` gives a batch of earlier conversations that
    is learned along with them (PPO-ptx of InstructGPT, arXiv 2203.02155). `after_step(steps done)` measures every
    `settings.evaluate_every` steps and at the end. Prompts and rewards must depend on the step alone: after a kill
    the run then ends with the same weights. Writes `out/metrics.jsonl` and checkpoints; asked to stop by a signal, it
    writes one and raises KeyboardInterrupt.
    Raises StageError when the gradients are no numbers several times in a row, or when memory runs out.
    """
    device = choose_device(settings)
    engine = Engine(model.to(device), tokenizer)
    optimiser = MuonAdamW(model.named_parameters(), settings.matrix_lr, settings.embedding_lr, weight_decay=0.0)
    metrics = Metrics(out / METRICS)
    sampling = Sampling(max_tokens=settings.max_tokens, seed=settings.seed)
    memory_advice = (
        f"lower {label}.micro_batch_tokens (now {settings.micro_batch_tokens}), {label}.prompts or {label}.answers"
    )
    state = training_state(model, optimiser)
    checkpoints = Checkpoints(out / "checkpoints")
    meant = settings.model_dump(mode="json", exclude=set(settings.RUNTIME_ONLY))
    first = resume(checkpoints, state, meant)
    again = metrics.truncate_after(first)
    guard = Guard(label)
    guard.replay_metrics(read_metrics(metrics.file))
    with (
        deterministic(device),
        checkpoints,
        Progress(label, steps, "step") as progress,
        tracked(metrics, settings.track, label, settings, again),
        Stop() as stop,
    ):
        for step in range(first, steps):
            started = time.monotonic()
            with explain_out_of_memory(label, lambda: memory_advice):
                prompts = prompts_for(step)
                seed = step * len(prompts) * settings.answers
                groups = sample_groups(engine, prompts, settings.answers, sampling, seed)
                sampled_seconds = time.monotonic() - started
                rewards_pk = reward(step, prompts, groups)
                measured = describe(rewards_pk, groups)
                measured |= add_policy_gradients(model, prompts, groups, group_advantages(rewards_pk), settings)
                if replay and settings.replay_weight:
                    measured |= _add_replay(model, replay, step, settings, device)
            norm = torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm).item()
            skipped = guard.judge(step + 1, grad_norm=norm)
            if skipped:
                progress.say(f"{label}: step {step + 1} is skipped: {skipped}")
            elif norm > 0:  # without any signal, Muon would go on by its momentum, at full length
                optimiser.step(step, lr_scale(step, steps, 0.0, settings.decay))
            optimiser.zero_grad()
            done = step + 1
            n_tokens = sum(len(answer.ids) for group in groups for answer in group)
            speed, seconds = round(n_tokens / sampled_seconds), round(time.monotonic() - started, 3)
            metrics.write(
                step=done, **measured, grad_norm=norm, skipped=skipped, tokens_per_second=speed, seconds=seconds
            )
            if after_step and (done % settings.evaluate_every == 0 or done == steps):
                metrics.write(step=done, **after_step(done))
            stopping = stop.asked
            if done % settings.checkpoint_every == 0 or done == steps or stopping:
                checkpoints.save(done, state, meant)
            progress.update(done, metrics.summary())
            if stopping:  # in the last step, too: the figures that come after it may take minutes
                checkpoints.wait()
                break


def describe(rewards_pk: Tensor, groups: Groups) -> dict[str, float]:
    """Mean reward, share of groups whose answers are all rewarded alike and so teach nothing, and lengths."""
    answers = [answer for group in groups for answer in group]
    return {
        "reward": rewards_pk.mean().item(),
        "zero_variance": (rewards_pk == rewards_pk[:, :1]).all(dim=1).float().mean().item(),
        "answer_tokens": sum(len(answer.ids) for answer in answers) / len(answers),
        "cut_short": sum(answer.finish_reason == "length" for answer in answers) / len(answers),
    }


@dataclass(frozen=True)
class _Sample:
    """A prompt with one answer to it, as the trainer reads it."""

    prompt: list[int]
    answer: Completion
    advantage: float

    def __len__(self) -> int:
        return len(self.prompt) + len(self.answer.ids)


def add_policy_gradients(
    model: Transformer, prompts: Prompts, groups: Groups, advantages_pk: Tensor, settings: PolicySettings
) -> dict[str, float]:
    """Add the gradients of `policy_gradient_loss` over all answers, stop tokens included, in micro-batches.

    Returns the mean entropy (nats a token) and the mean and greatest difference between the sampler's and the
    trainer's log-probabilities: rounding, unless the two disagree on what is sampled.
    """
    samples = [
        _Sample(prompt, answer, advantage)
        for prompt, group, advantages in zip(prompts, groups, advantages_pk.tolist(), strict=True)
        for answer, advantage in zip(group, advantages, strict=True)
    ]
    n_tokens = sum(len(sample.answer.ids) for sample in samples)
    device = next(model.parameters()).device
    entropy = gap = greatest_gap = 0.0
    for part in micro_batches(samples, settings.micro_batch_tokens):
        ids_bt, mask_bt, sampled_bt, advantages_b = (tensor.to(device) for tensor in _collate(part))
        logprobs_bt, entropy_bt = token_logprobs(model, ids_bt, mask_bt)
        # a part counts by its share of the tokens, so any split into micro-batches gives one loss
        loss = policy_gradient_loss(logprobs_bt, advantages_b, mask_bt) * (mask_bt.sum() / n_tokens)
        loss.backward()
        gap_bt = (logprobs_bt.detach() - sampled_bt).abs() * mask_bt
        entropy += (entropy_bt * mask_bt).sum().item() / n_tokens
        gap += gap_bt.sum().item() / n_tokens
        greatest_gap = max(greatest_gap, gap_bt.max().item())
    return {"entropy": entropy, "logprob_gap": gap, "logprob_gap_max": greatest_gap}


def micro_batches(samples: Sequence[_Sample], tokens: int) -> Iterator[list[_Sample]]:
    """Samples by length, as many together as fill `tokens` with their padding; one alone may exceed it."""
    part: list[_Sample] = []
    for sample in sorted(samples, key=len):
        if part and len(sample) * (len(part) + 1) > tokens:
            yield part
            part = []
        part.append(sample)
    yield part


def _collate(samples: Sequence[_Sample]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Ids (B, T) padded on the right; mask and the sampler's log-probabilities, (B, T − 1); advantages (B)."""
    longest = max(map(len, samples))
    ids_bt = torch.zeros(len(samples), longest, dtype=torch.long)
    mask_bt, sampled_bt = torch.zeros(2, len(samples), longest - 1)
    for row, sample in enumerate(samples):
        ids_bt[row, : len(sample)] = torch.tensor(sample.prompt + sample.answer.ids)
        answer = slice(len(sample.prompt) - 1, len(sample) - 1)  # predictions stand one place before their tokens
        mask_bt[row, answer] = 1
        sampled_bt[row, answer] = torch.tensor(sample.answer.logprobs)
    return ids_bt, mask_bt, sampled_bt, torch.tensor([sample.advantage for sample in samples])


def _add_replay(
    model: Transformer, replay: Batches, step: int, settings: PolicySettings, device: str
) -> dict[str, float]:
    batch = replay(step)
    rows = max(1, settings.micro_batch_tokens // batch.inputs_bt.shape[1])
    loss_of = functools.partial(weighted_loss, model)
    return {"replay_loss": add_gradients(loss_of, batch, rows, device, settings.replay_weight)}
