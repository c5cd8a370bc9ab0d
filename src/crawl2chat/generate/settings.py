"""The settings of sampling, each with its help and its bounds in one place.

The command line, `/set` in a chat, the HTTP API and the pages all take them from here. Nothing heavy is imported, so
that `--help` is quick.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Annotated, Any, get_type_hints

SHORT_LIST = 64  # most probable tokens, among which a sequence with a top-k up to this draws; finding more takes longer


@dataclass(frozen=True)
class Control:
    """What a field of `Sampling` does, and which numbers it takes."""

    help: str
    least: float = -math.inf
    most: float = math.inf
    or_zero: bool = False  # whether 0 is allowed, too

    def allows(self, value: float) -> bool:
        """Whether a number is within the bounds; NaN never is."""
        return self.least <= value <= self.most or (self.or_zero and value == 0)

    @property
    def bounds(self) -> str:
        if self.most == math.inf:
            return f"at least {_plain(self.least)}"
        return f"{'0, or ' * self.or_zero}from {_plain(self.least)} to {_plain(self.most)}"


@dataclass(frozen=True)
class Sampling:
    """How to draw the next token, and when to stop. Raises ValueError with every value that is out of bounds.

    The bounds keep every number far from where float32 ends, so that no logits turn into NaN.
    """

    temperature: Annotated[
        float,
        Control(
            "divide the logits by N: below 1 is safer, above 1 wilder; 0 takes the most probable token", 1e-4, 1e4, True
        ),
    ] = 1.0
    top_k: Annotated[int, Control("keep the N most probable tokens; 0 keeps all", 0)] = 0
    top_p: Annotated[
        float, Control("keep the smallest set of tokens whose probabilities add up to N; 1 keeps all", 1e-6, 1)
    ] = 1.0
    min_p: Annotated[
        float, Control("keep tokens with at least N times the probability of the most probable one; 0 keeps all", 0, 1)
    ] = 0.0
    repetition_penalty: Annotated[
        float, Control("above 1, make tokens that occur in prompt or answer less probable", 0.01, 100)
    ] = 1.0
    presence_penalty: Annotated[
        float, Control("subtract N from the logit of every token that occurs in the answer", -100, 100)
    ] = 0.0
    frequency_penalty: Annotated[
        float, Control("subtract N once per occurrence of the token in the answer", -100, 100)
    ] = 0.0
    logit_bias: Annotated[
        Mapping[int, float],
        Control(
            "add VALUE to a token's logit: -100 forbids it, 100 forces it; `crawl2chat tokens` shows ids; repeatable",
            most=1e4,
        ),
    ] = field(default_factory=dict)
    max_tokens: Annotated[int, Control("maximum length of the answer, in tokens; 0 only reads the prompt", 0)] = 128
    stop: Annotated[tuple[str, ...], Control("end the answer before this text; repeatable")] = ()
    seed: Annotated[int, Control("seed of the draws", 0)] = 0
    # no control, so it has no help: the caller asks to be shown this many of the most probable tokens per step
    top_logprobs: int = 0

    def __post_init__(self) -> None:
        problems = [
            f"{name} = {getattr(self, name)}: must be {control.bounds}"
            for name, control in NUMBERS.items()
            if not control.allows(getattr(self, name))
        ]
        if isinstance(self.stop, str) or not all(self.stop):
            problems.append("stop: must be a list of non-empty texts")
        if not all(value <= CONTROLS["logit_bias"].most for value in self.logit_bias.values()):
            problems.append("logit_bias: values must be numbers of at most 10000; -inf leaves a token out")
        if self.top_logprobs < 0:
            problems.append(f"top_logprobs = {self.top_logprobs}: must be at least 0")
        if problems:
            raise ValueError("; ".join(problems))

    @property
    def greedy(self) -> bool:
        return self.temperature == 0

    @property
    def short(self) -> bool:
        """Whether the next token is surely one of the SHORT_LIST most probable ones."""
        return not self.greedy and 0 < self.top_k <= SHORT_LIST

    @property
    def penalises(self) -> bool:
        return self.repetition_penalty != 1 or self.presence_penalty != 0 or self.frequency_penalty != 0


def _plain(number: float) -> str:
    return f"{number:f}".rstrip("0").rstrip(".")


CONTROLS: dict[str, Control] = {  # in the order in which they are shown to people
    name: hint.__metadata__[0]
    for name, hint in get_type_hints(Sampling, include_extras=True).items()
    if hasattr(hint, "__metadata__")
}
NUMBERS = {name: control for name, control in CONTROLS.items() if name not in ("stop", "logit_bias")}
DEFAULTS: dict[str, Any] = {f.name: f.default for f in fields(Sampling) if f.name in NUMBERS}
