"""Documents as token ids on disk: one flat array of ids and where each document begins in it."""

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crawl2chat.run import replacing
from crawl2chat.tokens.tokenizer import Tokenizer


class TokenizedDocuments:
    """Ids of many documents, each beginning with the end-of-text token; memory-mapped, so of any size."""

    def __init__(self, ids: NDArray[np.unsignedinteger], starts: NDArray[np.int64], n_bytes: NDArray[np.int64]) -> None:
        """ids: of all documents. starts: where each begins, and the end. n_bytes: of each one's text."""
        self.ids, self.starts, self.n_bytes = ids, starts, n_bytes

    @staticmethod
    def load(folder: Path) -> "TokenizedDocuments":
        ids = np.load(folder / "ids.npy", mmap_mode="r")
        return TokenizedDocuments(ids, np.load(folder / "starts.npy"), np.load(folder / "bytes.npy"))

    def first(self, n_tokens: int) -> "TokenizedDocuments":
        """The documents from the beginning on that have no more than this many tokens together."""
        n = int(np.searchsorted(self.starts, n_tokens, side="right")) - 1
        return TokenizedDocuments(self.ids[: self.starts[n]], self.starts[: n + 1], self.n_bytes[:n])

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, i: int) -> NDArray[np.unsignedinteger]:
        return self.ids[self.starts[i] : self.starts[i + 1]]


def write_tokens(texts: Iterable[str], tokenizer: Tokenizer, folder: Path) -> TokenizedDocuments:
    """Encode texts into `folder`, a thousand at a time, and give them back."""
    width = np.uint16 if tokenizer.vocab_size <= 2**16 else np.uint32
    iterator = iter(texts)
    starts, n_bytes = [0], list[int]()
    with replacing(folder) as temporary:
        temporary.mkdir()
        raw = temporary / "ids.raw"
        with open(raw, "wb") as file:
            for batch in _batches(iterator, 1000):
                n_bytes += [len(text.encode("utf-8", errors="replace")) for text in batch]
                for ids in tokenizer.encode_batch(batch):
                    np.array([tokenizer.end_of_text, *ids], dtype=width).tofile(file)
                    starts.append(starts[-1] + 1 + len(ids))
        out = np.lib.format.open_memmap(temporary / "ids.npy", mode="w+", dtype=width, shape=(starts[-1],))
        if starts[-1]:
            out[:] = np.memmap(raw, dtype=width, mode="r")
            out.flush()
        raw.unlink()
        np.save(temporary / "starts.npy", np.array(starts, dtype=np.int64))
        np.save(temporary / "bytes.npy", np.array(n_bytes, dtype=np.int64))
    return TokenizedDocuments.load(folder)


def _batches(iterator: Iterator[str], size: int) -> Iterator[list[str]]:
    while batch := list(islice(iterator, size)):
        yield batch
