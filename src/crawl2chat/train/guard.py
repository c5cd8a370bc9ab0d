"""Which steps are not taken since they would do harm: those with NaN or infinite loss or gradients, and spikes."""

import math
import statistics
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

from crawl2chat.stages.files import StageError
from crawl2chat.train.settings import OptimiserSettings

WINDOW = 128  # steps that a spike is judged by
NAMES = {"loss": "loss", "grad_norm": "gradient norm"}
SPIKE = "is a spike"  # in the reason of a step that is skipped for one; of the others a value was NaN or infinite
NOTHING_COUNTS = "no token of its batch counts"  # of a step that is skipped before there is anything to judge


class Guard:
    """Judges each step by the whole batch's loss and gradient norm, before the optimiser moves.

    A loss or norm that is NaN or infinite: the step is skipped, and after `stop_after_skipped` in a row training stops.
    A spike: either of them is more than `skip_spikes` standard deviations above its mean over the last WINDOW steps,
    skipped ones included; judged once half the window is filled (OLMo-core's `SkipStepOptimizer`, there with 6 and
    128, which skips steps far below the mean too). Three or four steps at a new level widen the deviation so far
    that the level counts as normal: spikes alone never end a run.
    """

    def __init__(self, label: str, settings: OptimiserSettings, rates: str | None = None) -> None:
        """rates: what the learning rates' settings begin with, by default `label.`."""
        self.label, self.rates = label, f"{label}." if rates is None else rates
        self.spike, self.stop_after = settings.skip_spikes, settings.stop_after_skipped
        self.last: dict[str, deque[float]] = {"loss": deque(maxlen=WINDOW), "grad_norm": deque(maxlen=WINDOW)}
        self.not_numbers = 0  # steps in a row

    def replay_metrics(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Judge as if the steps of these lines of `metrics.jsonl`, from before a kill, had been judged here."""
        for line in lines:
            if line.get("skipped") == NOTHING_COUNTS:
                continue
            if "grad_norm" in line or "skipped" in line:  # a step's, not an evaluation's
                self._remember(line, broken=SPIKE not in line.get("skipped", SPIKE))

    def judge(self, step: int, grad_norm: float, loss: float | None = None) -> str | None:
        """Why the step is not to be taken, or None. Raises StageError after several that are NaN or infinite."""
        values = {"grad_norm": grad_norm} if loss is None else {"loss": loss, "grad_norm": grad_norm}
        broken = [f"the {NAMES[name]} is {value}" for name, value in values.items() if not math.isfinite(value)]
        reason = broken[0] if broken else next(filter(None, (self._spike(*item) for item in values.items())), None)
        self._remember({name: value for name, value in values.items() if math.isfinite(value)}, bool(broken))
        if broken and self.not_numbers >= self.stop_after:
            raise StageError(
                f"{self.label}: {reason} at step {step}, as in {self.stop_after} steps in a row, so training doesn't "
                f"come back by skipping them; lower {self.rates}matrix_lr and {self.rates}embedding_lr"
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
        return f"the {NAMES[name]} of {value:.4g} {SPIKE}, above {limit:.4g}" if value > limit else None
