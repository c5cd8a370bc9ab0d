"""The way of the policy: its reward, held near the start, and checks on held-out prompts and against the start.

RL follows the reward model less a penalty for the distance from the start. A check measures proxy, gold and distance;
its comparisons, or where nobody compares its order of held-out pairs, are all that a stopping rule may see, and gold
is there to judge the rule.
Shapes: P prompts, K answers each.
"""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from crawl2chat.generate import Engine, Sampling
from crawl2chat.model import Transformer
from crawl2chat.model.ragged import pad
from crawl2chat.rl.grpo import engine_for, sample_groups, token_logprobs
from crawl2chat.rl.preferences.annotator import Annotator
from crawl2chat.rl.preferences.direct import Pair, PairFit, pair_fit
from crawl2chat.rl.preferences.preference_files import PromptRow
from crawl2chat.rl.preferences.reward_model import RewardEnsemble, RewardModel, reading
from crawl2chat.rl.preferences.settings import PreferSettings
from crawl2chat.rl.preferences.store import Answer
from crawl2chat.rl.samples import Groups, Prompts
from crawl2chat.stages.files import read_json, write_json
from crawl2chat.tokenizer import Tokenizer
from crawl2chat.train.metrics import Metrics

ANSWERS = 2  # per held-out prompt
_COMPARISON = 1_000_000  # keeps the seeds of comparisons apart from those of rankings


@dataclass(frozen=True)
class Judged:
    """An answer to a held-out prompt, and what the reward model and the hidden taste make of it."""

    prompt: str
    text: str
    ended: bool
    proxy: float
    gold: float | None


@dataclass(frozen=True)
class Comparison:
    """An answer of the policy and one of the start's, and whether the annotator preferred the policy's."""

    prompt: str
    policys: Answer
    starts: Answer
    won: bool


@dataclass(frozen=True)
class Check:
    """The policy after `step` steps. kl: nats per answer, from the start; tokens: per answer.

    pairs: how its implicit rewards order held-out pairs, where nobody compares its answers.
    """

    step: int
    kl: float
    tokens: float
    judged: list[Judged]
    comparisons: list[Comparison]
    pairs: PairFit | None = None

    @property
    def proxy(self) -> float:
        return statistics.fmean(judged.proxy for judged in self.judged)

    @property
    def gold(self) -> tuple[float, float] | None:
        """Mean and its standard error, in points; None without a simulated annotator."""
        golds = [judged.gold for judged in self.judged if judged.gold is not None]
        return (statistics.fmean(golds), statistics.stdev(golds) / len(golds) ** 0.5) if golds else None

    @property
    def wins(self) -> int:
        return sum(comparison.won for comparison in self.comparisons)

    @property
    def win_rate(self) -> float:
        """Against itself the start wins half of the time."""
        return self.wins / len(self.comparisons) if self.comparisons else 0.5

    def save(self, file: Path) -> None:
        write_json(file, asdict(self))

    @staticmethod
    def load(file: Path) -> "Check":
        content = read_json(file)
        content["judged"] = [Judged(**judged) for judged in content["judged"]]
        content["comparisons"] = [
            Comparison(c["prompt"], Answer(**c["policys"]), Answer(**c["starts"]), c["won"])
            for c in content["comparisons"]
        ]
        content["pairs"] = content["pairs"] and PairFit(**content["pairs"])
        return Check(**content)


@dataclass(frozen=True)
class Checker:
    """All that a check needs but the policy.

    starts: answers of the start to prompts that were ranked. pairs: held-out pairs, if the ranking was not simulated.
    """

    tokenizer: Tokenizer
    reward_model: RewardModel | RewardEnsemble
    reference: Transformer
    held_out: Sequence[PromptRow]
    starts: Sequence[tuple[PromptRow, Answer]]
    annotator: Annotator | None
    settings: PreferSettings
    pairs: Sequence[Pair] = ()

    def check(self, policy: Transformer, step: int) -> Check:
        prompts = [prompt.ids(self.tokenizer) for prompt in self.held_out]
        starts = [prompt.ids(self.tokenizer) for prompt, _ in self.starts]
        engine = engine_for(policy, self.tokenizer, [*prompts, *starts], self.settings)
        # the same seeds at every check: the curves then differ by the policy and less by luck
        sampling = Sampling(max_tokens=self.settings.max_tokens, seed=self.settings.seed)
        groups = sample_groups(engine, prompts, ANSWERS, sampling, first_seed=0)
        ratios_pk = log_ratios(self.reference, prompts, groups)
        return Check(
            step=step,
            kl=ratios_pk.mean().item(),
            tokens=statistics.fmean(len(answer.ids) for group in groups for answer in group),
            judged=self.judge(self.held_out, prompts, groups),
            comparisons=self._compare(engine, step) if step else [],
            pairs=pair_fit(policy, self.pairs, self.settings.beta) if self.pairs else None,
        )

    def judge(self, asked: Sequence[PromptRow], prompts: list[list[int]], groups: Groups) -> list[Judged]:
        """Proxy and gold of each answer, group by group."""
        proxies_pk = proxy_rewards(self.reward_model, self.tokenizer, prompts, groups).tolist()
        return [
            Judged(prompt.text, c.text, c.finish_reason == "stop", proxy, self._gold(prompt, c.text, c.finish_reason))
            for prompt, group, proxies in zip(asked, groups, proxies_pk, strict=True)
            for c, proxy in zip(group, proxies, strict=True)
        ]

    def _gold(self, prompt: PromptRow, text: str, finish_reason: str | None) -> float | None:
        answer = Answer(text, finish_reason == "stop", "")
        return self.annotator.taste.reward(prompt, answer) if self.annotator else None

    def _compare(self, engine: Engine, step: int) -> list[Comparison]:
        """Fresh answers against the start's, by the noisy annotator, on other prompts at each check."""
        if self.annotator is None:
            return []
        count = min(self.settings.compared, len(self.starts))
        first = step * count
        pairs = [self.starts[i % len(self.starts)] for i in range(first, first + count)]
        sampling = Sampling(max_tokens=self.settings.max_tokens, seed=self.settings.seed)
        prompts = [prompt.ids(engine.tokenizer) for prompt, _ in pairs]
        drawn = engine.generate(prompts, sampling, range(_COMPARISON + first, _COMPARISON + first + count))
        comparisons = []
        for i, ((prompt, starts), completion) in enumerate(zip(pairs, drawn, strict=True)):
            policys = Answer(completion.text, completion.finish_reason == "stop", f"step {step}")
            best, _ = self.annotator.rank(prompt, (policys, starts), (_COMPARISON, step, i))
            comparisons.append(Comparison(prompt.text, policys, starts, won=best == 0))
        return comparisons


def log_ratios(reference: Transformer, prompts: Prompts, groups: Groups) -> Tensor:
    """Σ over an answer's tokens of log π − log π_ref, (P, K), in nats; its mean estimates KL(π ‖ π_ref) per answer.

    π is what the sampler drew from; the token that ends an answer counts. Without bias, so single answers can be
    below zero (estimator k1 of Schulman, joschu.net/blog/kl-approx.html).
    """
    return torch.tensor(
        [
            _ratios_of_group(reference, prompt, [(a.ids, a.logprobs) for a in group])
            for prompt, group in zip(prompts, groups, strict=True)
        ]
    )


@torch.inference_mode()
def _ratios_of_group(
    reference: Transformer, prompt: list[int], answers: list[tuple[list[int], list[float]]]
) -> list[float]:
    ids_bt = pad([prompt + ids for ids, _ in answers], next(reference.parameters()).device)
    mask_bt = torch.zeros_like(ids_bt[:, 1:])
    for row, (ids, _) in enumerate(answers):
        mask_bt[row, len(prompt) - 1 : len(prompt) - 1 + len(ids)] = 1  # predictions are one place before their tokens
    logprobs_bt, _ = token_logprobs(reference, ids_bt, mask_bt)
    return [
        sum(sampled) - logprobs_t.sum().item() for (_, sampled), logprobs_t in zip(answers, logprobs_bt, strict=True)
    ]


def proxy_rewards(
    reward_model: RewardModel | RewardEnsemble, tokenizer: Tokenizer, prompts: Prompts, groups: Groups
) -> Tensor:
    """What the reward model thinks of each answer, (P, K)."""
    readings = [
        reading(tokenizer, prompt, answer.text, answer.finish_reason == "stop", reward_model.context)
        for prompt, group in zip(prompts, groups, strict=True)
        for answer in group
    ]
    return torch.tensor(reward_model.rewards(readings)).view(len(groups), -1)


def penalised_reward(
    reward_model: RewardModel | RewardEnsemble,
    reference: Transformer,
    tokenizer: Tokenizer,
    kl_weight: float,
    metrics: Metrics,
) -> Callable[[int, Prompts, Groups], Tensor]:
    """The reward of RLHF: proxy − β · Σ (log π − log π_ref) (InstructGPT, arXiv 2203.02155, without its clipping).

    Each step's proxy and distance √KL, over the answers that it draws, go to the metrics.
    """

    def reward(step: int, prompts: Prompts, groups: Groups) -> Tensor:
        proxy_pk = proxy_rewards(reward_model, tokenizer, prompts, groups)
        ratios_pk = log_ratios(reference, prompts, groups)
        metrics.write(step=step + 1, proxy=proxy_pk.mean().item(), sqrt_kl=root(ratios_pk.mean().item()))
        return proxy_pk - kl_weight * ratios_pk

    return reward


def root(kl: float) -> float:
    """√KL; an estimate of the KL may be a little below zero."""
    return float(max(0.0, kl) ** 0.5)
