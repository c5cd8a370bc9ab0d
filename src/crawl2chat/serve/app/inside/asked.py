"""What the page may ask: which pass is meant, and which slice of it."""

from typing import Annotated, Literal

from pydantic import Field

from crawl2chat.model.inside import Change
from crawl2chat.serve.requests import Strict

LONGEST_TEXT = 20_000  # characters
MOST_CHANGES = 32
MOST_PINS = 8

Text = Annotated[str, Field(max_length=LONGEST_TEXT)]
Number = Annotated[int, Field(ge=0, lt=1 << 31)]
Form = Literal["document", "chat", "bare"]


class ChangeAsked(Strict):
    """A `Change` of `model.inside`, which checks it."""

    part: Literal["head", "attention", "mlp", "block", "residual"]
    layer: Number
    head: Number | None = None
    at: Number | None = None
    patched: bool = False
    source: Number | None = None

    def change(self) -> Change:
        return Change(self.part, self.layer, self.head, self.at, self.patched, self.source)


class PassAsked(Strict):
    """A pass over a text.

    form: document (the text begins one, as in training), chat (it is a user's message), or bare (nothing is added).
    other: the text that patched activations come from, read in the same form.
    """

    model: str | None = None
    text: Text
    form: Form = "document"
    changes: Annotated[tuple[ChangeAsked, ...], Field(max_length=MOST_CHANGES, strict=False)] = ()
    other: Text | None = None


class AtAsked(PassAsked):
    at: Number  # a position


class BlockAsked(AtAsked):
    layer: Number


class HeadAsked(PassAsked):
    """raw: queries and keys as they are before their norm and the rotation."""

    layer: Number
    head: Number
    raw: bool = False


class MlpAsked(PassAsked):
    layer: Number


class WritesAsked(AtAsked):
    """What a head, or without one the MLP, adds to the stream at a position, read through the lens."""

    layer: Number
    head: Number | None = None


class PinsAsked(PassAsked):
    ids: Annotated[list[Number], Field(min_length=1, max_length=MOST_PINS)]


class EffectsAsked(AtAsked):
    """id: the token whose probability is watched, or None for the most probable one."""

    id: Number | None = None
