"""Settings of supervised fine-tuning."""

from pydantic import Field

from crawl2chat.train.settings import TrainSettings


class FineTuneSettings(TrainSettings):
    """Fine-tuning on conversations: short, and at rates below pretraining's."""

    epochs: float = Field(3.0, gt=0, description="passes over the conversations")
    matrix_lr: float = Field(0.004, gt=0, description="Muon's learning rate for matrices")
    embedding_lr: float = Field(0.001, gt=0, description="AdamW's learning rate for embeddings, head and norms")
    warmup: float = Field(0.05, ge=0, le=1, description="share of the steps in which the rate rises")
    decay: float = Field(0.95, ge=0, le=1, description="share of the steps in which the rate falls to zero")


class SftSettings(FineTuneSettings):
    """The first fine-tuning, and what conversations are made for it."""

    wordings: int = Field(4, ge=1, description="ways in which each fact of a person is asked, for a fictional web")
    direct_sums: int = Field(600, ge=0, description="sums asked for and answered at once, for a fictional web")
    worked_sums: int = Field(1500, ge=0, description="sums asked for and answered step by step")
    open_sums: int = Field(600, ge=0, description="sums asked for plainly, and as many word problems")
    worked_share: float = Field(0.3, ge=0, le=1, description="share of those that are answered step by step")
