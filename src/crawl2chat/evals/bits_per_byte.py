"""Bits per byte on held-out documents: how well a model compresses text, whatever its tokenizer."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from crawl2chat.model import Transformer
from crawl2chat.stages.figures import Figure
from crawl2chat.tokenizer.shards import TokenizedDocuments

LOGITS_AT_ONCE = 1 << 25  # 128 MiB of float32; but one row of the context at least


def bits_per_byte(model: Transformer, documents: TokenizedDocuments) -> Figure:
    """The model's bits per byte, with an interval over documents."""
    return over_documents("held_out_bits_per_byte", token_nats(model, documents), documents)


def unigram_bits_per_byte(training: TokenizedDocuments, documents: TokenizedDocuments, vocab_size: int) -> Figure:
    """The same of a model that knows only how often each token occurs in training (add-one smoothed)."""
    return over_documents("unigram_bits_per_byte", unigram_nats(training, documents, vocab_size), documents)


def unigram_nats(training: TokenizedDocuments, documents: TokenizedDocuments, vocab_size: int) -> NDArray[np.float64]:
    """−ln p of every token, in the order of `documents.ids`."""
    counts = count_ids(training, vocab_size) + 1.0
    nats: NDArray[np.float64] = -np.log(counts / counts.sum())[documents.ids]
    return nats


def count_ids(documents: TokenizedDocuments, vocab_size: int) -> NDArray[np.int64]:
    """How often each id occurs; some at a time, as NumPy takes 8 bytes for each id that it counts."""
    counts = np.zeros(vocab_size, dtype=np.int64)
    for start in range(0, len(documents.ids), 1 << 24):
        counts += np.bincount(documents.ids[start : start + (1 << 24)], minlength=vocab_size)
    return counts


@torch.inference_mode()
def token_nats(model: Transformer, documents: TokenizedDocuments) -> NDArray[np.float64]:
    """−ln p of every token, in the order of `documents.ids`; the very first one, of no context, counts 0.

    The documents are laid end to end and cut into rows of the model's context, so the first tokens of a row
    have little context: the figure is slightly worse than a sliding window would give, and many times cheaper.
    """
    device = next(model.parameters()).device
    T = model.config.max_position_embeddings
    ids = np.asarray(documents.ids, dtype=np.int64)
    n_rows = math.ceil((len(ids) - 1) / T)
    padded = np.zeros(n_rows * T + 1, dtype=np.int64)
    padded[: len(ids)] = ids
    nats: list[NDArray[np.float32]] = [np.zeros(1, dtype=np.float32)]
    rows_at_once = max(1, LOGITS_AT_ONCE // (T * model.config.vocab_size))
    for first in range(0, n_rows, rows_at_once):
        last = min(first + rows_at_once, n_rows)
        rows = torch.from_numpy(padded[first * T : last * T + 1]).to(device)
        logits = model(rows[:-1].view(-1, T)).float()
        losses = F.cross_entropy(logits.view(-1, logits.shape[-1]), rows[1:], reduction="none")
        nats.append(losses.cpu().numpy())
    return np.concatenate(nats)[: len(ids)].astype(np.float64)


def over_documents(name: str, nats: NDArray[np.float64], documents: TokenizedDocuments) -> Figure:
    """Bits per byte of documents from the nats of their tokens, in the order of `documents.ids`."""
    return bits_over_bytes(name, document_bits(nats, documents), documents.n_bytes)


def document_bits(nats: NDArray[np.float64], documents: TokenizedDocuments) -> NDArray[np.float64]:
    bits: NDArray[np.float64] = np.add.reduceat(nats, documents.starts[:-1]) / math.log(2)
    return bits


def bits_over_bytes(name: str, bits: NDArray[np.float64], n_bytes: NDArray[np.int64]) -> Figure:
    """Sum of bits over sum of bytes, with the ratio estimator's 95 % interval (Cochran 1977, section 6.4)."""
    ratio = bits.sum() / n_bytes.sum()
    if len(bits) < 2:
        return Figure(name, float(ratio), "bits/byte", None, len(bits))
    residuals = bits - ratio * n_bytes
    half = 1.96 * math.sqrt(len(bits) / (len(bits) - 1) * np.square(residuals).sum()) / n_bytes.sum()
    return Figure(name, float(ratio), "bits/byte", (float(ratio - half), float(ratio + half)), len(bits))
