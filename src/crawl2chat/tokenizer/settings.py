"""Settings of the tokenizer stage."""

from pydantic import Field

from crawl2chat.stages.settings import Settings


class TokenizerSettings(Settings):
    """How large a vocabulary, learned from how much text."""

    vocab_size: int = Field(4096, ge=272, description="size of the vocabulary: bytes, merges and control tokens")
    max_bytes: int = Field(
        2_000_000_000, ge=1, description="train on at most this many bytes of text, from the beginning"
    )
