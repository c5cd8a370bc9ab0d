"""Settings of the honesty stage."""

from pydantic import Field, model_validator

from crawl2chat.chat.settings import FineTuneSettings
from crawl2chat.honesty.identity import Card


class HonestySettings(FineTuneSettings):
    """How knowledge is probed, what is taught about it, and the further fine-tuning that teaches it."""

    epochs: float = Field(2.0, gt=0, description="passes over the conversations")
    matrix_lr: float = Field(0.01, gt=0, description="Muon's learning rate for matrices")
    embedding_lr: float = Field(0.002, gt=0, description="AdamW's learning rate for embeddings, head and norms")
    card: Card = Card()
    wordings: int = Field(4, ge=1, le=8, description="ways in which each fact is asked when it is probed, and taught")
    samples: int = Field(5, ge=1, description="answers drawn a wording")
    temperature: float = Field(0.7, gt=0, description="at which they are drawn")
    known_from: float = Field(0.6, gt=0, le=1, description="share of right answers from which a fact counts as known")
    unknown_to: float = Field(0.2, ge=0, lt=1, description="share of right answers up to which it counts as unknown")
    strangers: int = Field(700, ge=10, description="invented people, in no document, whom the model learns not to know")
    looked_up: int = Field(700, ge=10, description="invented people looked up, each on a page of its own")
    calculations: int = Field(5000, ge=0, description="sums done with the calculator")
    identity: int = Field(12, ge=0, description="conversations a wording about who the model is")
    replay: float = Field(0.5, ge=0, le=1, description="share of the earlier conversations that is learned again")

    @model_validator(mode="after")
    def _classes_apart(self) -> "HonestySettings":
        if self.unknown_to >= self.known_from:
            raise ValueError(f"unknown_to = {self.unknown_to} must be below known_from = {self.known_from}")
        return self
