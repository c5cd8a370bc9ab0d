"""Documents in files to token ids in one array, by as many processes as there are cores.

Everything is encoded before training begins, not while it goes on: on a core that is some twenty times as fast as
even a large GPU reads (docs/decisions.md), and only with all lengths known can rows be packed and shuffled over the
whole of an epoch, so that a batch is a function of its step.
"""

import mmap
import re
import shutil
import time
from collections.abc import Iterator
from functools import lru_cache, partial
from pathlib import Path

import xxhash

from crawl2chat.parallel.map_shards import map_shards
from crawl2chat.refine.copies.shuffle import in_this_process
from crawl2chat.refine.documents import Document, Losses, Part, cut_file, files_of, is_text, read_part
from crawl2chat.stages.files import read_json, write_json
from crawl2chat.stages.text_files import BOM, decode_lossy
from crawl2chat.tokenizer.shards import TokenizedDocuments, TokenWriter, join_tokens
from crawl2chat.tokenizer.tokenizer import Tokenizer

PART_BYTES = 16 << 20  # of text that a process encodes at a time, about two seconds
PIECE_BYTES = 1 << 20  # encoded in one call; longer documents are encoded in pieces
MAX_WORD_BYTES = 1 << 16  # a place to cut is looked for within this many
# Before a space after a word, and after a line end before a word: no split pattern lets a word go on there, and
# it's a place between two characters. (What may be white space in UTF-8 begins with \xc2, \xe1, \xe2 or \xe3.)
BETWEEN_WORDS = re.compile(rb"(?<=[\x21-\x7e])(?= )|(?<=\n)(?=[\x21-\x7e\xc3-\xdf\xe0\xe4-\xf4])")
SPLITS = ("training", "held_out")
COUNTS = "counts.json"  # in a part's folder


def tokenize(
    documents: Path,
    tokenizer: Path,
    out: Path,
    *,
    held_out: float,
    seed: int,
    workers: int | None = None,
    part_bytes: int = PART_BYTES,
) -> tuple[TokenizedDocuments, TokenizedDocuments]:
    """Ids of the training and of the held-out documents, in the order of the files, below `out`.

    Which documents are held out (that share) depends on seed and text alone, and nothing on the number of workers.
    A killed run goes on after the parts that were finished. Raises StageError for a place without documents.
    """
    if not all((out / split).exists() for split in SPLITS):
        parts = [(files, out / "parts" / f"{i:06d}") for i, files in enumerate(_parts(documents, part_bytes))]
        encode = partial(encode_parts, tokenizer=tokenizer, held_out=held_out, seed=seed)
        if len(parts) == 1:
            in_this_process(encode, parts, label="tokenize")
        else:
            map_shards(encode, parts, label="tokenize", workers=workers, summary=Speed())
        folders = [folder for _, folder in parts]
        end_of_text = Tokenizer.load(tokenizer).end_of_text
        for split in SPLITS:
            join_tokens([folder / split for folder in folders], out / split, end_of_text)
        losses = Losses()
        for folder in folders:
            losses.add_json(read_json(folder / COUNTS)["losses"])
        losses.report("tokenize")
    shutil.rmtree(out / "parts", ignore_errors=True)  # also those that a kill left behind the joined ones
    training, measured = (TokenizedDocuments.load(out / split) for split in SPLITS)
    return training, measured


def encode_parts(parts: list[Part], out: Path, tokenizer: Path, held_out: float, seed: int) -> None:
    """Encode the documents of some parts of files into `out`/training and `out`/held_out."""
    vocabulary = _load_tokenizer(tokenizer)
    writers = [TokenWriter(out / split, vocabulary) for split in SPLITS]
    losses = Losses()
    for part in parts:
        held = _draw(_hash_file(part.file, seed)) < held_out if is_text(part.file) else None
        if held is not None and part.end is not None:
            for text, goes_on in text_pieces(part, losses):
                writers[held].add(text, goes_on=goes_on)
            continue
        for document in read_part(part, losses):
            content = document.text.encode("utf-8", errors="replace")
            split = writers[_is_held_out(content, held_out, seed) if held is None else held]
            if len(content) <= PIECE_BYTES:
                split.add(document.text)
                continue
            for i, piece in enumerate(pieces(content, 0, len(content))):
                split.add(piece.decode("utf-8"), goes_on=i > 0)
    for writer in writers:
        writer.close()
    write_json(out / COUNTS, {
        "documents": sum(len(writer.n_bytes) for writer in writers),
        "bytes": sum(sum(writer.n_bytes) for writer in writers),
        "losses": losses.to_json(),
    })  # fmt: skip


def held_out_documents(documents: Path, *, held_out: float, seed: int) -> Iterator[Document]:
    """The documents that `tokenize` holds out, given the same, in its order; those without a text are left out."""
    return (document for document, held in split_documents(documents, held_out=held_out, seed=seed) if held)


def split_documents(documents: Path, *, held_out: float, seed: int) -> Iterator[tuple[Document, bool]]:
    """All that `tokenize` reads, given the same, in its order, and whether it holds each out."""
    for part in files_of(documents):
        whole = _draw(_hash_file(part.file, seed)) < held_out if is_text(part.file) else None
        for document in read_part(part, Losses()):  # tokenize has reported them
            content = document.text.encode("utf-8", errors="replace")
            yield document, _is_held_out(content, held_out, seed) if whole is None else whole


def text_pieces(part: Part, losses: Losses) -> Iterator[tuple[str, bool]]:
    """The text of a stretch of a text file, and for each piece whether it goes on with what is before it."""
    assert part.end is not None
    with open(part.file, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        at = _cut(content, part.begin)
        for piece in pieces(content, part.begin, part.end):
            text, bad, first = decode_lossy(piece)
            if bad:
                losses.add_bad_bytes(part.name, bad, f"byte {at + first:,}")
            if at == 0:
                text = text.removeprefix(BOM)
            yield text.replace("\r\n", "\n").replace("\r", "\n"), at > 0
            at += len(piece)


def pieces(content: bytes | mmap.mmap, begin: int, end: int, size: int = PIECE_BYTES) -> Iterator[bytes]:
    """A stretch of UTF-8 in pieces of about `size` bytes that are encoded apart as they would be together.

    The stretch is moved to the next places between words, so that neighbouring stretches meet. A word of more than
    MAX_WORD_BYTES bytes may be cut within.
    """
    at, stop = _cut(content, begin), _cut(content, end)
    while at < stop:
        following = min(_cut(content, at + size), stop)
        yield content[at:following]
        at = following


def _cut(content: bytes | mmap.mmap, at: int) -> int:
    """The first place between two words from here on."""
    if at == 0 or at >= len(content):
        return min(at, len(content))
    limit = at + MAX_WORD_BYTES
    found = BETWEEN_WORDS.search(content, at, limit + 1)  # what is after the place is looked at, too
    if found:
        return found.start()
    while limit < len(content) and content[limit] & 0xC0 == 0x80:  # in the middle of a character
        limit += 1
    return min(limit, len(content))


class Speed:
    """Documents and bytes per second, over the parts that have been encoded since the beginning."""

    def __init__(self) -> None:
        self.began, self.documents, self.n_bytes = time.monotonic(), 0, 0

    def __call__(self, finished: Path) -> str:
        counts = read_json(finished / COUNTS)
        self.documents += counts["documents"]
        self.n_bytes += counts["bytes"]
        seconds = time.monotonic() - self.began
        return f"{self.documents / seconds:,.0f} documents/s  {self.n_bytes / seconds / 1e6:.1f} MB/s"


def _parts(documents: Path, part_bytes: int) -> list[list[Part]]:
    """All files, cut and put together to about this many bytes each."""
    groups: list[list[Part]] = [[]]
    in_last = 0
    for file in files_of(documents):
        for part, n_bytes in cut_file(file, part_bytes):
            if in_last and in_last + n_bytes > part_bytes:
                groups.append([])
                in_last = 0
            groups[-1].append(part)
            in_last += n_bytes
    return groups


def _is_held_out(content: bytes, share: float, seed: int) -> bool:
    return _draw(xxhash.xxh64_intdigest(content, seed=seed)) < share


@lru_cache
def _hash_file(file: Path, seed: int) -> int:
    digest = xxhash.xxh64(seed=seed)
    with open(file, "rb") as content:
        while block := content.read(PIECE_BYTES):
            digest.update(block)
    return int(digest.intdigest())


def _draw(digest: int) -> float:
    """A number from 0 to 1 that looks drawn at random."""
    return digest / 2**64


_load_tokenizer = lru_cache(maxsize=1)(Tokenizer.load)
