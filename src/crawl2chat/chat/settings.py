"""Settings of supervised fine-tuning."""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from pydantic import Field, field_validator

from crawl2chat.stages.settings import Words, with_default
from crawl2chat.train.settings import LoraSettings, TrainSettings


class FineTuneSettings(TrainSettings):
    """Fine-tuning on conversations: short, and at rates below pretraining's."""

    lora: LoraSettings = LoraSettings()
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
    answers: int = Field(
        100, ge=0, description="maximum number of held-out conversations whose last answer is written and compared"
    )
    mixture: Words = Field(
        [],
        description="further files of conversations, and how often each is read per pass, such as general.jsonl=0.5 "
        "for half of it, chosen by the seed, or own.jsonl=3; the stage's own file is read once",
    )

    @field_validator("mixture")
    @classmethod
    def _has_numbers(cls, mixture: list[str]) -> list[str]:
        for part in mixture:
            try:
                bad = not float(part.rpartition("=")[2]) > 0
            except ValueError:
                bad = True
            if bad or not part.rpartition("=")[0]:
                raise ValueError(f"{part}: expected FILE=NUMBER, such as general.jsonl=0.5")
        return mixture

    def mixed_in(self) -> list[tuple[Path, float]]:
        """The further files, each with the number of times that it is read per pass."""
        parts = [part.rpartition("=") for part in self.mixture]
        return [(Path(file).expanduser(), float(times)) for file, _, times in parts]
