"""Settings of the honesty stage."""

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field, model_validator

from crawl2chat.chat.settings import FineTuneSettings
from crawl2chat.honesty.identity import Card, CardOrFile
from crawl2chat.stages.settings import with_default


class HonestySettings(FineTuneSettings):
    """How knowledge is probed, what is taught about it, and the further fine-tuning that teaches it."""

    MOVED: ClassVar[Mapping[str, str]] = {name: f"crawl.tinyweb.{name}" for name in ("strangers", "looked_up")}

    epochs: float = with_default(FineTuneSettings, "epochs", 2.0)
    matrix_lr: float = with_default(FineTuneSettings, "matrix_lr", 0.01)
    embedding_lr: float = with_default(FineTuneSettings, "embedding_lr", 0.002)
    card: CardOrFile = Card()  # in a recipe also the name of a TOML file
    wordings: int = Field(4, ge=1, description="number of wordings in which each fact is probed and taught")
    samples: int = Field(5, ge=1, description="answers sampled per wording")
    measured_samples: int = Field(
        10, ge=2, description="answers sampled per held-out question, to test if agreement predicts what is right"
    )
    temperature: float = Field(0.7, gt=0, description="sampling temperature of these answers")
    known_from: float = Field(
        0.6, gt=0, le=1, description="minimum share of right answers for a fact to count as known"
    )
    unknown_to: float = Field(
        0.2, ge=0, lt=1, description="maximum share of right answers for a fact to count as unknown"
    )
    answered: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="minimum share of answers among the lessons on probed facts, the others being refusals; lessons on "
        "known facts are repeated to reach it, or a model that knows little learns to refuse everything; 0: no repeats",
    )
    calculations: int = Field(5000, ge=0, description="sums done with the calculator")
    products: int = Field(
        0, ge=0, description="multiplications and divisions, done with the calculator and refused without it"
    )
    identity: int = Field(12, ge=0, description="conversations per wording of who the model is")
    cards: int = Field(
        0,
        ge=0,
        description="conversations in which a system message gives another name, to be obeyed; each of a new one",
    )
    talks: float = Field(
        0.0, ge=0, le=1, description="share of what is taught that is joined to conversations of two to four questions"
    )
    invented: int = Field(
        0, ge=0, le=400, description="questions about people, places, books and companies that don't exist, to refuse"
    )
    invented_measured: int = Field(
        0, ge=0, le=400, description="number of questions with other invented names that are only asked at the end"
    )
    retention: str = Field(
        "",
        description="prompts that the model answers by itself beforehand and learns again, so that nothing else is "
        "forgotten: everyday (130 of the package) or a text file with one per line; empty: none",
    )
    own_texts: int = Field(
        0,
        ge=0,
        description="texts that the model writes beforehand and learns again, as honesty.documents says, if the "
        "documents that it was pretrained on are not there",
    )
    replay: float = Field(0.5, ge=0, le=1, description="share of the earlier conversations mixed in again")

    @model_validator(mode="after")
    def _classes_apart(self) -> "HonestySettings":
        if self.unknown_to >= self.known_from:
            raise ValueError(f"unknown_to = {self.unknown_to} must be below known_from = {self.known_from}")
        return self
