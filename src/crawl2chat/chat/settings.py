"""Settings of supervised fine-tuning."""

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
    """The first fine-tuning, and what conversations are made for it."""

    wordings: int = Field(4, ge=1, description="for a fictional web: wordings in which each fact of a person is asked")
    direct_sums: int = Field(600, ge=0, description="for a fictional web: sums answered at once")
    worked_sums: int = Field(1500, ge=0, description="sums answered step by step, as the question asks")
    open_sums: int = Field(
        600, ge=0, description="sums asked without saying how to answer, and the same number of word problems"
    )
    worked_share: float = Field(0.3, ge=0, le=1, description="share of those answered step by step")
