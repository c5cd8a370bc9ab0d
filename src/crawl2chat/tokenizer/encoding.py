"""A byte-level byte-pair encoding: text to token ids and back. tiktoken does the work."""

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property

import numpy as np
import tiktoken

from crawl2chat.tokenizer.runs import cut_white_space, to_nfc


class Encoding:
    """A byte-level BPE vocabulary with control tokens beside it.

    `ranks` maps a token's bytes to its id, which is also its merge priority; `controls` maps names to ids.
    """

    def __init__(
        self, ranks: dict[bytes, int], controls: Mapping[str, int], pattern: str, *, nfc: bool = False
    ) -> None:
        """pattern: the regular expression that cuts a text into pieces, across whose borders nothing is merged.
        nfc: whether text is put into Unicode's composed form first, as Qwen's own tokenizers do.
        """
        self.ranks, self.controls, self.pattern, self.nfc = ranks, dict(controls), pattern, nfc
        self.encoding = tiktoken.Encoding(
            "crawl2chat", pat_str=pattern, mergeable_ranks=ranks, special_tokens=self.controls
        )
        self.vocab_size = self.encoding.n_vocab

    def encode(self, text: str) -> list[int]:
        """Ids of ordinary text; what looks like a control token in it stays text."""
        return _joined(map(self.encoding.encode_ordinary, self._stretches(text)))

    def encode_with_controls(self, text: str) -> list[int]:
        """Ids of text in which names of control tokens become these tokens."""
        return _joined(self.encoding.encode(part, allowed_special="all") for part in self._stretches(text))

    def encode_batch(self, texts: Sequence[str], threads: int = 2) -> list[list[int]]:
        """As `encode`, of many texts."""
        stretches = [self._stretches(text) for text in texts]
        flat = [stretch for of_text in stretches for stretch in of_text]
        encoded = iter(self.encoding.encode_ordinary_batch(flat, num_threads=threads))
        return [_joined(next(encoded) for _ in of_text) for of_text in stretches]

    def _stretches(self, text: str) -> list[str]:
        return cut_white_space(to_nfc(text) if self.nfc else text)

    def decode(self, ids: Iterable[int]) -> str:
        """Text of the ids, control tokens by their names; bytes that are no UTF-8 become U+FFFD."""
        return self.decode_bytes(ids).decode("utf-8", errors="replace")

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The bytes of the ids; U+FFFD for one beyond the vocabulary, as models with a padded embedding have."""
        known = list(ids)
        try:
            return self.encoding.decode_bytes(known)
        except KeyError:
            return b"".join(self._bytes_of(id) for id in known)

    def _bytes_of(self, id: int) -> bytes:
        try:
            return self.encoding.decode_single_token_bytes(id)
        except KeyError:
            return "\ufffd".encode()

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
