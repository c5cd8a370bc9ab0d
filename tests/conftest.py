import pytest

from crawl2chat.tokens import Tokenizer
from crawl2chat.tokens.bpe import train_bpe

PROSE = [
    "The miller's daughter went down to the river at dawn; nobody had told her that the bridge was gone.",
    "In 1842 they counted 17 mills, 3 bridges and one inn. By 1850 there were 23 mills.",
    "„Straße“ und café: naïve words, 東京, emoji 🙂 and tabs\tand\n\nempty lines.",
] * 4


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return train_bpe(PROSE, vocab_size=420)
