"""How far to follow a reward model: best-of-n and RL against the taste that it imitates (arXiv 2210.10760)."""

import math
import statistics
from collections.abc import Sequence
from typing import Any

from crawl2chat.generate import Engine, Sampling
from crawl2chat.rl.grpo import sample_groups
from crawl2chat.rl.preferences.check import Check, Checker

SMOOTHED_OVER = 3  # checks
_POOL_SEEDS = 1 << 33  # apart from all other draws


def smoothed_win_rates(checks: Sequence[Check]) -> list[float]:
    """Each check's win rate averaged with its neighbours', since a few dozen comparisons are off by some 8 %."""
    reach = SMOOTHED_OVER // 2
    windows = [checks[max(0, i - reach) : i + reach + 1] for i in range(len(checks))]
    return [sum(check.win_rate for check in window) / len(window) for window in windows]


def check_to_keep(checks: Sequence[Check]) -> Check:
    """The one with the best smoothed win rate, the earliest of equals; the last one where nobody compared."""
    if not any(check.comparisons for check in checks):
        return checks[-1]
    rates = smoothed_win_rates(checks)
    return checks[rates.index(max(rates))]


def best_of_n(proxies: Sequence[float], values: Sequence[float], n: int) -> float:
    """Expected value of the answer with the best proxy among n, from a pool of N ≥ n answers to one prompt.

    Σ_i C(i − 1, n − 1) / C(N, n) · value of the i-th lowest proxy: the mean over all subsets of n answers, so
    without bias (Nakano et al., arXiv 2112.09332, appendix I). Raises ValueError for a pool that is too small.
    """
    if len(proxies) < n:
        raise ValueError(f"a pool of {len(proxies)} answers is too small for the best of {n}")
    in_order = sorted(range(len(proxies)), key=lambda i: proxies[i])
    subsets = math.comb(len(proxies), n)
    return sum(math.comb(rank, n - 1) / subsets * values[i] for rank, i in enumerate(in_order))


def kl_best_of_n(n: int) -> float:
    """KL of the best of n from the single draw, in nats: log n − (n − 1)/n (Stiennon et al., arXiv 2009.01325)."""
    return math.log(n) - (n - 1) / n


def powers_of_two(most: int) -> list[int]:
    return [2**i for i in range(most.bit_length()) if 2**i <= most]


def best_of_n_curve(checker: Checker) -> list[dict[str, Any]]:
    """Proxy and gold of the start's best of n = 1, 2, 4, … answers by the reward model, on one prompt a topic."""
    pool = checker.settings.best_of
    asked = list({prompt.group: prompt for prompt in checker.held_out}.values())
    engine = Engine(checker.reference, checker.tokenizer)
    prompts = [prompt.ids(engine.tokenizer) for prompt in asked]
    sampling = Sampling(max_tokens=checker.settings.max_tokens, seed=checker.settings.seed)
    groups = sample_groups(engine, prompts, pool, sampling, _POOL_SEEDS)
    judged = checker.judge(asked, prompts, groups)
    pools = [judged[i : i + pool] for i in range(0, len(judged), pool)]

    def mean(name: str, n: int) -> float | None:
        if checker.annotator is None and name == "gold":
            return None
        per_prompt = [best_of_n([j.proxy for j in part], [getattr(j, name) for j in part], n) for part in pools]
        return statistics.fmean(per_prompt)

    return [
        {"n": n, "sqrt_kl": kl_best_of_n(n) ** 0.5, "proxy": mean("proxy", n), "gold": mean("gold", n)}
        for n in powers_of_two(pool)
    ]
