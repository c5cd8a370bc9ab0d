"""One prompt on its way to a completion, and its tokens on their way to text."""

import codecs
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from crawl2chat.generate.sampling import Written
from crawl2chat.generate.settings import Sampling
from crawl2chat.tokenizer import Tokenizer

# Constrained decoding: from the ids written so far to those that may follow; None where any may.
Rule = Callable[[Sequence[int]], Collection[int] | None]
Candidates = list[tuple[int, float]]  # ids and log-probabilities, most probable first


@dataclass
class Completion:
    """What was generated: ids (with the one that ended it), text without it, and why it ended.

    Log-probabilities are in nats. `logprobs`: of each id in the distribution that it was drawn from, after the
    controls; of a greedy choice, the controls before temperature. `model_logprobs`: before the controls.
    `top` and `top_controlled`: of each of the two, the `Sampling.top_logprobs` most probable tokens, at each id.
    `prompt_logprobs`, `prompt_top`: of the prompt's tokens by the model, where asked for; the first has none.
    `prompt_entropies`: of the distributions in which those tokens were.
    `reused`: how many of the prompt's tokens had been read before, so that nothing was computed for them.
    """

    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    text: str = ""
    finish_reason: Literal["stop", "length", "cancelled"] | None = None
    model_logprobs: list[float] = field(default_factory=list)
    top: list[Candidates] = field(default_factory=list)
    top_controlled: list[Candidates] = field(default_factory=list)
    prompt_logprobs: list[float | None] = field(default_factory=list)
    prompt_top: list[Candidates | None] = field(default_factory=list)
    prompt_entropies: list[float | None] = field(default_factory=list)
    reused: int = 0


class TextStream:
    """Feed ids with `push`; it returns the text that is safe to show, and `stopped` says when to end.

    A character may span tokens, and so may a stop sequence: what could still become one is held back.
    """

    def __init__(self, tokenizer: Tokenizer, stop: Sequence[str] = ()) -> None:
        self.tokenizer, self.stop = tokenizer, stop
        self.decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self.held = ""
        self.stopped = False

    def push(self, id: int) -> str:
        return self._release(self.decoder.decode(self.tokenizer.decode_bytes([id])))

    def finish(self) -> str:
        """What is left when generation ended without a stop sequence."""
        text = self._release(self.decoder.decode(b"", final=True))
        held, self.held = self.held, ""
        return text if self.stopped else text + held

    def _release(self, new: str) -> str:
        if self.stopped:
            return ""
        text = self.held + new
        found = [at for at in (text.find(s) for s in self.stop) if at >= 0]
        if found:
            self.stopped, self.held = True, ""
            return text[: min(found)]
        hold = max((_overlap(text, s) for s in self.stop), default=0)
        self.held = text[len(text) - hold :]
        return text[: len(text) - hold]


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that is a beginning of `stop`."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if stop.startswith(text[-n:])), 0)


@dataclass(eq=False)
class Request:
    """A prompt, how to go on with it, and how far it is."""

    prompt: list[int]
    sampling: Sampling
    limit: int  # tokens that it may write: max_tokens, or what the context has room for
    generator: np.random.Generator
    stream: TextStream
    rule: Rule | None
    wants_prompt_logprobs: bool
    seed: int = 0  # which the generator was made of, with `sampling.seed`
    completion: Completion = field(default_factory=Completion)
    row: int | None = None  # of the cache, while it runs
    n_answered: int = 0  # of the prompt's last tokens, that begin the answer
    read: int = 0  # tokens, of the prompt and then of the completion, whose keys and values are in its row

    @property
    def ended(self) -> bool:
        return self.completion.finish_reason is not None

    @property
    def prefilled(self) -> bool:
        """Whether all but the prompt's last token is read; that one is the first to be decoded."""
        return self.read >= len(self.prompt) - 1

    @property
    def next_id(self) -> int:
        """The token to be read next, once prefilled."""
        return self.completion.ids[-1] if self.completion.ids else self.prompt[-1]

    @property
    def written(self) -> Written:
        """Prompt and answer as the penalties count them."""
        if not self.n_answered:
            return self.prompt, self.completion.ids
        return self.prompt[: -self.n_answered], [*self.prompt[-self.n_answered :], *self.completion.ids]

    def tokens_read(self) -> list[int]:
        return [*self.prompt, *self.completion.ids][: self.read]

    def take(self, id: int, stop_ids: Collection[int]) -> None:
        """Add a token to the completion, and to its text what is now safe to show."""
        completion = self.completion
        completion.ids.append(id)
        if id in stop_ids:
            completion.finish_reason = "stop"
            completion.text += self.stream.finish()
            return
        completion.text += self.stream.push(id)
        if self.stream.stopped:
            completion.finish_reason = "stop"
        elif len(completion.ids) >= self.limit:
            self.end("length")

    def end(self, reason: Literal["length", "cancelled"]) -> None:
        """End before a stop: what was held back, as it might have become one, is shown."""
        self.completion.finish_reason = reason
        self.completion.text += self.stream.finish()
