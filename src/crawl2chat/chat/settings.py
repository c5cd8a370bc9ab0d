"""Settings of supervised fine-tuning."""

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field

from crawl2chat.stages.settings import with_default
from crawl2chat.train.settings import TrainSettings


class FineTuneSettings(TrainSettings):
    """Fine-tuning on conversations: short, and at rates below pretraining's."""

    epochs: float = Field(3.0, gt=0, description="passes over the conversations")
    matrix_lr: float = with_default(TrainSettings, "matrix_lr", 0.004)
    embedding_lr: float = with_default(TrainSettings, "embedding_lr", 0.001)
    warmup: float = with_default(TrainSettings, "warmup", 0.05)
    decay: float = with_default(TrainSettings, "decay", 0.95)
    documents: float = Field(
        0.3,
        ge=0,
        description="rows of pretraining documents mixed in per row of conversations, so that facts are not forgotten",
    )


class SftSettings(FineTuneSettings):
    """The first fine-tuning, on a file of conversations."""

    MOVED: ClassVar[Mapping[str, str]] = {
        name: f"crawl.tinyweb.taught.{name}"
        for name in ("wordings", "direct_sums", "worked_sums", "open_sums", "worked_share")
    }

    held_out: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="share of the conversations kept out of training to measure the loss on; default: 0.02 of a file, "
        "at least 4, and none of the made-up web's, which brings questions to measure with",
    )
