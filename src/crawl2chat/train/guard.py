"""Steps that would do harm are not taken: a loss or gradients that are no numbers, and spikes."""

import math
import statistics
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

from crawl2chat.stages.files import StageError

WINDOW = 128  # steps that a spike is judged by
STOP_AFTER = 5
NOTHING_COUNTS = "no token of its batch counts"  # of a step that is skipped before there is anything to judge


class Guard:
    """Judges each step by the whole batch's loss and gradient norm, before the optimiser moves.

    A loss or norm that is no number: the step is skipped, and after `stop_after` in a row training stops.
    A spike: either of them lies more than `spike` standard deviations above its mean over the last WINDOW steps,
    skipped ones included; judged once half the window is filled (OLMo-core's `SkipStepOptimizer`, there with 6 and
    128, which skips steps far below the mean too). Three or four steps at a new level widen the deviation so far
    that the level counts as normal: spikes alone never end a run.
    """

    def __init__(self, label: str, *, spike: float = 0.0, stop_after: int = STOP_AFTER) -> None:
        self.label, self.spike, self.stop_after = label, spike, stop_after
        self.last: dict[str, deque[float]] = {"loss": deque(maxlen=WINDOW), "grad_norm": deque(maxlen=WINDOW)}
        self.not_numbers = 0  # steps in a row

    def replay_metrics(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Go by the lines of `metrics.jsonl` from before a kill, as if there had been none."""
        for line in lines:
            if line.get("skipped") == NOTHING_COUNTS:
                continue
            if "grad_norm" in line or "skipped" in line:  # a step's, not an evaluation's
                self._remember(line, broken="skipped" in line and not line.keys() >= self.last.keys())

    def judge(self, step: int, *, grad_norm: float, loss: float | None = None) -> str | None:
        """Why the step is not to be taken, or None. Raises StageError after several that are no numbers."""
        values = {"grad_norm": grad_norm} if loss is None else {"loss": loss, "grad_norm": grad_norm}
        broken = [f"the {_NAMES[name]} is {value}" for name, value in values.items() if not math.isfinite(value)]
        reason = broken[0] if broken else next(filter(None, (self._spike(*item) for item in values.items())), None)
        self._remember({name: value for name, value in values.items() if math.isfinite(value)}, bool(broken))
        if broken and self.not_numbers >= self.stop_after:
            raise StageError(
                f"{self.label}: {reason} at step {step}, as in {self.stop_after} steps in a row, so training doesn't "
                f"come back by skipping them; lower {self.label}.matrix_lr and {self.label}.embedding_lr"
            )
        return reason

    def _remember(self, seen: Mapping[str, Any], broken: bool) -> None:
        self.not_numbers = self.not_numbers + 1 if broken else 0
        for name, values in self.last.items():
            if name in seen:
                values.append(seen[name])

    def _spike(self, name: str, value: float) -> str | None:
        earlier = self.last[name]
        if not self.spike or len(earlier) < WINDOW // 2:
            return None
        limit = statistics.fmean(earlier) + self.spike * statistics.pstdev(earlier)
        return f"the {_NAMES[name]} of {value:.4g} is a spike, above {limit:.4g}" if value > limit else None


_NAMES = {"loss": "loss", "grad_norm": "gradient norm"}
