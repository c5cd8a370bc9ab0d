"""A byte-pair encoding: text to token ids and back. tiktoken does the work, or where it can't, `library`."""

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

import numpy as np
import tiktoken

if TYPE_CHECKING:
    from crawl2chat.tokenizer.library import LibraryEncoding

# Long runs of white space or of combining marks are more than the libraries behind the tokenizer can take.
# Every common split pattern ends in `\s+(?!\S)`. For its lookahead the engine behind tiktoken and rustbpe keeps a place
# to backtrack to for each character of the run, a million at most; one more ends the process with a panic.
# Python's NFC sorts the marks after a letter by insertion, in quadratic time.
MAX_SPACE_RUN, MAX_MARK_RUN = 1 << 16, 1 << 8  # characters; a shorter run is never cut
UNKNOWN = "\ufffd".encode()
NOT_SPACE = re.compile(r"\S")


class Encoding:
    """A BPE vocabulary with control tokens next to it.

    `ranks` maps a token's bytes to its id, which is also its merge priority; `controls` maps names to ids.
    """

    def __init__(
        self,
        ranks: dict[bytes, int],
        controls: Mapping[str, int],
        pattern: str,
        *,
        nfc: bool = False,
        library: "LibraryEncoding | None" = None,
        by_id: Mapping[int, bytes] | None = None,
    ) -> None:
        """pattern: the regular expression that cuts a text into pieces, across whose borders nothing is merged.
        nfc: whether text is put into Unicode's composed form first, as Qwen's own tokenizers do.
        library, by_id: for what tiktoken can't express: what encodes, and the bytes of each token, since several may
        have the same ones.
        """
        self.ranks, self.controls, self.pattern, self.nfc = ranks, dict(controls), pattern, nfc
        self.library = library
        self.encoding = library or tiktoken.Encoding(
            "crawl2chat", pat_str=pattern, mergeable_ranks=ranks, special_tokens=self.controls
        )
        names = {id: name.encode() for name, id in self.controls.items()}
        self._given = None if by_id is None else dict(sorted((dict(by_id) | names).items()))
        self.vocab_size = 1 + max((*self.ranks.values(), *self.controls.values(), *(by_id or ())))

    def encode(self, text: str, *, at_start: bool = True) -> list[int]:
        """Ids of ordinary text; what looks like a control token in it stays text.

        at_start: whether it begins a text; some tokenizers of SentencePiece's kind then put a space before it.
        """
        if self.library:
            first, *others = self._stretches(text)
            parts = [self.library.encode_ordinary(first, at_start=at_start)]
            return _joined([*parts, *(self.library.encode_ordinary(part, at_start=False) for part in others)])
        return _joined(map(self.encoding.encode_ordinary, self._stretches(text)))

    def encode_with_ends(self, text: str, *, at_start: bool = True) -> tuple[list[int], list[int]]:
        """As `encode`, of text that is composed if need be, and the character of the text after each token."""
        if self.library:
            return self.library.ends(text, at_start=at_start)
        ids = self.encode(text)
        ends = list(accumulate(map(self._length.__getitem__, ids)))
        if not text.isascii():  # a token may end within a character, which then is its last one
            begins = np.cumsum([0, *(len(character.encode()) for character in text)])
            ends = np.searchsorted(begins, ends).tolist()
        return ids, ends

    def encode_with_controls(self, text: str) -> list[int]:
        """Ids of text in which names of control tokens become these tokens."""
        longest_first = sorted(map(re.escape, self.controls), key=len, reverse=True)
        ids: list[int] = []
        for i, part in enumerate(re.split(f"({'|'.join(longest_first)})", text) if longest_first else [text]):
            ids += [self.controls[part]] if i % 2 else self.encode(part, at_start=not ids) if part else []
        return ids

    def encode_batch(self, texts: Sequence[str], threads: int = 2) -> list[list[int]]:
        """As `encode`, of many texts."""
        stretches = [self._stretches(text) for text in texts]
        if self.library and any(len(of_text) > 1 for of_text in stretches):
            return [self.encode(text) for text in texts]
        flat = [stretch for of_text in stretches for stretch in of_text]
        encoded = iter(self.encoding.encode_ordinary_batch(flat, num_threads=threads))
        return [_joined(next(encoded) for _ in of_text) for of_text in stretches]

    def _stretches(self, text: str) -> list[str]:
        return cut_white_space(to_nfc(text) if self.nfc else text)

    def decode(self, ids: Iterable[int]) -> str:
        """Text of the ids, control tokens by their names; bytes that are not UTF-8 become U+FFFD."""
        return self.decode_bytes(ids).decode("utf-8", errors="replace")

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The bytes of the ids; U+FFFD for one beyond the vocabulary, as models with a padded embedding have."""
        known = list(ids)
        if isinstance(self.encoding, tiktoken.Encoding):
            try:
                return self.encoding.decode_bytes(known)
            except KeyError:
                pass
        return b"".join(self.by_id.get(id, UNKNOWN) for id in known)

    @cached_property
    def _length(self) -> list[int]:
        return list(map(int, self.lengths))

    @cached_property
    def lengths(self) -> np.ndarray:
        """The bytes of each token, by id; 0 for an id that is not used. int64."""
        lengths = np.zeros(self.vocab_size, np.int64)
        for id, token in self.by_id.items():
            lengths[id] = len(token)
        return lengths

    @cached_property
    def by_id(self) -> dict[int, bytes]:
        """The bytes of each token, control tokens by their names, in the order of their ids."""
        if self._given is not None:
            return self._given
        controls = {id: name.encode() for name, id in self.controls.items()}
        return dict(sorted(({id: token for token, id in self.ranks.items()} | controls).items()))

    @cached_property
    def merges(self) -> list[tuple[bytes, bytes]]:
        """Every pair whose concatenation is a token, in the order in which tiktoken would merge them."""
        merges: list[tuple[int, int, int, bytes, bytes]] = []
        for token, rank in self.ranks.items():
            for i in range(1, len(token)):
                left, right = token[:i], token[i:]
                if left in self.ranks and right in self.ranks:
                    merges.append((rank, self.ranks[left], self.ranks[right], left, right))
        return [(left, right) for *_, left, right in sorted(merges)]


def _joined(parts: Iterable[list[int]]) -> list[int]:
    first, *others = parts
    for ids in others:
        first += ids
    return first


def cut_white_space(text: str) -> list[str]:
    """The text in stretches, none of which holds 2 * MAX_SPACE_RUN characters of white space in a row."""
    return _cut(text, MAX_SPACE_RUN, lambda begin, end: not NOT_SPACE.search(text, begin, end))


def to_nfc(text: str) -> str:
    """Unicode's composed form (UAX 15), in linear time; a run of MAX_MARK_RUN combining marks or more may be cut."""
    marks = _cut(text, MAX_MARK_RUN, lambda begin, end: all(map(unicodedata.combining, text[begin:end])))
    return "".join(unicodedata.normalize("NFC", stretch) for stretch in marks)


def _cut(text: str, longest: int, is_run: Callable[[int, int], bool]) -> list[str]:
    """Cut where `is_run` holds of all that is between two multiples of `longest`: a run of twice that length has such.

    Most stretches are known from their first character, so that ordinary text costs next to nothing.
    """
    runs = [at for at in range(0, len(text) - longest + 1, longest) if is_run(at, at + longest)]
    if not runs:
        return [text]
    cuts = sorted({0, len(text), *runs, *(at + longest for at in runs)})
    return [text[begin:end] for begin, end in pairwise(cuts)]
