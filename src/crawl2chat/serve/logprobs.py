"""Log-probabilities in the two shapes that OpenAI's API has for them: one of completions, one of chats.

There is an entry for every id of an answer, also for those whose text is held back or left out: parts of characters,
stop texts, and the token that ends it.
"""

import codecs
from collections.abc import Mapping, Sequence
from typing import Any

from crawl2chat.generate import Candidates
from crawl2chat.serve.worker import Piece, PromptRead
from crawl2chat.tokenizer import Tokenizer

LEAST = -9999.0  # OpenAI's way to write −∞, which JSON can't


def token_text(tokenizer: Tokenizer, id: int) -> str:
    """A token as text; one that is no whole characters by its bytes, as OpenAI writes it, so that no two look alike."""
    content = tokenizer.decode_bytes([id])
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in content)


class CompletionLogprobs:
    """Lists with an entry a token, and the place of each token in the text."""

    def __init__(self, tokenizer: Tokenizer, *, controlled: bool) -> None:
        """controlled: whether to add the log-probabilities after all controls."""
        self.tokenizer, self.controlled = tokenizer, controlled
        self.decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self.offset = 0

    def of_prompt(self, ids: Sequence[int], read: PromptRead, skipped: int) -> dict[str, Any]:
        """Of the prompt but its first `skipped` tokens, which are not part of what was asked; the first has none."""
        ids = ids[skipped:]  # none are left of a text without one
        values = [None, *read.logprobs[skipped + 1 :]][: len(ids)]
        entry = self._lists(ids, values, [None, *read.top[skipped + 1 :]][: len(ids)])
        if self.controlled:  # nothing controls a prompt
            entry |= {"controlled_token_logprobs": values, "controlled_top_logprobs": entry["top_logprobs"]}
        return entry

    def of_piece(self, piece: Piece) -> dict[str, Any]:
        entry = self._lists(piece.ids, piece.model_logprobs, piece.top)
        if self.controlled:
            entry["controlled_token_logprobs"] = [_finite(value) for value in piece.logprobs]
            entry["controlled_top_logprobs"] = self._tops(piece.ids, piece.logprobs, piece.top_controlled)
        return entry

    def _lists(
        self, ids: Sequence[int], values: Sequence[float | None], tops: Sequence[Candidates | None]
    ) -> dict[str, Any]:
        offsets = []
        for id in ids:
            offsets.append(self.offset)
            self.offset += len(self.decoder.decode(self.tokenizer.decode_bytes([id])))
        return {
            "tokens": [token_text(self.tokenizer, id) for id in ids],
            "token_logprobs": [_finite(value) for value in values],
            "top_logprobs": self._tops(ids, values, tops),
            "text_offset": offsets,
        }

    def _tops(
        self, ids: Sequence[int], values: Sequence[float | None], tops: Sequence[Candidates | None]
    ) -> list[dict[str, float] | None]:
        return [
            None if value is None else self._top(id, value, top or [])
            for id, value, top in zip(ids, values, tops, strict=True)
        ]

    def _top(self, id: int, value: float, top: Candidates) -> dict[str, float]:
        """The most probable tokens and the one that stands here; of two that look alike the more probable."""
        entry: dict[str, float] = {}
        for other, logprob in top:
            entry.setdefault(token_text(self.tokenizer, other), max(LEAST, logprob))
        entry.setdefault(token_text(self.tokenizer, id), max(LEAST, value))
        return entry


def chat_logprobs(tokenizer: Tokenizer, piece: Piece, *, controlled: bool) -> list[dict[str, Any]]:
    """An entry a token, with the most probable ones that could have stood there."""
    entries = []
    for i, id in enumerate(piece.ids):
        entry = _entry(tokenizer, id, piece.model_logprobs[i])
        entry["top_logprobs"] = [_entry(tokenizer, *candidate) for candidate in piece.top[i]]
        if controlled:
            entry["controlled_logprob"] = max(LEAST, piece.logprobs[i])
            entry["controlled_top_logprobs"] = [_entry(tokenizer, *candidate) for candidate in piece.top_controlled[i]]
        entries.append(entry)
    return entries


def join(lists: Sequence[Mapping[str, list[Any]]]) -> dict[str, list[Any]]:
    """The lists of several pieces behind each other."""
    return {name: [value for part in lists for value in part[name]] for name in (lists[0] if lists else {})}


def _entry(tokenizer: Tokenizer, id: int, logprob: float) -> dict[str, Any]:
    is_control = id in tokenizer.controls.values()
    return {
        "token": token_text(tokenizer, id),
        "logprob": max(LEAST, logprob),
        "bytes": None if is_control else list(tokenizer.decode_bytes([id])),
    }


def _finite(value: float | None) -> float | None:
    return None if value is None else max(LEAST, value)
