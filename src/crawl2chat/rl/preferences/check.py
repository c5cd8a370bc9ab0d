"""What becomes of the policy on the way: proxy, gold and distance on held-out prompts, and comparisons with the start.

The comparisons are all that a stopping rule may see; gold is there to judge the rule.
"""

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from crawl2chat.generate import Engine, Sampling
from crawl2chat.model import Transformer
from crawl2chat.rl.grpo import Groups, sample_groups
from crawl2chat.rl.preferences.annotator import Annotator
from crawl2chat.rl.preferences.preference_files import PromptRow
from crawl2chat.rl.preferences.reward_model import RewardModel
from crawl2chat.rl.preferences.rlhf import log_ratios, proxy_rewards
from crawl2chat.rl.preferences.settings import PreferSettings
from crawl2chat.rl.preferences.store import Answer
from crawl2chat.stages.files import write_json
from crawl2chat.tokenizer import Tokenizer

ANSWERS = 2  # a held-out prompt
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
    """An answer of the policy beside one of the start's, and whether the annotator preferred the policy's."""

    prompt: str
    policys: Answer
    starts: Answer
    won: bool


@dataclass(frozen=True)
class Check:
    """The policy after `step` steps. kl: nats an answer, from the start; tokens: an answer."""

    step: int
    kl: float
    tokens: float
    judged: list[Judged]
    comparisons: list[Comparison]

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
        content = json.loads(file.read_text(encoding="utf-8"))
        content["judged"] = [Judged(**judged) for judged in content["judged"]]
        content["comparisons"] = [
            Comparison(c["prompt"], Answer(**c["policys"]), Answer(**c["starts"]), c["won"])
            for c in content["comparisons"]
        ]
        return Check(**content)


@dataclass(frozen=True)
class Checker:
    """All that a check needs but the policy. `starts`: answers of the start to prompts that were ranked."""

    tokenizer: Tokenizer
    reward_model: RewardModel
    reference: Transformer
    held_out: Sequence[PromptRow]
    starts: Sequence[tuple[PromptRow, Answer]]
    annotator: Annotator | None
    settings: PreferSettings

    def check(self, policy: Transformer, step: int) -> Check:
        engine = Engine(policy, self.tokenizer)
        prompts = [prompt.ids(engine.tokenizer) for prompt in self.held_out]
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
