"""Why a reward doesn't rise, read from the metrics of the run."""

import math
import statistics
from collections.abc import Sequence
from typing import Any

NEARLY_ALL = 0.8  # share of groups whose answers are all rewarded alike
GAP = 0.01  # nats; rounding makes less than a thousandth
COLLAPSED = 0.1  # of the entropy at the beginning


def diagnose(metrics: Sequence[dict[str, Any]], label: str = "reinforce") -> list[str]:
    """Likely causes of a flat reward, each with what to do; none when the reward rises.

    metrics: the lines of `metrics.jsonl`. The first quarter of the steps is compared with the last.
    """
    lines = [line for line in metrics if "reward" in line and "skipped" not in line]
    quarter = max(1, len(lines) // 4)
    early, late = lines[:quarter], lines[-quarter:]
    if len(lines) < 2 or _rises(early, late):
        return []

    def mean(name: str, of: Sequence[dict[str, Any]] = lines) -> float:
        return statistics.fmean(line[name] for line in of)

    words: list[str] = []
    if mean("zero_variance") > NEARLY_ALL:
        share = f"in {100 * mean('zero_variance'):.0f} % of the groups all answers are rewarded alike"
        if mean("reward") < 0.5:
            words.append(f"{share}, mostly as wrong: take easier problems or raise {label}.answers")
        else:
            words.append(f"{share}, mostly as right: the problems are too easy to learn from; take harder ones")
    if mean("cut_short") > 0.5:
        words.append(f"{100 * mean('cut_short'):.0f} % of the answers don't come to an end: raise {label}.max_tokens")
    if mean("logprob_gap") > GAP:
        words.append(
            f"sampler and trainer differ by {mean('logprob_gap'):.2g} nats a token: they don't mean the same "
            "distribution (temperature, top-k, top-p, precision)"
        )
    if mean("entropy", late) < COLLAPSED * mean("entropy", early):
        words.append(
            f"the entropy fell from {mean('entropy', early):.2g} to {mean('entropy', late):.2g} nats a token, so the "
            f"answers hardly differ: lower {label}.matrix_lr or raise {label}.replay_weight"
        )
    if not words and _rises(late, early):
        words.append(f"the reward falls: lower {label}.matrix_lr and {label}.embedding_lr")
    return words or [f"nothing else looks wrong: raise {label}.matrix_lr and {label}.embedding_lr, or {label}.steps"]


def _rises(early: Sequence[dict[str, Any]], late: Sequence[dict[str, Any]]) -> bool:
    """Whether the mean reward is higher by more than twice the error that its spread over steps gives it."""
    means = [statistics.fmean(line["reward"] for line in lines) for lines in (early, late)]
    spreads = [statistics.pvariance([line["reward"] for line in lines]) / len(lines) for lines in (early, late)]
    return means[1] - means[0] > 2 * math.sqrt(sum(spreads))
