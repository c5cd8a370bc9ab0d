"""What the stage leaves to be read: curves, samples from the start, the peak and the end, comparisons, figures."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from crawl2chat.rl.preferences import annotator as simulated
from crawl2chat.rl.preferences.check import Check
from crawl2chat.rl.preferences.overoptimise import smoothed_win_rates
from crawl2chat.rl.preferences.rlhf import root
from crawl2chat.rl.preferences.store import RankingStore
from crawl2chat.stages.figures import Figure, share
from crawl2chat.stages.files import atomic_write


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
            "smoothed_win_rate": smoothed,
        }
        for check, smoothed in zip(checks, smoothed_win_rates(checks), strict=True)
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
    return made
