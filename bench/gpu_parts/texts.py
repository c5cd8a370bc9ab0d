"""Text to learn from, and a vocabulary of it that needs no library to be found."""

import re
from collections import Counter
from collections.abc import Sequence
from itertools import islice, pairwise
from pathlib import Path

from crawl2chat.tokenizer import Tokenizer
from crawl2chat.tokenizer.tokenizer import CONTROL_TOKENS

REPOSITORY = Path(__file__).parents[2]
OWN_TEXT = ("*.md", "docs/**/*.md", "src/**/*.py", "tests/**/*.py", "bench/**/*.py")
DOCUMENT = 5000  # characters, from which a file that was given is cut at an empty line, and from 20,000 at any
PIECE = re.compile(r" ?[^\W\d_]+|\d| ?[^\w\s]+|_|\s+")  # much as the tokenizer's own pattern cuts a text
PAIRS = 512  # of bytes, of which rare pieces are made


def documents_of(text: Path | None) -> list[str]:
    """The documents of a file, or by default this repository's own files."""
    if text is None:
        files = sorted({file for pattern in OWN_TEXT for file in REPOSITORY.glob(pattern)})
        return [file.read_text(encoding="utf-8") for file in files]
    documents = [""]
    with open(text, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            documents[-1] += line
            if len(documents[-1]) >= (4 * DOCUMENT if line.strip() else DOCUMENT):
                documents.append("")
    return list(filter(None, documents))


def common_pieces(texts: Sequence[str], size: int) -> Tokenizer:
    """A vocabulary of all bytes, the commonest pairs of them, and the commonest words.

    A byte-pair encoding would need fewer tokens; bits per byte can be compared whatever the vocabulary.
    """
    pieces = Counter(piece.encode() for text in texts for piece in PIECE.findall(text))
    pairs: Counter[bytes] = Counter()
    for piece, count in pieces.items():
        for pair in pairwise(piece):
            pairs[bytes(pair)] += count
    some = [pair for pair, _ in pairs.most_common(min(PAIRS, (size - 256) // 2))]
    words = (piece for piece, _ in pieces.most_common() if len(piece) > 2)
    return tokenizer_of([*some, *islice(words, size - 256 - len(some) - len(CONTROL_TOKENS))])


def tokenizer_of(tokens: Sequence[bytes]) -> Tokenizer:
    """All bytes, these tokens and the control tokens."""
    ranks = {token: rank for rank, token in enumerate([*(bytes([byte]) for byte in range(256)), *tokens])}
    return Tokenizer(ranks, {name: len(ranks) + i for i, name in enumerate(CONTROL_TOKENS)})


def endless(size: int) -> Tokenizer:
    """A vocabulary of this size in which nothing ends a text."""
    tokens = (f"{number:x}".encode() for number in range(16, size))
    tokenizer = tokenizer_of(list(islice(tokens, size - 256 - len(CONTROL_TOKENS))))
    tokenizer.stop_ids = frozenset()
    return tokenizer
