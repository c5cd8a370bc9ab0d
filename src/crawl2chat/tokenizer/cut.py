"""A text cut into tokens for people to look at: where each token begins, and which of them share a character."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from crawl2chat.tokenizer.encoding import Encoding
from crawl2chat.tokenizer.runs import to_nfc

SIGNS = {" ": "·", "\n": "⏎", "\r": "␍", "\t": "⇥", "\u00a0": "⍽"}  # as `common/ui.js` shows them
UNSEEN = ("Cc", "Cf", "Zl", "Zp", "Zs", "Cs", "Co")


@dataclass(frozen=True)
class Cut:
    """Tokens of a text, and groups of them: the smallest runs of tokens that hold whole graphemes.

    A grapheme is what a reader takes for one character: é written with two code points, an emoji of seven.
    """

    content: bytes  # the text in UTF-8, as the encoding reads it
    ids: np.ndarray  # (tokens,) int64
    ends: np.ndarray  # (tokens,) int64: the byte of `content` behind each token
    group_ends: np.ndarray  # (groups,) int64: the token behind each group

    @property
    def bytes_per_token(self) -> float:
        return len(self.content) / max(1, len(self.ids))

    def tokens(self) -> list[bytes]:
        """The bytes of each token."""
        return [self.content[begin:end] for begin, end in pairwise([0, *self.ends.tolist()])]


def cut(encoding: Encoding, text: str) -> Cut:
    """Encode ordinary text. Halves of surrogate pairs, which are not text, become U+FFFD."""
    text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return cut_ids(encoding, encoding.encode(text), to_nfc(text) if encoding.nfc else text)


def cut_ids(encoding: Encoding, ids: Sequence[int], text: str) -> Cut:
    """Groups of ids that decode to `text`."""
    array = np.array(ids, np.int64)
    ends = encoding.lengths[array].cumsum() if len(ids) else array
    content = text.encode()
    at_border = np.isin(ends, grapheme_ends(text))
    return Cut(content, array, ends, np.flatnonzero(at_border) + 1)


def grapheme_ends(text: str) -> np.ndarray:
    """The byte of the text's UTF-8 behind each grapheme (UAX 29), int64."""
    if text.isascii():
        ends = np.arange(1, len(text) + 1, dtype=np.int64)
        return ends[[i for i in range(len(text)) if text[i : i + 2] != "\r\n"]] if "\r\n" in text else ends
    from icu4py.breakers import CharacterBreaker

    return np.cumsum([len(grapheme.encode()) for grapheme in CharacterBreaker(text, "en")], dtype=np.int64)


def visible(token: bytes) -> str:
    """A token's text with signs for white space and control characters; ⟨e2⟩ for a byte of a part of a character."""
    return "".join(map(_visible, token.decode("utf-8", "surrogateescape")))


def _visible(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # a byte that is not UTF-8 where it is
        return f"⟨{ord(character) - 0xDC00:02x}⟩"
    if character in SIGNS:
        return SIGNS[character]
    return f"⟨{ord(character):x}⟩" if unicodedata.category(character) in UNSEEN else character
