"""Train a byte-pair encoding: merge the most frequent pair of neighbours, again and again."""

from collections.abc import Iterable

import rustbpe

from crawl2chat.tokenizer.runs import cut_white_space
from crawl2chat.tokenizer.tokenizer import CONTROL_TOKENS, QWEN2_PATTERN, Tokenizer


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
