"""The tokenizer stage: documents in, `tokenizer.json` out; a byte-pair encoding is learned from them."""

import sys
from collections.abc import Iterable

import rustbpe
import xxhash
from pydantic import Field

from crawl2chat.refine.documents import read_texts
from crawl2chat.stages.figures import Figure
from crawl2chat.stages.files import AnyPath, StageError
from crawl2chat.stages.settings import Settings
from crawl2chat.tokenizer.encoding import cut_white_space
from crawl2chat.tokenizer.huggingface import QWEN2_PATTERN
from crawl2chat.tokenizer.tokenizer import CONTROL_TOKENS, Tokenizer


class TokenizerSettings(Settings):
    """How large a vocabulary, learned from how much text."""

    vocab_size: int = Field(4096, ge=272, description="size of the vocabulary: bytes, merges and control tokens")
    max_bytes: int = Field(
        2_000_000_000, ge=1, description="train on at most this many bytes of text, from the beginning"
    )


def train_tokenizer(documents: AnyPath, out: AnyPath, settings: TokenizerSettings) -> list[Figure]:
    """Learn a byte-pair encoding; one document in fifty is kept out and measured."""
    training: list[str] = []
    measured: list[str] = []
    n_bytes = 0
    for text in read_texts(documents, label="tokenizer"):
        kept_out = xxhash.xxh64_intdigest(text.encode("utf-8", errors="replace")) % 50 == 0
        (measured if kept_out else training).append(text)
        n_bytes += len(text.encode("utf-8", errors="replace"))
        if n_bytes >= settings.max_bytes:
            break
    if not training:
        raise StageError(f"{documents}: holds no documents to learn a tokenizer from")
    tokenizer = train_bpe(training, settings.vocab_size)
    if tokenizer.vocab_size < settings.vocab_size:
        print(
            f"tokenizer: the text has pairs for {tokenizer.vocab_size} tokens only, not for tokenizer.vocab_size = "
            f"{settings.vocab_size}; the model will have that many",
            file=sys.stderr,
        )
    tokenizer.save(out)
    measured = measured or training
    n_tokens = sum(map(len, tokenizer.encode_batch(measured)))
    measured_bytes = sum(len(text.encode("utf-8", errors="replace")) for text in measured)
    return [
        Figure("vocab_size", tokenizer.vocab_size, "tokens"),
        Figure("training_bytes", n_bytes, "bytes", count=len(training)),
        Figure("bytes_per_token", measured_bytes / n_tokens, "bytes", count=len(measured)),
    ]


def train_bpe(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Train on texts; `vocab_size` counts bytes, merges and control tokens.

    A text with few different words may run out of pairs: the vocabulary is then smaller.
    Source: Sennrich et al., arXiv 1508.07909, on bytes as in GPT-2.
    """
    n_ranks = vocab_size - len(CONTROL_TOKENS)
    if n_ranks < 256:
        raise ValueError(
            f"vocab_size = {vocab_size}: must be at least {256 + len(CONTROL_TOKENS)} (bytes and controls)"
        )
    trainer = rustbpe.Tokenizer()
    stretches = (stretch for text in texts for stretch in cut_white_space(text))
    trainer.train_from_iterator(stretches, n_ranks, pattern=QWEN2_PATTERN)
    ranks = {bytes(token): rank for token, rank in trainer.get_mergeable_ranks()}
    return Tokenizer(ranks, {name: len(ranks) + i for i, name in enumerate(CONTROL_TOKENS)})
