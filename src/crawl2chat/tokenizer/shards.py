"""Documents as token ids on disk: one flat array of ids and where each document begins in it."""

from array import array
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from crawl2chat.stages.files import AnyPath, atomic_write
from crawl2chat.tokenizer.tokenizer import Tokenizer

COPIED_AT_ONCE = 1 << 23  # ids


class TokenizedDocuments:
    """Ids of many documents, each beginning with the end-of-text token; memory-mapped, so of any size."""

    def __init__(self, ids: NDArray[np.unsignedinteger], starts: NDArray[np.int64], n_bytes: NDArray[np.int64]) -> None:
        """ids: of all documents. starts: where each begins, and the end. n_bytes: of each one's text."""
        self.ids, self.starts, self.n_bytes = ids, starts, n_bytes

    @staticmethod
    def load(folder: AnyPath) -> "TokenizedDocuments":
        folder = Path(folder)
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


class TokenWriter:
    """Writes documents into a folder as their ids come; only their lengths are held in memory."""

    def __init__(self, folder: Path, tokenizer: Tokenizer) -> None:
        folder.mkdir(parents=True)
        self.folder, self.tokenizer = folder, tokenizer
        self.ids = _GrowingArray(folder / "ids.npy", np.uint16 if tokenizer.vocab_size <= 2**16 else np.uint32)
        self.starts, self.n_bytes = array("q", [0]), array("q")

    def add(self, text: str, *, goes_on: bool = False) -> None:
        """A document or, where one goes on, more of it."""
        ids = self.tokenizer.encode(text)
        self.ids.append(np.array(ids if goes_on else [self.tokenizer.end_of_text, *ids], dtype=self.ids.dtype))
        n_bytes = len(text.encode("utf-8", errors="replace"))
        if goes_on and self.n_bytes:
            self.n_bytes[-1] += n_bytes
            self.starts[-1] = self.ids.length
        else:
            self.n_bytes.append(n_bytes)
            self.starts.append(self.ids.length)

    def close(self) -> None:
        self.ids.close()
        np.save(self.folder / "starts.npy", np.array(self.starts, dtype=np.int64))
        np.save(self.folder / "bytes.npy", np.array(self.n_bytes, dtype=np.int64))


def write_tokens(texts: Iterable[str], tokenizer: Tokenizer, folder: AnyPath) -> TokenizedDocuments:
    """Encode texts into `folder` and give them back."""
    folder = Path(folder)
    with atomic_write(folder) as temporary:
        writer = TokenWriter(temporary, tokenizer)
        for text in texts:
            writer.add(text)
        writer.close()
    return TokenizedDocuments.load(folder)


def join_tokens(folders: Sequence[Path], folder: Path, end_of_text: int) -> TokenizedDocuments:
    """Write what these folders hold, one after the other, into `folder`.

    Where ids don't begin with the end-of-text token they go on with the document before them.
    """
    starts, n_bytes = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
    with atomic_write(folder) as temporary:
        temporary.mkdir()
        ids = _GrowingArray(temporary / "ids.npy", TokenizedDocuments.load(folders[0]).ids.dtype)
        for part in map(TokenizedDocuments.load, folders):
            if not len(part):
                continue
            goes_on = int(part.ids[0] != end_of_text)
            if goes_on:
                next(of_part for of_part in reversed(n_bytes) if len(of_part))[-1] += part.n_bytes[0]
            starts.append(part.starts[goes_on:-1] + ids.length)
            n_bytes.append(part.n_bytes[goes_on:])
            for place in range(0, len(part.ids), COPIED_AT_ONCE):
                ids.append(part.ids[place : place + COPIED_AT_ONCE])
        ids.close()
        np.save(temporary / "starts.npy", np.concatenate([*starts, [ids.length]]))
        np.save(temporary / "bytes.npy", np.concatenate(n_bytes))
    return TokenizedDocuments.load(folder)


class _GrowingArray:
    """A one-dimensional .npy file written from the front; its header, with the length, is renewed at the end."""

    def __init__(self, path: Path, dtype: DTypeLike) -> None:
        self.dtype, self.length = np.dtype(dtype), 0
        self.file = open(path, "wb")  # noqa: SIM115
        self._write_header()

    def append(self, values: NDArray[Any]) -> None:
        self.file.write(values.tobytes())
        self.length += len(values)

    def close(self) -> None:
        self.file.seek(0)
        self._write_header()  # as long as before: NumPy leaves room in it for any length
        self.file.close()

    def _write_header(self) -> None:
        described = np.lib.format.dtype_to_descr(self.dtype)
        header = {"descr": described, "fortran_order": False, "shape": (self.length,)}
        np.lib.format.write_array_header_1_0(self.file, header)
