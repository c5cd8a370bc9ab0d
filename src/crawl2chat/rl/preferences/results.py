"""How far to follow a reward model, and what the stage leaves to be read: curves, samples, comparisons, figures.

Best-of-n and RL are compared by the taste that the reward model imitates (arXiv 2210.10760).
"""

import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from crawl2chat.generate import Sampling
from crawl2chat.rl.grpo import engine_for, sample_groups
from crawl2chat.rl.preferences import annotator as simulated
from crawl2chat.rl.preferences.check import Check, Checker, root
from crawl2chat.rl.preferences.store import RankingStore
from crawl2chat.stages.figures import Figure, share
from crawl2chat.stages.files import atomic_write, write_jsonl

SMOOTHED_OVER = 3  # checks
KEPT_ANSWERS = 200  # per check
_POOL_SEEDS = 1 << 33  # apart from all other draws


def smoothed(rates: Sequence[float]) -> list[float]:
    """Each check's rate averaged with its neighbours', since a few dozen comparisons are off by some 8 %."""
    reach = SMOOTHED_OVER // 2
    windows = [rates[max(0, i - reach) : i + reach + 1] for i in range(len(rates))]
    return [sum(window) / len(window) for window in windows]


def smoothed_win_rates(checks: Sequence[Check]) -> list[float]:
    return smoothed([check.win_rate for check in checks])


def check_to_keep(checks: Sequence[Check]) -> Check:
    """The one with the best smoothed win rate, the earliest of equals.

    Where nobody compared, the one that puts most held-out pairs in order; without any, the last one.
    """
    if any(check.comparisons for check in checks):
        rates = smoothed_win_rates(checks)
    elif all(check.pairs for check in checks):
        rates = smoothed([check.pairs.accuracy for check in checks if check.pairs])
    else:
        return checks[-1]
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
    """Proxy and gold of the start's best of n = 1, 2, 4, … answers by the reward model, on one prompt per topic."""
    pool = checker.settings.best_of
    asked = list({prompt.group: prompt for prompt in checker.held_out}.values())
    prompts = [prompt.ids(checker.tokenizer) for prompt in asked]
    engine = engine_for(checker.reference, checker.tokenizer, prompts, checker.settings)
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


def write_checks(checks: Sequence[Check], file: Path) -> None:
    """All comparisons that the stopping rule asked for, as rankings of two."""
    store = RankingStore()
    for comparison in (c for check in checks for c in check.comparisons):
        order = (0, 1) if comparison.won else (1, 0)
        store.add(comparison.prompt, (comparison.policys, comparison.starts), order, simulated.NAME)
    store.save(file)


def write_samples(checks: Sequence[Check], kept: Check, file: Path) -> None:
    """The same held-out prompts at the start, at the step that was kept, where gold was best, and at the end."""
    shown = {"start": checks[0], "kept": kept, "peak": peak(checks), "end": checks[-1]}
    with atomic_write(file) as temporary, open(temporary, "w", encoding="utf-8") as handle:
        for i, first in enumerate(checks[0].judged):
            row: dict[str, Any] = {"prompt": first.prompt}
            for name, check in shown.items():
                if check:
                    judged = check.judged[i]
                    row[name] = {
                        "step": check.step,
                        "text": judged.text,
                        "ended": judged.ended,
                        "proxy": judged.proxy,
                        "gold": judged.gold,
                    }
            handle.write(json.dumps(row, ensure_ascii=False) + "\n")


def write_answers(checks: Sequence[Check], file: Path) -> None:
    """One line per check with its first answers and their rewards: the same prompts each time."""
    shown = [(check.step, check.judged[:KEPT_ANSWERS]) for check in checks]
    write_jsonl(file, ({"step": step, "judged": [asdict(one) for one in judged]} for step, judged in shown))


def peak(checks: Sequence[Check]) -> Check | None:
    """The check with the best gold: what a stopping rule that could see it would keep."""
    judged = [(check.gold[0], check) for check in checks if check.gold]
    return max(judged, key=lambda pair: pair[0])[1] if judged else None


def curves(checks: Sequence[Check], kept: Check, best_of_n: list[dict[str, Any]]) -> dict[str, Any]:
    best = peak(checks)
    steps = [
        {
            "step": check.step,
            "sqrt_kl": root(check.kl),
            "proxy": check.proxy,
            "gold": check.gold and check.gold[0],
            "gold_error": check.gold and check.gold[1],
            "tokens": check.tokens,
            "wins": check.wins,
            "compared": len(check.comparisons),
            "smoothed_win_rate": win_rate,
            **({"pairs": asdict(check.pairs)} if check.pairs else {}),
        }
        for check, win_rate in zip(checks, smoothed_win_rates(checks), strict=True)
    ]
    return {"kept": kept.step, "peak": best and best.step, "policy": steps, "best_of_n": best_of_n}


def figures(found: dict[str, Any]) -> list[Figure]:
    """The start, the step that was kept, the peak of gold and the end, out of `curves.json`."""
    by_step = {row["step"]: row for row in found["policy"]}
    kept, end = by_step[found["kept"]], found["policy"][-1]
    shown = {"start": found["policy"][0], "kept": kept, "end": end}
    made = [
        Figure("comparisons", sum(row["compared"] for row in found["policy"])),
        Figure("kept_step", found["kept"], "steps"),
    ]
    if kept["compared"]:
        made.append(share("kept_win_rate", kept["wins"], kept["compared"]))
    if found["peak"] is not None:
        made.append(Figure("peak_step", found["peak"], "steps"))
        shown["peak"] = by_step[found["peak"]]
    for name, row in shown.items():
        made.append(Figure(f"proxy/{name}", row["proxy"], "nats"))
        if row["gold"] is not None:
            reach = 1.96 * row["gold_error"]
            made.append(Figure(f"gold/{name}", row["gold"], "points", (row["gold"] - reach, row["gold"] + reach)))
        made.append(Figure(f"sqrt_kl/{name}", row["sqrt_kl"], "√nats"))
        if "pairs" in row:
            made.append(Figure(f"held_out_pairs_in_order/{name}", row["pairs"]["accuracy"], "share"))
            made.append(Figure(f"held_out_margin/{name}", row["pairs"]["margin"], "nats"))
    return made
