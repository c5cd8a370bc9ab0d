"""Tokens to text, piece by piece: whole characters only, and nothing of a stop sequence."""

import codecs
from collections.abc import Sequence

from crawl2chat.tokenizer import Tokenizer


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
