"""How well a model compresses text that it has not seen, compared with models and programs that know less."""

import contextlib
import io
import lzma
import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from crawl2chat.compress.archive import compress, decompress, exact_ids, read_block, read_header
from crawl2chat.compress.coder import stream_starts
from crawl2chat.evals.base.model_under_test import ModelUnderTest
from crawl2chat.evals.bits_per_byte import LOGITS_AT_ONCE, bits_over_bytes, document_bits, token_nats, unigram_nats
from crawl2chat.model import Transformer
from crawl2chat.refine.documents import Document
from crawl2chat.stages.figures import Figure
from crawl2chat.stages.files import StageError
from crawl2chat.tokenizer import Tokenizer

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
FALLBACK = (0.5, 1.0, 1.5)  # KenLM's discounts, where the n-grams are too few to estimate them
NGRAM_TOKENS = 20_000_000  # maximum of training tokens in which n-grams are counted: a minute and 2.5 GB
PRIMED_BYTES = 2_000_000  # training text that zstd reads first; with more it takes too long
MAX_GROUPS = 12  # the largest sources, or languages, that have figures of their own
Program = Callable[[bytes], int]


def measure_compression(tested: ModelUnderTest) -> list[Figure]:
    """Measure bits per byte on held-out documents, as a whole and by source and language, and of a real archive.

    `bits_per_byte/NAME`: of all documents. For programs (zstd, xz, brotli) they are joined into one file, which is
    kindest to them; `zstd_primed` is how much a file of training text grows by that file. The model and the 5-gram
    model read them joined as well, and have learned from all of the training text (5-grams: its first NGRAM_TOKENS).
    """
    held_out, documents = tested.held_out, tested.documents
    if not documents:
        return []
    texts = [document.text.encode("utf-8", errors="replace") for document in documents]
    vocab_size = tested.model.config.vocab_size
    five_grams = KneserNey(tested.training.ids[:NGRAM_TOKENS], vocab_size, order=5)
    bits = {
        name: document_bits(nats, held_out)
        for name, nats in {
            "model": token_nats(tested.model, held_out),
            "5_gram": five_grams.nats(held_out.ids),
            "unigram": unigram_nats(tested.training, held_out, vocab_size),
        }.items()
    }
    figures = [bits_over_bytes(f"bits_per_byte/{name}", of_each, held_out.n_bytes) for name, of_each in bits.items()]
    programs = {"xz": xz, "brotli": brotli, "zstd": zstd, "zstd_primed": lambda text: zstd_primed(tested, text)}
    figures += [_by_program(f"bits_per_byte/{name}", program, texts) for name, program in programs.items()]
    languages = [document.language for document in documents]
    for kind, groups in (("source", _by_source(tested, documents)), ("language", languages)):
        for group, members in _largest(groups, held_out.n_bytes):
            n_bytes = held_out.n_bytes[members]
            figures += [
                bits_over_bytes(f"bits_per_byte_of_{kind}/{group}", bits["model"][members], n_bytes),
                bits_over_bytes(f"bits_per_byte_of_{kind}_by_5_gram/{group}", bits["5_gram"][members], n_bytes),
                _by_program(f"bits_per_byte_of_{kind}_by_xz/{group}", xz, [texts[i] for i in members]),
            ]
    return figures + measure_archive(tested, b"\n\n".join(texts)[: tested.settings.archive_bytes])


def measure_archive(tested: ModelUnderTest, text: bytes) -> list[Figure]:
    """Archive a text and restore it.

    `archive_bits_per_byte`: of the whole archive; `archive_coded_…`: of its coded messages alone; `archive_model_…`: by
    the model's probabilities in the same contexts; `archive_exact`: 1 if every byte was restored.
    """
    if not text:
        return []
    model, tokenizer = tested.model, tested.tokenizer
    archive, restored = io.BytesIO(), io.BytesIO()
    summary = compress(model, tokenizer, io.BytesIO(text), len(text), archive, quiet=True)
    archive.seek(0)
    with contextlib.suppress(StageError):  # a failed restoration is a figure, not the end of the suite
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
    """Return Σ −log2 p of a text's tokens by the plain forward pass, each in the context that it has in the archive."""
    source = io.BytesIO(archive)
    header = read_header(source)
    window, again = header.window, header.window // 2
    rows: list[list[int]] = []
    scored: list[int] = []  # of each row, the first place that no earlier row has scored
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


def zstd_primed(tested: ModelUnderTest, text: bytes) -> int:
    """Return how many bytes longer training text becomes when the text is put after it."""
    ids = tested.training.ids[:PRIMED_BYTES]
    before = tested.tokenizer.decode_bytes(ids[ids != tested.tokenizer.end_of_text].tolist())[:PRIMED_BYTES]
    return zstd(before + text) - zstd(before)


def _by_program(name: str, program: Program, texts: Sequence[bytes]) -> Figure:
    text = b"".join(texts)
    return Figure(name, 8 * program(text) / len(text), "bits/byte", count=len(texts))


def _by_source(tested: ModelUnderTest, documents: Sequence[Document]) -> list[str]:
    """Return each document's kind of page in a made-up web, otherwise its host."""
    kinds = {page.url: page.kind for page in tested.ledger.pages} if tested.ledger else {}
    return [kinds.get(document.url) or _host(document.url) for document in documents]


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:  # such as an IPv6 address with an unclosed bracket, in documents from elsewhere
        return ""


def _largest(groups: Sequence[str], n_bytes: NDArray[np.int64]) -> list[tuple[str, list[int]]]:
    """Return the groups with the most bytes and the places of their members; "" is not a group."""
    members: dict[str, list[int]] = defaultdict(list)
    for i, group in enumerate(groups):
        if group:
            members[group].append(i)
    return sorted(members.items(), key=lambda item: (-n_bytes[item[1]].sum(), item[0]))[:MAX_GROUPS]


@dataclass(frozen=True)
class _Order:
    """The n-grams of one length, numbered by their places in `keys`, and their contexts, the (n−1)-grams."""

    keys: Ints  # sorted: number of the context · vocabulary + last token
    counts: Ints
    discounts: Floats  # by min(count, 3): 0, D1, D2, D3+
    totals: Ints  # of each context: the counts of its n-grams together
    discounted: Floats  # of each context: what discounts take from that


class KneserNey:
    """An n-gram model over token ids: interpolated modified Kneser-Ney (Chen & Goodman 1998, sections 2.7 and 3).

    The probability of a token after the n−1 tokens before it, h, mixes each order with the one below:

    p(w | h) = (max(c(hw) − D(c(hw)), 0) + p(w | h without its first token) · Σ D(c(h·))) / Σ c(h·)

    c counts occurrences, and below the highest order the different tokens before an n-gram; D is D1, D2 or D3+,
    depending on the count. Single tokens are mixed with 1/vocabulary.
    """

    def __init__(self, ids: NDArray[np.integer], vocab_size: int, order: int = 5) -> None:
        """ids: documents laid end to end, as a language model reads them. 5M ids of a Zipf law take 11 s and 0.6 GB."""
        self.vocab_size = vocab_size
        ids = np.asarray(ids, dtype=np.int64)
        order = min(order, len(ids))
        keys: list[Ints] = []
        counts: list[Ints] = []
        numbers = np.zeros(len(ids) + 1, dtype=np.int64)  # of the n-gram that begins at each place
        for n in range(1, order + 1):
            shorter = numbers
            unique, first, numbers, occurrences = np.unique(
                shorter[: len(ids) - n + 1] * vocab_size + ids[n - 1 :],
                return_index=True, return_inverse=True, return_counts=True,
            )  # fmt: skip
            if n > 1:
                counts[-1] = np.bincount(shorter[first + 1], minlength=len(keys[-1]))
            keys.append(unique)
            counts.append(occurrences)
        n_contexts = [1, *map(len, keys)]
        self.orders = [_make_order(*given, vocab_size) for given in zip(keys, counts, n_contexts[:-1], strict=True)]

    def nats(self, ids: NDArray[np.integer]) -> Floats:
        """Return −ln p of every token in a sequence; the first one, which has no context, counts 0."""
        ids = np.asarray(ids, dtype=np.int64)
        p = np.full(len(ids), 1 / self.vocab_size)
        numbers = np.zeros(len(ids) + 1, dtype=np.int64)  # as above; −1 for an n-gram that was never seen
        for n, order in enumerate(self.orders[: len(ids)], 1):
            contexts = numbers[: len(ids) - n + 1]
            keys = contexts * self.vocab_size + ids[n - 1 :]
            places = np.minimum(np.searchsorted(order.keys, keys), len(order.keys) - 1)
            found = (order.keys[places] == keys) & (contexts >= 0)
            count = np.where(found, order.counts[places], 0)
            totals = np.where(contexts >= 0, order.totals[contexts], 0)
            kept = count - order.discounts[np.minimum(count, 3)]
            mixed = (kept + order.discounted[contexts] * p[n - 1 :]) / np.maximum(totals, 1)
            p[n - 1 :] = np.where(totals > 0, mixed, p[n - 1 :])
            numbers = np.where(found, places, -1)
        nats: Floats = -np.log(p)
        nats[:1] = 0
        return nats


def _make_order(keys: Ints, counts: Ints, n_contexts: int, vocab_size: int) -> _Order:
    discounts = discounts_of(counts)
    contexts = keys // vocab_size
    totals = np.bincount(contexts, counts, minlength=n_contexts).astype(np.int64)
    discounted = np.bincount(contexts, discounts[np.minimum(counts, 3)], minlength=n_contexts).astype(np.float64)
    return _Order(keys, counts, discounts, totals, discounted)


def discounts_of(counts: Ints) -> Floats:
    """Return 0, D1, D2 and D3+ from how many n-grams have a count of 1 to 4 (Chen & Goodman 1998, equation 26)."""
    n = np.bincount(np.minimum(counts, 5), minlength=6)
    discounts = np.array([0.0, *FALLBACK])
    if n[1:5].all():
        k = np.arange(1, 4)
        estimated = k - (k + 1) * n[1] / (n[1] + 2 * n[2]) * n[2:5] / n[1:4]
        if ((estimated >= 0) & (estimated <= k)).all():
            discounts[1:] = estimated
    return discounts
