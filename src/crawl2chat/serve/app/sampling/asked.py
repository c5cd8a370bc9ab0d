"""What the page Sampling may ask."""

from typing import Annotated

from pydantic import Field

from crawl2chat.serve.requests import Ids, Request, Strict

MOST_CHARACTERS = 1 << 20
MOST_IDS = 1 << 17
MOST_CANDIDATES = 500
MOST_BRANCHES = 8

Tokens = Annotated[Ids, Field(max_length=MOST_IDS)]


class PromptRequest(Strict):
    """POST /app/sampling/prompt: the tokens of a text, as the beginning of a document or as a question."""

    model: str | None = None
    text: Annotated[str, Field(max_length=MOST_CHARACTERS)]
    chat: bool = False


class TextsRequest(Strict):
    """POST /app/sampling/texts: what tokens say."""

    model: str | None = None
    ids: Tokens


class ScoreRequest(Strict):
    """POST /app/sampling/score: how probable each token of a text is."""

    model: str | None = None
    ids: Tokens


class StepRequest(Request):
    """POST /app/sampling/step: one step's distribution at each control. The penalties read prompt and answer."""

    prompt: Tokens
    answer: Tokens = Field(default_factory=list)
    top: Annotated[int, Field(ge=1, le=MOST_CANDIDATES)] = 40
    also: Ids = Field(default_factory=list, max_length=MOST_CANDIDATES)  # report these, however improbable they are


class GoRequest(Request):
    """POST /app/sampling/go: continuations, each token with its probability before and after the controls.

    `n` of them, with the seeds seed, seed + 1, …
    """

    prompt: Tokens
    answer: Tokens = Field(default_factory=list)
    n: Annotated[int, Field(ge=1, le=MOST_BRANCHES)] | None = None
