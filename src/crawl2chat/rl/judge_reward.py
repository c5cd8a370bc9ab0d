"""A language model's judgement of answers as a reward.

What judges favour is learned along with what is meant, such as length (arXiv 2306.05685, section 3.3). So the share of
right answers stays what a run is measured by, and the judge's score is one more figure.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from crawl2chat.evals.judging import Question
from crawl2chat.generate import Completion
from crawl2chat.generate.chat_models import ChatModel, Remembered, ServerModel, open_local
from crawl2chat.rl.preferences.judge import RATINGS, RUBRIC, score
from crawl2chat.rl.preferences.store import Prompt
from crawl2chat.rl.settings import ReinforceSettings
from crawl2chat.stages.chat_server import ChatServer
from crawl2chat.stages.files import StageError

JUDGEMENTS = "judgements.jsonl"  # of a server, in the stage's folder until it ends
MANY = 8  # answers, among which a judge that works gives some number


@dataclass(frozen=True)
class JudgeReward:
    """A judge and what makes an answer good; weight: of its score in the reward."""

    judge: ChatModel
    weight: float
    rubric: str

    def scores(self, problems: Sequence[Question], answers: Sequence[Completion]) -> list[float]:
        """Return what each answer is worth, from 0 (bad) to 1 (very good).

        0 for answers that were cut off, which are not shown to the judge, and where it gives no number.
        Raises StageError if it gives none to any of many answers.
        """
        ended = [i for i, answer in enumerate(answers) if answer.finish_reason == "stop"]
        points = score(self.judge, [(Prompt(problems[i].text), answers[i].text) for i in ended], self.rubric)
        if len(ended) >= MANY and all(rating != rating for rating in points):
            raise StageError(
                f"reinforce.judge: {self.judge.name} gave no score to any of {len(ended)} answers; expected a number "
                f"from {RATINGS[0]} to {RATINGS[-1]} as its reply, and a context that holds the question and the answer"
            )
        scores = [0.0] * len(answers)
        for i, rating in zip(ended, points, strict=True):
            scores[i] = (rating - 1) / (len(RATINGS) - 1) if rating == rating else 0.0
        return scores


def judge_of(settings: ReinforceSettings, out: Path) -> JudgeReward | None:
    """Return the judge that the settings name; None without one. Raises StageError for one that can't be asked."""
    if not settings.judge:
        return None
    judge: ChatModel
    if settings.judges_on_server:
        key = os.environ.get(settings.judge_key_variable or "", "")
        if settings.judge_key_variable and not key:
            raise StageError(f"reinforce.judge_key_variable = {settings.judge_key_variable}: no such variable")
        server = ChatServer(settings.judge, settings.judge_model or "", key, caller="reinforce.judge")
        judge = Remembered(
            ServerModel(server), out / JUDGEMENTS, label=""
        )  # so that a killed run ends as one that was not
    else:
        judge = open_local(Path(settings.judge).expanduser())
    return JudgeReward(judge, settings.judge_weight, settings.judge_rubric or RUBRIC)
