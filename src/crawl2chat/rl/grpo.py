"""Group-relative policy gradient: of several answers to one prompt, those above the group's mean become more probable.

GRPO (arXiv 2402.03300) as Dr. GRPO (2503.20783) and nanochat do it: on policy, so without clipping and ratios;
without a KL term; without dividing by a deviation; averaged over the tokens of all answers.
Sampler and trainer must mean the same distribution, so answers are drawn at temperature 1 from all tokens.

Shapes: P prompts, K answers each, B = P·K sequences, T tokens, V vocabulary.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from crawl2chat.generate import Engine, Sampling
from crawl2chat.generate.request import Completion
from crawl2chat.model import Transformer
from crawl2chat.model.ragged import by_length, pad
from crawl2chat.rl.settings import PolicySettings
from crawl2chat.stages.files import StageError
from crawl2chat.tokenizer import Tokenizer
from crawl2chat.train.data import Batches
from crawl2chat.train.distributed import SINGLE_PROCESS, ParallelModel, Ranks
from crawl2chat.train.loop import Learner, Objective
from crawl2chat.train.memory import MicroBatch
from crawl2chat.train.next_token import add_gradients, rows_of_rank
from crawl2chat.train.settings import TrainerSettings

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


def token_logprobs(
    model: Transformer | ParallelModel, ids_bt: Tensor, mask_bt: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Log-probability of each next token given those before it, and the entropy it was drawn with; in nats.

    Both are (B, T − 1) and belong to ids_bt[:, 1:]. The entropy is for watching and has no gradient.
    With a mask of that shape they are worked out where it is 1 and are 0 elsewhere: the head is most of a small
    model's work, and prompts and padding need none of it.
    """
    next_bt = ids_bt[:, 1:]
    wanted_bt = torch.ones_like(next_bt, dtype=torch.bool) if mask_bt is None else mask_bt.bool()
    log_p_nv = model(ids_bt, at_bt=F.pad(wanted_bt, (0, 1))).float().log_softmax(dim=-1)
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


class PolicyGradient(Objective):
    """Answers drawn from the model, rewarded, and made more or less probable by how they did.

    A step draws `settings.answers` answers to each prompt of `prompts_for(step)`, asks `reward(step, prompts, groups)`
    for theirs, (P, K), and adds the gradients of `policy_gradient_loss`; `replay` gives a batch of earlier
    conversations that is learned along with them (PPO-ptx of InstructGPT, arXiv 2203.02155).
    Prompts and rewards must depend on the step alone. On several ranks each draws the answers to its share of the
    prompts, the first one asks for the rewards, and gradients are averaged over the tokens of all.
    """

    model: Transformer

    def __init__(
        self,
        model: Transformer,
        tokenizer: Tokenizer,
        settings: PolicySettings,
        prompts_for: Callable[[int], Prompts],
        reward: Callable[[int, Prompts, Groups], Tensor],
        replay: Batches | None = None,
    ) -> None:
        """Raises StageError for fsdp, of which no rank has the whole model to draw from."""
        if settings.parallel == "fsdp":
            raise StageError("parallel = fsdp: answers are drawn from the whole model on each GPU; use ddp or auto")
        self.model, self.tokenizer, self.settings = model, tokenizer, settings
        self.prompts_for, self.reward = prompts_for, reward
        self.replay = replay if settings.replay_weight else None
        self.engine: Engine | None = None

    def micro_batch(self, settings: TrainerSettings, device: str, label: str, ranks: Ranks) -> MicroBatch:
        otherwise = f"{label}.max_tokens, {label}.prompts or {label}.answers"
        return MicroBatch(settings, device, label, alone=ranks.size == 1, otherwise=otherwise)

    def accumulate_gradients(self, step: int, learner: Learner) -> dict[str, Any]:
        """Rewards, lengths, entropy and the gap between sampler and trainer of a step's answers."""
        started, ranks = time.monotonic(), learner.ranks
        self.engine = self.engine or Engine(self.model, self.tokenizer)
        prompts, answers = self.prompts_for(step), self.settings.answers
        share = ranks.rows(len(prompts))
        sampling = Sampling(max_tokens=self.settings.max_tokens, seed=self.settings.seed)
        first_seed = (step * len(prompts) + share.start) * answers
        drawn = sample_groups(self.engine, prompts[share], answers, sampling, first_seed)
        groups = [group for part in ranks.gather_objects(drawn) for group in part]
        self.step_tokens = sum(len(answer.ids) for group in groups for answer in group)
        sampled_per_second = round(self.step_tokens / (time.monotonic() - started))
        rewards_pk = ranks.gather_objects(self.reward(step, prompts, groups) if ranks.first else None)[0]
        assert rewards_pk is not None
        samples = samples_of(prompts, groups, group_advantages(rewards_pk))

        def attempt(tokens: int) -> dict[str, float]:
            measured = add_policy_gradients(learner.model, samples, tokens, ranks, last=self.replay is None)
            if self.replay:
                batch = self.replay(step)
                weight = batch.weights_bt.sum().item()
                loss = add_gradients(learner, rows_of_rank(batch, ranks), tokens, weight, self.settings.replay_weight)
                measured["replay_loss"] = ranks.gather([loss]).sum().item()
            return measured

        measured = learner.micro_batch.fitting(
            attempt, learner.optimiser.zero_grad, rows=len(samples), row_tokens=max(map(len, samples))
        )
        return describe(rewards_pk, groups) | measured | {"sampled_per_second": sampled_per_second}


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
class Sample:
    """A prompt with one answer to it, as the trainer reads it."""

    prompt: list[int]
    answer: Completion
    advantage: float

    def __len__(self) -> int:
        return len(self.prompt) + len(self.answer.ids)


def samples_of(prompts: Prompts, groups: Groups, advantages_pk: Tensor) -> list[Sample]:
    """One sample per answer, prompt by prompt."""
    return [
        Sample(prompt, answer, advantage)
        for prompt, group, advantages in zip(prompts, groups, advantages_pk.tolist(), strict=True)
        for answer, advantage in zip(group, advantages, strict=True)
    ]


def add_policy_gradients(
    model: ParallelModel, samples: Sequence[Sample], tokens: int, ranks: Ranks = SINGLE_PROCESS, *, last: bool = True
) -> dict[str, float]:
    """Add the gradients of `policy_gradient_loss` over all answers, stop tokens included, in micro-batches of `tokens`.

    samples: those of all ranks, of which each takes a share. last: whether no other gradients follow in this step.
    Returns the mean entropy (nats per token) and the mean and greatest difference between the sampler's and the
    trainer's log-probabilities: rounding, unless the two disagree on what is sampled.
    """
    n_tokens = sum(len(sample.answer.ids) for sample in samples)
    mine = samples[ranks.rows(len(samples))]
    # a rank without a share makes the calls that the others wait for, with an answer of which no token counts
    parts = [[mine[i] for i in part] for part in by_length(list(map(len, mine)), tokens)] or [[samples[-1]]]
    entropy = gap = greatest_gap = 0.0
    for i, part in enumerate(parts, 1):
        ids_bt, mask_bt, sampled_bt, advantages_b = (tensor.to(model.device) for tensor in _collate(part))
        if not mine:
            mask_bt.zero_()
        with model.micro_batch(last and i == len(parts)):
            logprobs_bt, entropy_bt = token_logprobs(model, ids_bt, mask_bt)
            # a part counts by its share of the tokens, so any split into micro-batches gives one loss
            loss = policy_gradient_loss(logprobs_bt, advantages_b, mask_bt) * (mask_bt.sum() / n_tokens)
            torch.autograd.backward(ranks.size * loss if mine else 0 * logprobs_bt.sum())
        gap_bt = (logprobs_bt.detach() - sampled_bt).abs() * mask_bt
        entropy += (entropy_bt * mask_bt).sum().item() / n_tokens
        gap += gap_bt.sum().item() / n_tokens
        greatest_gap = max(greatest_gap, gap_bt.max().item())
    everyones = ranks.gather([entropy, gap, greatest_gap])
    entropy, gap, _ = everyones.sum(dim=0).tolist()
    return {"entropy": entropy, "logprob_gap": gap, "logprob_gap_max": everyones[:, 2].max().item()}


def _collate(samples: Sequence[Sample]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Ids (B, T) padded on the right; mask and the sampler's log-probabilities, (B, T − 1); advantages (B)."""
    ids_bt = pad([sample.prompt + sample.answer.ids for sample in samples])
    mask_bt, sampled_bt = torch.zeros(2, len(samples), ids_bt.shape[1] - 1)
    for row, sample in enumerate(samples):
        answer = slice(len(sample.prompt) - 1, len(sample) - 1)  # predictions are one place before their tokens
        mask_bt[row, answer] = 1
        sampled_bt[row, answer] = torch.tensor(sample.answer.logprobs)
    return ids_bt, mask_bt, sampled_bt, torch.tensor([sample.advantage for sample in samples])
