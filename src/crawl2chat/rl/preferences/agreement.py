"""How far annotators agree with each other, with themselves, and with a reward model.

Ranks: 1 is best; tied answers share the mean of the places that they take together. "All bad" and skips have no order
and are left out. Intervals are of 95 % and over prompts, since pairs of one prompt depend on each other.
"""

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, get_args

import numpy as np

from crawl2chat.rl.preferences.store import Answer, Prompt, Ranking, Verdict
from crawl2chat.stages.figures import Figure, mean, wilson_interval

RESAMPLES = 1000  # of the bootstrap of alpha

Ranks = tuple[float, ...]
Shown = tuple[Prompt, tuple[Answer, ...]]  # a prompt and its answers in an order that is the same for all annotators


def kendall_tau_b(one: Sequence[float], other: Sequence[float]) -> float | None:
    """Kendall's τ_b: (concordant − discordant) / √((pairs − ties in one) · (pairs − ties in the other)).

    1 is the same order, −1 the opposite one; ties take away from both (Kendall 1945). None if one has ties alone.
    """
    signs = _signs(one, other)
    untied = [sum(map(abs, column)) for column in zip(*signs, strict=True)] or [0, 0]
    if 0 in untied:
        return None
    return float(sum(a * b for a, b in signs) / (untied[0] * untied[1]) ** 0.5)


def krippendorff_alpha(units: Sequence[Sequence[float]]) -> float | None:
    """Krippendorff's α for ordinal values: 1 − observed / expected disagreement.

    units: of each thing that was judged, the values that annotators gave it; those with a single one say nothing.
    1 is perfect agreement, 0 what values given at random would have (Krippendorff 2011, "Computing Krippendorff's
    Alpha-Reliability"). None where all values are equal, so that there is nothing to agree on.
    """
    levels = np.unique([value for values in units for value in values])
    return _alpha_of(_coincidences(units, levels))


def _coincidences(units: Sequence[Sequence[float]], levels: np.ndarray) -> np.ndarray:
    """How often two annotators gave one thing two of the values (V, V), each thing's pairs weighted by 1 / (n − 1)."""
    coincidences_vv = np.zeros((len(levels), len(levels)))
    for values in units:
        if len(values) > 1:
            counts_v = np.bincount(np.searchsorted(levels, values), minlength=len(levels))
            coincidences_vv += (np.outer(counts_v, counts_v) - np.diag(counts_v)) / (len(values) - 1)
    return coincidences_vv


def _alpha_of(coincidences_vv: np.ndarray) -> float | None:
    """α of coincidences, whose values are in order; a value that nobody gave makes no difference."""
    n_v = coincidences_vv.sum(axis=1)
    below_v = n_v.cumsum() - n_v / 2
    distance_vv = (below_v[:, None] - below_v[None]) ** 2  # Σ of n from one value to the other, less half of both ends
    expected = (np.outer(n_v, n_v) * distance_vv).sum()
    if expected == 0:
        return None
    return float(1 - (n_v.sum() - 1) * (coincidences_vv * distance_vv).sum() / expected)


@dataclass(frozen=True)
class Concordance:
    """Two judges of the same answers: how often they order two answers alike, and their mean τ_b over prompts."""

    prompts: int
    pairs: int  # that both put in an order
    same: int  # of these, in the same one
    tau: Figure | None  # None where it is defined for no prompt

    @property
    def same_share(self) -> Figure:
        value = self.same / self.pairs if self.pairs else 0.0
        return Figure("same_order", value, "share", wilson_interval(value * self.prompts, self.prompts), self.pairs)

    def to_json(self) -> dict[str, Any]:
        return {
            "prompts": self.prompts, "pairs": self.pairs, "same": self.same,
            "same_share": self.same_share.to_json(), "tau": self.tau and self.tau.to_json(),
        }  # fmt: skip


def concordance(judged: Sequence[tuple[Sequence[float], Sequence[float]]]) -> Concordance:
    """Of two judges' ranks of the answers to each prompt that both have judged."""
    ordered = [a == b for one, other in judged for a, b in _signs(one, other) if a and b]
    taus = [tau for one, other in judged if (tau := kendall_tau_b(one, other)) is not None]
    return Concordance(len(judged), len(ordered), sum(ordered), _mean_tau(taus) if taus else None)


def between(rankings: Sequence[Ranking]) -> dict[tuple[str, str], Concordance]:
    """Of each two annotators who have ranked the same answers to some prompt, by their names."""
    by_annotator = {name: _first_ranks(rankings, name) for name in sorted({r.annotator for r in rankings})}
    found = {}
    for (one, ranks), (other, others) in combinations(by_annotator.items(), 2):
        both = [shown for shown in ranks if shown in others]
        if both:
            found[one, other] = concordance([(ranks[shown], others[shown]) for shown in both])
    return found


def alpha(rankings: Sequence[Ranking]) -> Figure | None:
    """Krippendorff's α of all annotators' ranks; its interval is from a bootstrap over prompts.

    `count`: prompts that more than one of them has ranked. None without any.
    """
    by_annotator = [_first_ranks(rankings, name) for name in sorted({r.annotator for r in rankings})]
    units: dict[Shown, list[list[float]]] = {}
    for shown in dict.fromkeys(shown for ranks in by_annotator for shown in ranks):
        given = [ranks[shown] for ranks in by_annotator if shown in ranks]
        if len(given) > 1:
            units[shown] = [list(values) for values in zip(*given, strict=True)]
    prompts = list(units.values())
    levels = np.unique([value for prompt in prompts for unit in prompt for value in unit])
    coincidences_pvv = np.array([_coincidences(prompt, levels) for prompt in prompts])
    value = _alpha_of(coincidences_pvv.sum(axis=0)) if prompts else None
    if value is None:
        return None
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(RESAMPLES if len(prompts) > 1 else 0):
        times_p = np.bincount(rng.integers(len(prompts), size=len(prompts)), minlength=len(prompts))
        again = _alpha_of(np.tensordot(times_p, coincidences_pvv, axes=1))
        if again is not None:
            drawn.append(again)
    low_high = np.quantile(drawn, (0.025, 0.975)).tolist() if len(set(drawn)) > 1 else None
    return Figure("alpha", value, interval=low_high and (low_high[0], low_high[1]), count=len(prompts))


def with_oneself(rankings: Sequence[Ranking]) -> dict[str, Concordance]:
    """Of each annotator who has ranked the same answers twice, the first and the second time."""
    by_id = {ranking.id: ranking for ranking in rankings}
    twice = defaultdict(list)
    for again in rankings:
        if again.repeat_of in by_id:
            first, second = (_ranks(ranking)[1] for ranking in (by_id[again.repeat_of], again))
            twice[again.annotator].append((first, second))
    return {name: concordance(judged) for name, judged in sorted(twice.items())}


def with_rewards(rankings: Sequence[Ranking], rewards: Sequence[Sequence[float]]) -> dict[str, Concordance]:
    """Of each annotator and a reward model. rewards: of each ranking's answers, in the order shown."""
    judged = defaultdict(list)
    for ranking, rewards_k in zip(rankings, rewards, strict=True):
        if ranking.repeat_of is None:
            judged[ranking.annotator].append((_ranks_as_shown(ranking), [-reward for reward in rewards_k]))
    return {name: concordance(pairs) for name, pairs in sorted(judged.items())}


def first_shown_best(rankings: Sequence[Ranking]) -> tuple[Figure, float] | None:
    """The share of rankings whose best answer, alone in its place, was shown first, and what chance would have.

    People tend to prefer what they see first; None if no ranking has one best answer.
    """
    with_best = [ranking for ranking in rankings if len(ranking.best_first[0]) == 1]
    if not with_best:
        return None
    first, count = sum(ranking.best_first[0][0] == 0 for ranking in with_best), len(with_best)
    figure = Figure("first_shown_best", first / count, "share", wilson_interval(first, count), count)
    return figure, statistics.fmean(1 / len(ranking.answers) for ranking in with_best)


def report(judgements: Sequence[Ranking], rewards: Mapping[int, Sequence[float]] | None = None) -> dict[str, Any]:
    """All of the above, as JSON can hold it. rewards: by a reward model, of the answers of rankings, by their ids."""
    rankings = [ranking for ranking in judgements if ranking.verdict == "ranked"]
    annotators = []
    for name in sorted({judgement.annotator for judgement in judgements}):
        own = [judgement for judgement in judgements if judgement.annotator == name]
        seconds = [judgement.seconds for judgement in own if judgement.seconds is not None]
        bias = first_shown_best([ranking for ranking in own if ranking.verdict == "ranked"])
        annotators.append({
            "name": name,
            **{verdict: sum(judgement.verdict == verdict for judgement in own) for verdict in get_args(Verdict)},
            "median_seconds": statistics.median(seconds) if seconds else None,
            "first_shown_best": bias and {**bias[0].to_json(), "by_chance": bias[1]},
        })  # fmt: skip
    scored = [ranking for ranking in rankings if rewards is not None and ranking.id in rewards]
    of_reward_model = with_rewards(scored, [(rewards or {})[ranking.id] for ranking in scored])
    found = alpha(rankings)
    return {
        "annotators": annotators,
        "alpha": found and found.to_json(),
        "between": [{"one": a, "other": b, **c.to_json()} for (a, b), c in between(rankings).items()],
        "with_oneself": [{"name": name, **c.to_json()} for name, c in with_oneself(rankings).items()],
        "with_reward_model": None if rewards is None else [
            {"name": name, **c.to_json()} for name, c in of_reward_model.items()
        ],
    }  # fmt: skip


def _signs(one: Sequence[float], other: Sequence[float]) -> list[tuple[int, int]]:
    """Of each two answers, which comes first in one and in the other order: −1, 0 where they are tied, or 1."""
    pairs = combinations(zip(one, other, strict=True), 2)
    return [((a > b) - (a < b), (c > d) - (c < d)) for (a, c), (b, d) in pairs]


def _first_ranks(rankings: Sequence[Ranking], annotator: str) -> dict[Shown, Ranks]:
    """This annotator's ranks, the first ones where the same answers were ranked several times."""
    found: dict[Shown, Ranks] = {}
    for ranking in rankings:
        if ranking.annotator == annotator:
            shown, ranks = _ranks(ranking)
            found.setdefault(shown, ranks)
    return found


def _ranks(ranking: Ranking) -> tuple[Shown, Ranks]:
    as_shown = _ranks_as_shown(ranking)
    order = sorted(range(len(as_shown)), key=lambda place: repr(ranking.answers[place]))
    return (ranking.asked, tuple(ranking.answers[place] for place in order)), tuple(as_shown[place] for place in order)


def _ranks_as_shown(ranking: Ranking) -> Ranks:
    ranks, taken = [0.0] * len(ranking.answers), 0
    for group in ranking.best_first:
        for place in group:
            ranks[place] = taken + (len(group) + 1) / 2
        taken += len(group)
    return tuple(ranks)


def _mean_tau(values: Sequence[float]) -> Figure:
    """Within −1 and 1; without an interval where no two values differ, which is not certainty."""
    figure = mean("tau_b", values)
    interval = None
    if figure.interval and len(set(values)) > 1:
        interval = max(-1.0, figure.interval[0]), min(1.0, figure.interval[1])
    return Figure("tau_b", figure.value, interval=interval, count=len(values))
