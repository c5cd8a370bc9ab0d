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

    def __init__(self, folder: Path) -> None:
        self.ids: NDArray[np.unsignedinteger] = np.load(folder / "ids.npy", mmap_mode="r")
        self.starts: NDArray[np.int64] = np.load(folder / "starts.npy")  # one more than documents
        self.n_bytes = int(np.load(folder / "bytes.npy"))

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, i: int) -> NDArray[np.unsignedinteger]:
        return self.ids[self.starts[i] : self.starts[i + 1]]


def write_tokens(texts: Iterable[str], tokenizer: Tokenizer, folder: Path) -> TokenizedDocuments:
    """Encode texts into `folder`, a thousand at a time, and give them back."""
    width = np.uint16 if tokenizer.vocab_size <= 2**16 else np.uint32
    iterator = iter(texts)
    starts, n_bytes = [0], 0
    with replacing(folder) as temporary:
        temporary.mkdir()
        raw = temporary / "ids.raw"
        with open(raw, "wb") as file:
            for batch in _batches(iterator, 1000):
                n_bytes += sum(len(text.encode("utf-8", errors="replace")) for text in batch)
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
    return TokenizedDocuments(folder)


def _batches(iterator: Iterator[str], size: int) -> Iterator[list[str]]:
    while batch := list(islice(iterator, size)):
        yield batch
