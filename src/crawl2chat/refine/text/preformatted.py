"""The content of <pre>: code, or prose as in mailing list archives, RFCs and old texts."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

FEWEST_WORDS = 12  # fewer cannot show whether a text is prose
FEWEST_A_LINE = 3.5  # words per line; settings and tables have fewer
LONGEST_LINE = 100  # characters; lines wrapped by hand or by a mail program are no longer
WRAP_SLACK = 2  # characters; how much shorter than the longest line a wrapped one may be
MOSTLY, NEARLY_ALL = 0.5, 0.8  # shares of a text's letters that prose must have, without and with code next to it
FEWEST_OF_VERSE = 3  # lines that begin with a capital

_CODE_SIGNS = re.compile(r"[{}<>=;|\\_$#@&*+\[\]^~`/]")
_MARKS = "\"'“”‘’«»()[]*_.,:;!?…-–—、。，！？；：「」『』（）"  # around a word
_ENDS = re.compile(r"[.,;:!?…。、！？؟।]['\"”’»)]*(?:\s|$)")
_LETTERS = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
_WIDE = "\u3000-\u30ff\u3400-\u9fff\uf900-\ufaff\uff01-\uff9f"  # with the marks of Chinese and Japanese
_SPACELESS = re.compile(f"[{_LETTERS}]")
_SPACE_IN_SPACELESS = re.compile(f"(?<=[{_WIDE}]) (?=[{_WIDE}])")  # where lines of such a script were joined
_SPACELESS_MARKS = re.compile("(?<=[、。，！？；：「」『』（）…])(?=\\S)")
_COLUMNS = re.compile(r"\S(?: {3,}|\t)\S")
_PROMPT = r"\$ |>>> |#!|% |[A-Z]:\\|\w+@[\w.-]+[:$#]"
_STATEMENT = (
    r"(?:SELECT|INSERT INTO|UPDATE|DELETE FROM|CREATE|ALTER|DROP) \w|import [\w.]+$|from \S+ import |def \w+\("
    r"|class \w+[:({]|#include|#define|public \w|function \w*\(|(?:var|let|const) \w+ =|package \w+;?$"
)
_CODE_LINE = re.compile(rf"^[ \t]*(?:{_PROMPT}|{_STATEMENT})", re.MULTILINE)
_QUOTE = re.compile(r"\s*[>|]")
_EMPTY_LINES = re.compile(r"\n(?:[ \t\f]*\n)+")
# Rulers drawn of one sign, the marks of quoted mail, addresses, and numbers of pages have signs, but not those of code.
_NO_CODE = re.compile(
    r"^[ \t]*(?:[>|][ \t]?)+|([=_*~#+-])\1{3,}|^--[ \t]*$|\[Page \d+\]|<?\b\w+://[^\s<>]+>?|<?\b[\w.+-]{1,64}@[\w-]+\.[\w.-]+>?",
    re.MULTILINE,
)


@dataclass(frozen=True)
class Stretch:
    """A paragraph of prose, or lines that are code or data and keep their form."""

    text: str
    is_prose: bool


def stretches(text: str) -> Iterator[Stretch]:
    """Preformatted text in order: paragraphs, and between them code, tables and drawings of several lines.

    A text that is not mostly prose is one stretch.
    """
    parts = _EMPTY_LINES.split(text)
    if not is_prose(text):
        n_prose = sum(_count_letters(part) for part in parts if is_prose(part))
        if n_prose <= (NEARLY_ALL if _CODE_LINE.search(text) else MOSTLY) * _count_letters(text):
            yield Stretch(text, False)
            return
    for is_code, group in groupby(parts, lambda part: "\n" in part and _looks_like_code(part)):
        together = "\n\n".join(group).strip("\n")
        if is_code:
            yield Stretch(together, False)
        else:
            yield from (Stretch(paragraph, True) for paragraph in paragraphs(together))


def is_prose(text: str) -> bool:
    """Return whether preformatted text reads like sentences or verse rather than code, data or a terminal.

    Prose has mostly words made of letters, several per line, some punctuation, and few characters typical of code.
    """
    lines = [line for line in text.split("\n") if line.strip()]
    words = _SPACELESS_MARKS.sub(" ", text).split()
    n_words = len(words)
    if spaceless := len(_SPACELESS.findall(text)):
        n_words = max(n_words, spaceless // 2)
    if n_words < FEWEST_WORDS or n_words < FEWEST_A_LINE * len(lines) or _looks_like_code(text):
        return False
    plain = sum(word.strip(_MARKS).replace("'", "").replace("’", "").replace("-", "").isalpha() for word in words)
    return plain >= 0.75 * len(words) and len(_ENDS.findall(text)) >= n_words / 40


def _looks_like_code(text: str) -> bool:
    """Whether a text has signs of code, or columns."""
    if _CODE_LINE.search(text) or len(_CODE_SIGNS.findall(_NO_CODE.sub("", text))) > 0.02 * len(text):
        return True
    lines = [line for line in text.split("\n") if line.strip()]
    n_columns = sum(map(bool, map(_COLUMNS.search, lines)))
    return n_columns > 1 and n_columns > 0.3 * len(lines)  # a single line may be the head or foot of a page


def _count_letters(text: str) -> int:
    return sum(map(str.isalpha, text))


def paragraphs(text: str) -> list[str]:
    """Return the paragraphs of preformatted prose, which empty lines separate.

    Lines that were wrapped because they were full are joined; verses, addresses and quoted mail keep their line breaks.
    """
    text = text.expandtabs()
    width = max((len(line) for line in text.split("\n") if len(line) <= LONGEST_LINE), default=0)
    parts = [[line.rstrip() for line in part.split("\n") if line.strip()] for part in _EMPTY_LINES.split(text)]
    is_verse = _is_verse(parts)
    result = []
    for lines in parts:
        full = all(len(line) + _first_width(following) > width - WRAP_SLACK for line, following in pairwise(lines))
        shown = [" ".join(line.split()) for line in lines]
        joined = full and not is_verse and not any(map(_QUOTE.match, lines))
        result.append(_SPACE_IN_SPACELESS.sub("", " ".join(shown)) if joined else "\n".join(shown))
    return [paragraph for paragraph in result if paragraph]


def _is_verse(parts: Sequence[Sequence[str]]) -> bool:
    """Whether nearly every line after a line begins with a capital, as those of poems do."""
    letters = [line.lstrip(" \"'“‘«")[:1] for lines in parts for line in lines[1:]]
    return len(letters) >= FEWEST_OF_VERSE and sum(map(str.isupper, letters)) > 0.75 * len(letters)


def _first_width(line: str) -> int:
    """What the first word would have added to the line before: a space and itself, or one letter of Han or kana."""
    first = line.split(maxsplit=1)[0]
    return 1 if _SPACELESS.match(first) else 1 + len(first)
