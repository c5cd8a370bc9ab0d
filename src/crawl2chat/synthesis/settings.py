"""Settings of the stage that has a model write questions and conversations."""

from typing import Literal

from pydantic import Field, model_validator

from crawl2chat.refine.settings import DecontaminateSettings
from crawl2chat.stages.settings import Settings, with_default


class EvaluationSettings(DecontaminateSettings):
    """Files of evaluations whose questions are not written again."""

    min_words: int = with_default(DecontaminateSettings, "min_words", 3)


class SynthesizeSettings(Settings):
    """Which model writes, about how much of the documents, and what of it is kept."""

    RUNTIME_ONLY = frozenset({"threads", "timeout", "key_variable"})

    url: str | None = Field(
        None,
        description="address of a server with OpenAI's chat completions, up to and with /v1, whose model writes; "
        "default: the run's own model",
    )
    model: str | None = Field(None, description="the model's name on that server")
    key_variable: str | None = Field(None, description="environment variable that holds the server's key")
    threads: int = Field(4, ge=1, description="number of requests to the server at a time")
    timeout: float = Field(120, gt=0, description="timeout for one answer of the server, in seconds")
    weights: Literal["float32", "bfloat16", "int8"] | None = Field(
        None, description="form in which the run's own model is kept while it writes; default: as it is stored"
    )
    documents: int = Field(200, ge=1, description="maximum number of documents to ask about, a choice by their hash")
    passages: int = Field(3, ge=1, description="maximum number of passages per document, spread evenly over it")
    words: int = Field(
        80, ge=20, description="maximum words in a passage, which has whole paragraphs as far as they fit"
    )
    answers: Literal["names", "listed"] = Field(
        "names",
        description="what is asked for. names: names, dates and numbers, found by their capitals and digits; listed: "
        "facts that the writer copies out of the passage, also in scripts without capitals; for larger models",
    )
    form: Literal["questions", "gaps"] = Field(
        "questions",
        description="questions: the model writes them; gaps: a sentence of the passage with the answer left out, for "
        "models too small to write questions (at 135 M parameters, 2 of 100 about web pages were good enough)",
    )
    questions: int = Field(2, ge=1, description="maximum number of questions per passage")
    answer_words: int = Field(8, ge=1, description="maximum number of words in an answer")
    wordings: int = Field(3, ge=1, description="maximum number of wordings per question")
    temperature: float = Field(0.8, gt=0, description="temperature at which other wordings are sampled")
    unknown_only: bool = Field(
        False, description="drop questions that the writer answers without the passage, since they teach nothing new"
    )
    with_passage: float = Field(
        0.5, ge=0, le=1, description="share of the conversations in which the passage comes before the question"
    )
    probe: float = Field(0.3, ge=0, le=1, description="share of the documents whose questions are probed")
    held_out: float = Field(0.2, ge=0, le=1, description="share of the documents whose questions are only measured")
    min_similarity: float = Field(
        0.7, ge=0, le=1, description="drop a question that, with its answer, is this similar to an earlier one"
    )
    decontaminate: EvaluationSettings = EvaluationSettings()
    seed: int = Field(0, description="seed of the other wordings and of which conversations have the passage")

    @model_validator(mode="after")
    def _possible(self) -> "SynthesizeSettings":
        if self.probe + self.held_out >= 1:
            raise ValueError(f"probe = {self.probe} and held_out = {self.held_out} must leave documents to teach from")
        if self.url and not self.model:
            raise ValueError("url is given but no model; name the one that the server offers")
        if self.model and not self.url:
            raise ValueError(f"model = {self.model} is a name on a server, but no url is given")
        return self
