"""Rankings for the reward model, and how well it agrees with rankings that it has not seen."""

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from crawl2chat.generate import Engine, Sampling
from crawl2chat.model import Transformer
from crawl2chat.rl.grpo import sample_groups
from crawl2chat.rl.preferences import annotator as simulated
from crawl2chat.rl.preferences.annotator import Annotator
from crawl2chat.rl.preferences.preference_files import PromptRow, holds_judgements, read_judgements
from crawl2chat.rl.preferences.reward_model import Reading, RewardEnsemble, RewardModel, fit_reward_model, reading
from crawl2chat.rl.preferences.settings import PreferSettings
from crawl2chat.rl.preferences.store import Answer, Ranking, RankingStore
from crawl2chat.stages.figures import Figure, share
from crawl2chat.stages.files import AnyPath, StageError
from crawl2chat.tokenizer import Tokenizer
from crawl2chat.train.lora import Start

CONFIDENCE_BINS = 10
TEST_SHARE = 0.2  # of the topics; their rankings measure the reward model
SQLITE = b"SQLite format 3\x00"
_RANKING_SEEDS = 1 << 32  # draws of rankings are apart from those of RL, which count up from 0


def rank_by_taste(
    engine: Engine, prompts: Sequence[PromptRow], annotator: Annotator, settings: PreferSettings, file: Path
) -> None:
    """Sample answers to `ranked_prompts` prompts, over and over where there are fewer, and have them ranked."""
    asked = [prompts[i % len(prompts)] for i in range(settings.ranked_prompts)]
    ids = [prompt.ids(engine.tokenizer) for prompt in asked]
    sampling = Sampling(max_tokens=settings.max_tokens, seed=settings.seed)
    groups = sample_groups(engine, ids, settings.ranked_answers, sampling, _RANKING_SEEDS)
    store = RankingStore()
    for i, (prompt, group) in enumerate(zip(asked, groups, strict=True)):
        answers = [Answer(c.text, c.finish_reason == "stop", "start") for c in group]
        store.add(prompt.prompt, answers, annotator.rank(prompt, answers, (i,)), simulated.NAME)
    store.save(file)


def rankings_file(prompts: AnyPath, settings: PreferSettings) -> Path | None:
    """The rankings to learn from: those that are named, or those in the file of prompts; None: to be simulated."""
    if settings.rankings:
        return Path(settings.rankings).expanduser()
    return Path(prompts) if holds_judgements(prompts) else None


def read_rankings(file: AnyPath) -> list[Ranking]:
    """All rankings of a store or of a file of lists or pairs in which some answer is better than another.

    The file stays as it is; of a file of pairs, what says nothing is counted on stderr.
    Raises StageError for a file that is missing or neither, and for too few rankings to fit and to measure with.
    """
    file = Path(file)
    if not file.is_file():
        raise StageError(f"prefer.rankings = {file}: no such file; make it with `crawl2chat rank`")
    with file.open("rb") as content:
        is_store = content.read(len(SQLITE)) == SQLITE
    left_out: Counter[str] = Counter()
    try:
        judged = list(RankingStore.read(file).rankings()) if is_store else read_judgements(file, file.name, left_out)
    except StageError as error:
        raise StageError(
            f"{error}; expected a store of rankings that `crawl2chat rank` wrote, or JSON lines of pairs "
            "(chosen, rejected) or ranked lists"
        ) from error
    # all answers tied is an answer, but teaches no order; of a prompt that was shown twice both judgements count
    rankings = [ranking for ranking in judged if len(ranking.best_first) > 1]
    if not is_store:
        n_rows = len(judged) + left_out.total()
        left_out["a tie, or no order"] = len(judged) - len(rankings)
        for reason, count in (+left_out).items():
            print(f"{file}: {count:,} of {n_rows:,} rows left out: {reason}", file=sys.stderr)
    if len({ranking.prompt for ranking in rankings}) < 5:
        raise StageError(f"{file}: holds {len(rankings)} rankings; at least 5 prompts must be ranked")
    return rankings


def split_by_topic(
    rankings: Sequence[Ranking], prompts: Sequence[PromptRow], seed: int
) -> tuple[list[Ranking], list[Ranking]]:
    """Rankings to fit to, and rankings about other topics to measure with; an unknown prompt is its own topic.

    Raises StageError if all rankings are about one topic.
    """
    topics = {row.text: row.group for row in prompts}

    def topic(ranking: Ranking) -> str:
        return topics.get(ranking.prompt, ranking.prompt)

    known = sorted({topic(ranking) for ranking in rankings})
    if len(known) < 2:
        raise StageError(
            f"all rankings are of prompts in the group {known[0]!r}; rank prompts of at least 2 groups, some to fit "
            "the reward model to and the others to measure it with"
        )
    order = np.random.default_rng(seed).permutation(len(known)).tolist()
    test = {known[i] for i in order[: max(1, round(TEST_SHARE * len(known)))]}
    return [r for r in rankings if topic(r) not in test], [r for r in rankings if topic(r) in test]


def reward_model_of(
    begun: Start,
    tokenizer: Tokenizer,
    rankings: Sequence[Ranking],
    settings: PreferSettings,
    out: Path,
    member: int = 0,
) -> RewardModel:
    """Fit a reward model to the rankings, or go on with it from a checkpoint in `out`.

    member: of an ensemble, each of which draws as many rankings as there are, with replacement, and has its own order.
    """
    settings = settings.model_copy(update={"seed": settings.seed + member})
    if settings.reward_models > 1:
        drawn = np.random.default_rng((settings.seed, member)).integers(0, len(rankings), len(rankings))
        rankings = [rankings[i] for i in drawn]
    readings = [_readings(ranking, begun.reference, tokenizer) for ranking in rankings]
    policy = begun.trainable(settings.seed) if settings.lora.rank else begun.reference
    return fit_reward_model(policy, readings, settings, [_group_sizes(ranking) for ranking in rankings], out)


@dataclass(frozen=True)
class Agreement:
    """Pairs of answers in rankings about unseen topics that the reward model puts in order as the annotator did.

    By the hidden taste: pairs that it orders; the ceiling is what the taste itself would reach against the
    annotator's noisy order. Both are None of a person's rankings.
    margin: mean reward of the better answer less that of the other, in nats. calibration_error: how far the chance of
    being right that the model claims is from the share that is right (`calibration_error`). prefers_longer: pairs, of
    those of unequal length, in which the model rewards the longer answer more; longer_is_better: those in which the
    annotator put it first.
    """

    right: int
    pairs: int
    margin: float
    calibration_error: float
    prefers_longer: int
    longer_is_better: int
    unequal: int
    gold_right: int | None = None
    gold_pairs: int | None = None
    ceiling: float | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def figures(self) -> list[Figure]:
        figures = [
            share("reward_model_agrees", self.right, self.pairs),
            Figure("reward_margin", self.margin, "nats", count=self.pairs),
            Figure("reward_calibration_error", self.calibration_error, "share", count=self.pairs),
        ]
        if self.unequal:
            figures.append(share("reward_model_prefers_longer", self.prefers_longer, self.unequal))
            figures.append(share("annotator_prefers_longer", self.longer_is_better, self.unequal))
        if self.gold_right is not None and self.gold_pairs is not None and self.ceiling is not None:
            figures.append(share("reward_model_agrees_with_gold", self.gold_right, self.gold_pairs))
            figures.append(Figure("agreement_ceiling", self.ceiling, "share", count=self.pairs))
        return figures


def agreement(
    model: RewardModel | RewardEnsemble,
    policy: Transformer,
    tokenizer: Tokenizer,
    rankings: Sequence[Ranking],
    annotator: Annotator | None,
    prompts: Sequence[PromptRow],
) -> Agreement:
    """Compare the reward model's order with rankings, pair by pair. prompts: all that were ranked."""
    rewards = [model.rewards(_readings(ranking, policy, tokenizer)) for ranking in rankings]
    compared = [
        (better - worse, len(answer.text) - len(other.text))
        for ranking, group in zip(rankings, rewards, strict=True)
        for (better, answer, place), (worse, other, later) in combinations(
            zip(group, ranking.ordered, _places(ranking), strict=True), 2
        )
        if place < later  # not tied
    ]
    margins, longer = np.array(compared, dtype=float).reshape(-1, 2).T
    found = Agreement(
        right=int((margins > 0).sum()),
        pairs=len(compared),
        margin=float(margins.mean()),
        calibration_error=calibration_error(margins),
        prefers_longer=int((margins * longer > 0).sum()),
        longer_is_better=int((longer > 0).sum()),
        unequal=int((longer != 0).sum()),
    )
    if annotator is None:
        return found
    rows = {row.prompt: row for row in prompts}
    golds = [[annotator.taste.reward(rows[r.asked], answer) for answer in r.ordered] for r in rankings]
    told_apart = [
        (g1 > g2) == (r1 > r2)
        for gold_k, reward_k in zip(golds, rewards, strict=True)
        for (g1, r1), (g2, r2) in combinations(zip(gold_k, reward_k, strict=True), 2)
        if g1 != g2
    ]
    return replace(found, gold_right=sum(told_apart), gold_pairs=len(told_apart), ceiling=annotator.ceiling(golds))


def calibration_error(margins_n: np.ndarray) -> float:
    """Mean distance of claimed and reached accuracy over bins of confidence (ECE, arXiv 1706.04599, eq. 3).

    margins_n: reward of the better answer less that of the worse; claimed is σ(|margin|).
    """
    claimed_n = 1 / (1 + np.exp(-np.abs(margins_n)))
    bins = np.array_split(np.argsort(claimed_n, kind="stable"), min(CONFIDENCE_BINS, len(margins_n)))
    right_n = margins_n > 0
    return float(sum(abs(claimed_n[i].sum() - right_n[i].sum()) for i in bins) / len(margins_n))


def _readings(ranking: Ranking, policy: Transformer, tokenizer: Tokenizer) -> list[Reading]:
    ids = prompt_ids(tokenizer, ranking)
    context = policy.config.max_position_embeddings
    return [reading(tokenizer, ids, answer.text, answer.ended, context) for answer in ranking.ordered]


def rewards_as_shown(model: RewardModel, tokenizer: Tokenizer, rankings: Sequence[Ranking]) -> list[list[float]]:
    """Of each ranking's answers, in the order in which they were shown."""
    context = model.body.config.max_position_embeddings
    return [
        model.rewards([reading(tokenizer, ids, answer.text, answer.ended, context) for answer in ranking.answers])
        for ranking in rankings
        for ids in (prompt_ids(tokenizer, ranking),)
    ]


def prompt_ids(tokenizer: Tokenizer, ranking: Ranking) -> list[int]:
    """What the answers of a ranking follow."""
    return tokenizer.encode_chat(ranking.asked.messages, add_generation_prompt=True)[0]


def _group_sizes(ranking: Ranking) -> list[int]:
    return [len(group) for group in ranking.best_first]


def _places(ranking: Ranking) -> list[int]:
    """Of each answer in the order of `ordered`: the number of its group, which it shares with those it is tied with."""
    return [number for number, size in enumerate(_group_sizes(ranking)) for _ in range(size)]
