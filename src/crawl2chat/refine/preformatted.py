"""The content of <pre>: code, or prose as in mailing list archives, RFCs and old texts."""

import re
from itertools import pairwise

FEWEST_WORDS = 12  # fewer cannot show whether a text is prose
FEWEST_A_LINE = 3.5  # words per line; settings and tables have fewer
LONGEST_LINE = 100  # characters; lines wrapped by hand or by a mail program are no longer
WRAP_SLACK = 2  # characters; how much shorter than the longest line a wrapped one may be

_CODE_SIGNS = re.compile(r"[{}<>=;|\\_$#@&*+\[\]^~`/]")
_MARKS = "\"'“”‘’«»()[]*_.,:;!?…-–—、。，！？；：「」『』（）"  # around a word
_ENDS = re.compile(r"[.,;:!?…。、！？؟।]['\"”’»)]*(?:\s|$)")
_SPACELESS = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")
_SPACELESS_MARKS = re.compile("(?<=[、。，！？；：「」『』（）…])(?=\\S)")
_COLUMNS = re.compile(r"\S(?: {3,}|\t)\S")
_PROMPT = r"\$ |>>> |#!|% |[A-Z]:\\|\w+@[\w.-]+[:$#]"
_STATEMENT = (
    r"(?:SELECT|INSERT INTO|UPDATE|DELETE FROM|CREATE|ALTER|DROP) \w|import [\w.]+$|from \S+ import |def \w+\("
    r"|class \w+[:({]|#include|#define|public \w|function \w*\(|(?:var|let|const) \w+ =|package \w+;?$"
)
_CODE_LINE = re.compile(rf"^[ \t]*(?:{_PROMPT}|{_STATEMENT})", re.MULTILINE)
_QUOTE = re.compile(r"\s*[>|]")


def is_prose(text: str) -> bool:
    """Return whether preformatted text reads like sentences or verse rather than code, data or a terminal.

    Prose has mostly words made of letters, several per line, some punctuation, and few characters typical of code.
    """
    lines = [line for line in text.split("\n") if line.strip()]
    words = _SPACELESS_MARKS.sub(" ", text).split()
    n_words = len(words)
    if spaceless := len(_SPACELESS.findall(text)):
        n_words = max(n_words, spaceless // 2)
    if n_words < FEWEST_WORDS or n_words < FEWEST_A_LINE * len(lines) or _CODE_LINE.search(text):
        return False
    if len(_CODE_SIGNS.findall(_without_rulers(text))) > 0.02 * len(text):
        return False
    if sum(map(bool, map(_COLUMNS.search, lines))) > 0.3 * len(lines):
        return False
    plain = sum(word.strip(_MARKS).replace("'", "").replace("’", "").replace("-", "").isalpha() for word in words)
    return plain >= 0.75 * len(words) and len(_ENDS.findall(text)) >= n_words / 40


def _without_rulers(text: str) -> str:
    """Return the text without rules drawn from one character and without the marks of quoted mail."""
    return re.sub(r"^[ \t]*(?:[>|][ \t]?)+|([=_*~#+-])\1{3,}", "", text, flags=re.MULTILINE)


def paragraphs(text: str) -> list[str]:
    """Return the paragraphs of preformatted prose, which empty lines separate.

    Lines that were wrapped because they were full are joined; verses, addresses and quoted mail keep their line breaks.
    """
    text = text.expandtabs()
    width = max((len(line) for line in text.split("\n") if len(line) <= LONGEST_LINE), default=0)
    result = []
    for part in re.split(r"\n\s*\n", text):
        lines = [line for line in part.split("\n") if line.strip()]
        full = all(
            len(line.rstrip()) + 1 + len(following.split(maxsplit=1)[0]) > width - WRAP_SLACK
            for line, following in pairwise(lines)
        )
        joined = full and not any(map(_QUOTE.match, lines))
        result.append((" " if joined else "\n").join(" ".join(line.split()) for line in lines))
    return [paragraph for paragraph in result if paragraph]
