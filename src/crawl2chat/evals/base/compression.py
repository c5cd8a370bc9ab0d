"""How well a model compresses text that it has not seen, beside models and programs that know less."""

import contextlib
import io
import lzma
import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import pairwise
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from crawl2chat.compress.archive import compress, decompress, exact_ids, read_block, read_header
from crawl2chat.compress.coder import stream_starts
from crawl2chat.evals.base.ngrams import KneserNey
from crawl2chat.evals.base.subject import Subject
from crawl2chat.evals.bits_per_byte import (
    LOGITS_AT_ONCE,
    bits_over_bytes,
    document_bits,
    token_nats,
    unigram_nats,
)
from crawl2chat.model import Transformer
from crawl2chat.refine.documents import Document
from crawl2chat.stages.figures import Figure
from crawl2chat.stages.files import StageError
from crawl2chat.tokenizer import Tokenizer

NGRAM_TOKENS = 20_000_000  # of training that n-grams are counted in at most: a minute and 2.5 GB
PRIMED_BYTES = 2_000_000  # of training text that zstd has before it; with more it takes too long
GROUPS = 12  # the largest sources, or languages, that have figures of their own
Program = Callable[[bytes], int]


def measure_compression(subject: Subject) -> list[Figure]:
    """Bits per byte on held-out documents, as a whole and by source and language, and of a true archive.

    `bits_per_byte/model` and so on: of all documents. For programs (zstd, xz, brotli) their bytes are joined into one
    file, which is kindest to them; `zstd_primed` is how much a file of training text grows by it. The model's and the
    5-gram model's text is joined likewise, and they have learned from all of the training text (5-grams of the first
    NGRAM_TOKENS).
    """
    held_out, documents = subject.held_out, subject.documents
    if not documents:
        return []
    texts = [document.text.encode("utf-8", errors="replace") for document in documents]
    vocab_size = subject.model.config.vocab_size
    five_grams = KneserNey(subject.training.ids[:NGRAM_TOKENS], vocab_size, order=5)
    bits = {
        name: document_bits(nats, held_out)
        for name, nats in {
            "model": token_nats(subject.model, held_out),
            "5_gram": five_grams.nats(held_out.ids),
            "unigram": unigram_nats(subject.training, held_out, vocab_size),
        }.items()
    }
    figures = [bits_over_bytes(f"bits_per_byte/{name}", of_each, held_out.n_bytes) for name, of_each in bits.items()]
    programs = {"xz": xz, "brotli": brotli, "zstd": zstd, "zstd_primed": lambda text: zstd_primed(subject, text)}
    figures += [_by_program(f"bits_per_byte/{name}", program, texts) for name, program in programs.items()]
    languages = [document.language for document in documents]
    for kind, groups in (("source", _by_source(subject, documents)), ("language", languages)):
        for group, members in _largest(groups, held_out.n_bytes):
            n_bytes = held_out.n_bytes[members]
            figures += [
                bits_over_bytes(f"bits_per_byte_of_{kind}/{group}", bits["model"][members], n_bytes),
                bits_over_bytes(f"bits_per_byte_of_{kind}_by_5_gram/{group}", bits["5_gram"][members], n_bytes),
                _by_program(f"bits_per_byte_of_{kind}_by_xz/{group}", xz, [texts[i] for i in members]),
            ]
    return figures + measure_archive(subject, b"\n\n".join(texts)[: subject.settings.archive_bytes])


def measure_archive(subject: Subject, text: bytes) -> list[Figure]:
    """Archive a text and restore it.

    `archive_bits_per_byte` is of the whole archive, `archive_coded_bits_per_byte` without what stands around the coded
    message, `archive_model_bits_per_byte` what the model's probabilities come to in the same contexts.
    """
    if not text:
        return []
    model, tokenizer = subject.model, subject.tokenizer
    archive, restored = io.BytesIO(), io.BytesIO()
    summary = compress(model, tokenizer, io.BytesIO(text), len(text), archive, quiet=True)
    archive.seek(0)
    with contextlib.suppress(StageError):  # what is not restored is a figure, not the end of the suite
        decompress(model, tokenizer, archive, restored, quiet=True)
    lengths = {
        "archive": 8 * summary.archive,
        "archive_coded": 8 * summary.messages,
        "archive_model": archive_bits(model, tokenizer, text, archive.getvalue()),
        "archive_xz": 8 * xz(text),
    }
    figures = [Figure(f"{name}_bits_per_byte", bits / len(text), "bits/byte") for name, bits in lengths.items()]
    return [*figures, Figure("archive_exact", float(restored.getvalue() == text), "share", count=1)]


def archive_bits(model: Transformer, tokenizer: Tokenizer, text: bytes, archive: bytes) -> float:
    """Σ −log2 p of a text's tokens by the plain forward pass, each in the context that it has in the archive."""
    source = io.BytesIO(archive)
    header = read_header(source)
    window, again = header.window, header.window // 2
    rows: list[list[int]] = []
    scored: list[int] = []  # the first place of each row that no earlier row has scored
    done = 0
    while done < len(text):
        block = read_block(source, header)
        ids = exact_ids(tokenizer, text[done : done + block.length])
        starts = stream_starts(len(ids), max(1, block.streams))
        for begin, end in pairwise(starts):
            stream = [tokenizer.end_of_text, *ids[begin:end]]
            for place in range(0, max(1, end - begin - again), window - again):
                rows.append(stream[place : place + window + 1])
                scored.append(again if place else 0)
        done += block.length
    rows_at_once = max(1, LOGITS_AT_ONCE // (window * model.config.vocab_size))
    return sum(
        _bits(model, rows[i : i + rows_at_once], scored[i : i + rows_at_once], window)
        for i in range(0, len(rows), rows_at_once)
    )


@torch.inference_mode()
def _bits(model: Transformer, rows: Sequence[Sequence[int]], scored: Sequence[int], window: int) -> float:
    padded = torch.tensor([[*row, *[0] * (window + 1 - len(row))] for row in rows], device=model.lm_head.weight.device)
    logits = model(padded[:, :-1]).float()
    nats = F.cross_entropy(logits.flatten(0, 1), padded[:, 1:].flatten(), reduction="none").view(len(rows), window)
    scores = zip(nats, rows, scored, strict=True)
    return sum(float(row_nats[first : len(row) - 1].sum()) for row_nats, row, first in scores) / math.log(2)


def xz(text: bytes) -> int:
    return len(lzma.compress(text, preset=9 | lzma.PRESET_EXTREME))


def brotli(text: bytes) -> int:
    return len(pa.Codec("brotli", compression_level=11).compress(text, asbytes=True))


def zstd(text: bytes) -> int:
    return len(pa.Codec("zstd", compression_level=19).compress(text, asbytes=True))


def zstd_primed(subject: Subject, text: bytes) -> int:
    """How much longer training text becomes when the text is put behind it."""
    ids = subject.training.ids[:PRIMED_BYTES]
    before = subject.tokenizer.decode_bytes(ids[ids != subject.tokenizer.end_of_text].tolist())[:PRIMED_BYTES]
    return zstd(before + text) - zstd(before)


def _by_program(name: str, program: Program, texts: Sequence[bytes]) -> Figure:
    text = b"".join(texts)
    return Figure(name, 8 * program(text) / len(text), "bits/byte", count=len(texts))


def _by_source(subject: Subject, documents: Sequence[Document]) -> list[str]:
    """The kind of page in a fictional web, otherwise the host."""
    kinds = {page.url: page.kind for page in subject.ledger.pages} if subject.ledger else {}
    return [kinds.get(document.url) or _host(document.url) for document in documents]


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:  # such as an unclosed bracket of an IPv6 address; whoever made the documents let it pass
        return ""


def _largest(groups: Sequence[str], n_bytes: NDArray[np.int64]) -> list[tuple[str, list[int]]]:
    """The groups with the most bytes, and the places of their members; "" is none."""
    members: dict[str, list[int]] = defaultdict(list)
    for i, group in enumerate(groups):
        if group:
            members[group].append(i)
    return sorted(members.items(), key=lambda item: (-n_bytes[item[1]].sum(), item[0]))[:GROUPS]
