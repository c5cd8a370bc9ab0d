"""Rules of published datasets, each a function that gives a verdict; here is what all of them see and say."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from crawl2chat.refine.text.words import split_words


@dataclass(frozen=True)
class Verdict:
    """`reason` None: kept. `value`: what the rule measured and found too small or too large."""

    reason: str | None = None
    value: float | None = None
    detail: str = ""

    @property
    def dropped(self) -> bool:
        return self.reason is not None


_KEEP = Verdict()


def keep() -> Verdict:
    return _KEEP


def drop(reason: str, value: float | None = None, detail: str = "") -> Verdict:
    return Verdict(reason, value, detail)


PUNCTUATION = (
    "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~¡¢£¥§©«®°±·»¿×‐‑‒–—―‘’‚“”„†‡•…‹›€™→−│■□▪▶►●★、。《》「」【】！（），．：；？～"
    "『』〈〉〔〕〖〗〝〞〟〜・〃｡｢｣､･﹏﹑﹔﹕﹖﹗＂＃％＆＇＊＋－／＜＝＞＠［＼］＾＿｀｛｜｝￥⋯"  # wide ones
    "،؛؟۔٪।॥།༎་༌࿐༄༅၊။၌၍၎၏។៕៖៘៙៚๏๚๛"  # Arabic, Hindi, Tibetan, Burmese, Khmer, Thai
)


@dataclass(frozen=True)
class Text:
    """A page's text and the pieces that rules look at."""

    text: str
    lines: list[str] = field(repr=False)  # those that are not empty

    @staticmethod
    def of(text: str) -> "Text":
        return Text(text, [line for line in text.split("\n") if line and not line.isspace()])

    @cached_property
    def words(self) -> list[str]:
        """The text's words, without punctuation around them."""
        return bare_words(split_words(self.text))


def bare_words(pieces: Sequence[str]) -> list[str]:
    """The pieces without punctuation around them, and none that is nothing else."""
    words = [piece if piece.isalnum() else piece.strip(PUNCTUATION) for piece in pieces]
    return list(filter(None, words))


def heading_level(line: str) -> int:
    """How many hash signs mark the line as a heading: 2 of `## Rivers`, 0 of `#rivers`."""
    level = len(line) - len(line.lstrip("#"))
    return level if level <= 6 and line[level : level + 1] == " " else 0


def first_drop(page: Text, rules: object, checks: Sequence[Callable[..., Verdict]]) -> Verdict:
    for check in checks:
        verdict = check(page, rules)
        if verdict.dropped:
            return verdict
    return keep()


def share_of_lines(page: Text, is_so: Callable[[str], bool]) -> float:
    return sum(map(is_so, page.lines)) / max(1, len(page.lines))
