"""The page Preferences: how far a reward model was followed, what it and the taste made of that, and the answers."""

import json
import statistics
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field
from starlette.requests import Request

from crawl2chat.rl.preferences.check import Check, root
from crawl2chat.rl.preferences.stage import ANSWERS, CURVES
from crawl2chat.serve.api.requests import Strict
from crawl2chat.serve.app.context import AppContext
from crawl2chat.serve.errors import ApiError
from crawl2chat.serve.http import get, post
from crawl2chat.stages.stage import STARTED

SHOWN = 60  # answers that are sent at most


class AnswersRequest(Strict):
    step: Annotated[int, Field(ge=0, lt=1 << 62)]
    limit: Annotated[int, Field(ge=1, le=SHOWN)] = 20


class PreferencesPage:
    """Reads what `prefer` leaves, and while it runs the checks that it has made so far."""

    def __init__(self, context: AppContext) -> None:
        self.context = context

    @get("/app/preferences/about")
    def about(self, request: Request) -> dict[str, Any]:
        """The checks with reward, taste and distance, best-of-n, and what was kept; or why there is nothing."""
        folder = self._folder
        curves = _json(folder / CURVES)
        if curves is None:
            policy = [_point(check) for check in self._checks()]
            curves = {"kept": None, "peak": None, "policy": policy, "best_of_n": []}
        problem = None
        if not curves["policy"]:
            problem = (
                "The stage prefer has not made a check yet." if (folder / STARTED).exists() else
                "This run has no stage prefer yet; it writes what this page shows (crawl2chat prefer)."
            )  # fmt: skip
        return {
            **curves, "problem": problem, "agreement": _json(folder / "agreement.json"),
            "finished": (folder / CURVES).exists(),
            "has_answers": (folder / ANSWERS).exists() or not (folder / CURVES).exists(),
        }  # fmt: skip

    @post("/app/preferences/answers", AnswersRequest)
    def answers(self, request: Request, body: AnswersRequest) -> dict[str, Any]:
        """A check's answers next to the start's to the same prompts, the most gamed first.

        An answer is gamed by as much as its reward stands higher among the check's than its taste does, each in
        standard deviations; where nobody knows the taste, the most rewarded come first.
        """
        start, found = self._judged(0), self._judged(body.step)
        if found is None:
            raise ApiError(404, f"there are no answers of step {body.step}", code="no_such_check")
        proxies = _standard([one["proxy"] for one in found])
        golds = [one["gold"] for one in found]
        known = all(gold is not None for gold in golds)
        tastes = _standard(golds) if known else [0.0] * len(found)
        gamed = [proxy - taste for proxy, taste in zip(proxies, tastes, strict=True)]
        order = sorted(range(len(found)), key=lambda i: -gamed[i])[: body.limit]
        rows = [
            {**found[i], "gamed": gamed[i] if known else None, "start": start[i] if start and i < len(start) else None}
            for i in order
        ]
        return {"step": body.step, "count": len(found), "answers": rows}

    @property
    def _folder(self) -> Path:
        """Of the stage: the run's, or what was opened itself."""
        here = self.context.folder
        return here if (here / CURVES).exists() else here / "prefer"

    def _checks(self) -> list[Check]:
        """Those of a stage that runs; its files are whole, and go when it is done."""
        found = []
        for file in sorted((self._folder / "checks").glob("step-*.json")):
            try:
                found.append(Check.load(file))
            except FileNotFoundError:
                continue
        return found

    def _judged(self, step: int) -> list[dict[str, Any]] | None:
        try:
            with open(self._folder / ANSWERS, encoding="utf-8") as lines:
                beginning = f'{{"step": {step}, '
                line = next((line for line in lines if line.startswith(beginning)), None)
                return None if line is None else list(json.loads(line)["judged"])
        except FileNotFoundError:
            check = _json(self._folder / "checks" / f"step-{step:08d}.json")
            return None if check is None else list(check["judged"])


def _point(check: Check) -> dict[str, Any]:
    return {
        "step": check.step, "sqrt_kl": root(check.kl), "proxy": check.proxy, "gold": check.gold and check.gold[0],
        "gold_error": check.gold and check.gold[1], "tokens": check.tokens, "wins": check.wins,
        "compared": len(check.comparisons),
    }  # fmt: skip


def _standard(values: list[float]) -> list[float]:
    """Each value's distance from the mean, in standard deviations."""
    mean, spread = statistics.fmean(values), statistics.pstdev(values)
    return [(value - mean) / spread if spread else 0.0 for value in values]


def _json(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
