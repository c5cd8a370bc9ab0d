"""The tokenizer stage: documents in, `tokenizer.json` out."""

import sys

import xxhash

from crawl2chat.refine.documents import read_texts
from crawl2chat.stages.figures import Figure
from crawl2chat.stages.files import AnyPath, StageError
from crawl2chat.tokenizer.bpe import train_bpe
from crawl2chat.tokenizer.settings import TokenizerSettings


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
