"""How documents become passages, and texts the words that an index is made of."""

import re
import unicodedata
from collections.abc import Iterator
from itertools import pairwise

MAX_BYTES = 700  # of a passage: about 115 English words or 230 Chinese characters, some 160 tokens of either
MAX_HEADING = 80  # characters of a line without a full stop that belongs to what follows it
MAX_TITLE = 200
_SENTENCE = re.compile(r".*?(?:[.!?…]+[\"'”’)\]]*(?=\s|$)|[。！？]+|$)\s*", re.DOTALL)
# Scripts that are written without spaces between words: Thai to Khmer, kana, Chinese characters
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)


def passages_of(text: str, max_bytes: int | None = MAX_BYTES) -> Iterator[str]:
    """Yield the passages of a document: lines together as long as they fit, a longer one cut at the ends of sentences.

    A heading begins a passage rather than end one. max_bytes: None makes each line a passage, however long.
    """
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    if max_bytes is None:
        yield from lines
        return
    together: list[str] = []
    size = 0
    for part in (part for line in lines for part in _cut(line, max_bytes)):
        n = len(part.encode(errors="replace")) + 1
        if together and size + n > max_bytes:
            heading = len(together) > 1 and _is_heading(together[-1])
            yield "\n".join(together[:-1] if heading else together)
            together = together[-1:] if heading else []
            size = len("".join(together).encode(errors="replace")) + len(together)
            if together and size + n > max_bytes:
                yield together.pop()
                size = 0
        together.append(part)
        size += n
    if together:
        yield "\n".join(together)


def title_of(title: str, text: str) -> str:
    """Return a document's title: the one that it brings, or its first line if that is not a sentence."""
    first = text.lstrip().split("\n", 1)[0].strip().lstrip("#").strip()
    return " ".join((title or (first if _is_heading(first) else "")).split())[:MAX_TITLE]


def words_of(text: str) -> list[str]:
    """Return the words of a text, each a run of letters, digits and their marks (unlike \\w, which cuts Hindi up).

    In scripts without spaces between words these are all pairs of neighbouring characters.
    """
    kept = "".join(c if c.isalnum() or unicodedata.category(c)[0] == "M" else " " for c in _normal(text))
    words: list[str] = []
    for word in kept.split():
        characters = spaced(word).split()
        if len(characters) > 2:
            words += map(" ".join, pairwise(characters))
        else:
            words.append(" ".join(characters))
    return words


def spaced(text: str) -> str:
    """Return the text as it is indexed: each character of a script without spaces is a word of its own.

    SQLite's unicode61 would take a whole Chinese sentence for one word; its trigram tokenizer finds no word of two
    characters, and its ranking counts pieces of words in all other scripts.
    """
    text = _normal(text)
    return text if text.isascii() else _UNSPACED.sub(r" \g<0> ", text)


def _normal(text: str) -> str:
    return text.replace("\0", " ") if text.isascii() else unicodedata.normalize("NFC", text).replace("\0", " ")


def _is_heading(line: str) -> bool:
    return len(line) <= MAX_HEADING and not re.search(r"[.!?…。！？,;:]$", line) and bool(line)


def _cut(line: str, max_bytes: int) -> Iterator[str]:
    """A line in pieces of at most max_bytes: at the ends of sentences, of words, or anywhere."""
    if len(line.encode(errors="replace")) <= max_bytes:
        yield line
        return
    piece = ""
    for part in _parts(line, max_bytes):
        if piece and len((piece + part).encode(errors="replace")) > max_bytes:
            yield piece.strip()
            piece = ""
        piece += part
    if piece.strip():
        yield piece.strip()


def _parts(line: str, max_bytes: int) -> Iterator[str]:
    """Sentences, or of one that is too long its words, or of such a word its characters."""
    for sentence in _SENTENCE.findall(line):
        if len(sentence.encode(errors="replace")) <= max_bytes:
            yield sentence
            continue
        for word in re.findall(r"\S+\s*|\s+", sentence):
            if len(word.encode(errors="replace")) <= max_bytes:
                yield word
            else:
                yield from word
