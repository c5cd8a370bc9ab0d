"""The page Rollouts: what reinforcement learning drew at a step, how it was rewarded, and the control's beside it."""

from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field
from starlette.requests import Request

from crawl2chat.rl.rollout_log import RolloutReader
from crawl2chat.serve.api.requests import Strict
from crawl2chat.serve.app.context import AppContext
from crawl2chat.serve.app.training import training_id
from crawl2chat.serve.errors import ApiError
from crawl2chat.serve.http import get, post
from crawl2chat.stages.stage import MANIFEST, METRICS, ROLLOUTS_INDEX

MOST_STEPS = 2000  # that the slider has
MOST_ANSWERS = 20_000  # of a step whose rewards and lengths are sent

Log = Literal["rewards", "control"]


class StepRequest(Strict):
    step: Annotated[int, Field(ge=0, lt=1 << 62)]


class GroupRequest(Strict):
    step: Annotated[int, Field(ge=0, lt=1 << 62)]
    group: Annotated[int, Field(ge=0, lt=1 << 31)]
    log: Log = "rewards"


class RolloutsPage:
    """Reads the log by its index, also while it is written; of no step more than its own lines."""

    def __init__(self, context: AppContext) -> None:
        self.context = context

    @get("/app/rollouts/about")
    def about(self, request: Request) -> dict[str, Any]:
        """The steps that can be shown, or why there are none."""
        logs = self._logs()
        if not logs:
            return {"steps": [], "logs": [], "problem": self._problem()}
        steps = logs["rewards"].steps
        shown = steps if len(steps) <= MOST_STEPS else steps[np.linspace(0, len(steps) - 1, MOST_STEPS).astype(int)]
        return {
            "steps": shown.tolist(), "n_steps": len(steps), "logs": list(logs), "problem": None,
            "finished": (self._folder / MANIFEST).exists(),
            "trainings": [
                training_id(self.context, log.folder) for log in logs.values() if (log.folder / METRICS).exists()
            ],
        }  # fmt: skip

    @post("/app/rollouts/step", StepRequest)
    def step(self, request: Request, body: StepRequest) -> dict[str, Any]:
        """Rewards, advantages and lengths of all answers of the logged step that is nearest to the one asked for."""
        logs = self._logs()
        if not logs:
            raise ApiError(404, self._problem(), code="no_rollouts")
        steps = logs["rewards"].steps
        step = int(steps[np.argmin(np.abs(steps.astype(np.int64) - body.step))])
        return {"step": step, "logs": {name: self._shown(log.head(step)) for name, log in logs.items()}}

    @post("/app/rollouts/group", GroupRequest)
    def group(self, request: Request, body: GroupRequest) -> dict[str, Any]:
        """All answers to one prompt, token by token."""
        log = self._logs().get(body.log)
        found = log.group(body.step, body.group) if log else None
        if found is None:
            raise ApiError(404, f"step {body.step} has no group {body.group} in its log", code="no_such_group")
        return found

    @property
    def _folder(self) -> Path:
        """Of the stage: the run's, or what was opened itself."""
        if (self.context.folder / ROLLOUTS_INDEX).exists():
            return self.context.folder
        return self.context.folder / "reinforce"

    def _logs(self) -> dict[str, RolloutReader]:
        """The training's log and the control's, as far as they have steps."""
        readers = {"rewards": RolloutReader(self._folder), "control": RolloutReader(self._folder / "control")}
        logs = {name: reader for name, reader in readers.items() if len(reader.steps)}
        return logs if "rewards" in logs else {}

    def _problem(self) -> str:
        if self._folder.exists():
            return (
                "This run’s stage reinforce kept no rollouts: it has drawn none yet, was made by an earlier version, "
                "or had reinforce.logged_steps = 0."
            )
        return "This run has no stage reinforce yet; it writes what this page shows (crawl2chat reinforce)."

    @staticmethod
    def _shown(head: dict[str, Any] | None) -> dict[str, Any] | None:
        if head is None:
            return None
        n = max(1, MOST_ANSWERS // max(1, len(head["rewards"][0]))) if head["rewards"] else 0
        lists = {name: head[name][:n] for name in ("rewards", "advantages", "lengths", "cut", "questions")}
        return {**lists, "n_groups": len(head["rewards"]), "n_shown": len(head["shown"])}
