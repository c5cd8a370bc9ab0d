"""Is it prose? Gopher's rules (arXiv 2112.11446, table A1), each a function that gives a verdict.

The verdicts are datatrove's (`GopherQualityFilter`) on the same words, but for what is meant otherwise:
- words are what `words.py` finds, without the punctuation around them; datatrove asks a tokenizer of the language,
  for which a comma is a word as well;
- empty lines, which part paragraphs, are no lines;
- hash signs that mark a heading are none, nor are the marks of headings, lists and tables words;
- stop words are those of the page's language; the rule is passed over where there is no list for it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from crawl2chat.refine.settings import GopherQualitySettings
from crawl2chat.refine.text.language import stop_words_by_language
from crawl2chat.refine.text.words import has_unspaced, split_words
from crawl2chat.refine.verdict import Verdict, drop, keep

BULLETS = ("-", "•", "・")
ELLIPSES = ("...", "…")
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


def gopher_quality(page: Text, rules: GopherQualitySettings, language: str = "en") -> Verdict:
    """All of Gopher's quality rules, in datatrove's order. `language`: whose stop words are looked for."""
    if not rules.enabled:
        return keep()
    checks = (word_count, mean_word_length, symbols, bullet_lines, ellipsis_lines, letter_words)
    verdict = first_drop(page, rules, checks)
    return verdict if verdict.dropped else few_stop_words(page, rules, language)


def word_count(page: Text, rules: GopherQualitySettings) -> Verdict:
    """Pages too short to say anything, or too long to be a page."""
    count = len(page.words)
    if count < rules.min_words:
        return drop("too_few_words", count)
    return drop("too_many_words", count) if count > rules.max_words else keep()


def mean_word_length(page: Text, rules: GopherQualitySettings) -> Verdict:
    """Single letters, or code and addresses without blanks."""
    mean = len("".join(page.words)) / max(1, len(page.words))
    if mean < rules.min_mean_word_length:
        return drop("short_words", mean)
    return drop("long_words", mean) if mean > rules.max_mean_word_length else keep()


def symbols(page: Text, rules: GopherQualitySettings) -> Verdict:
    """Hash tags and teasers."""
    words = max(1, len(page.words))
    hashes = (page.text.count("#") - sum(map(heading_level, page.lines))) / words if "#" in page.text else 0
    if hashes > rules.max_symbol_ratio:
        return drop("hash_signs", hashes)
    count = sum(map(page.text.count, ELLIPSES))
    if count and has_unspaced(page.text):
        count -= page.text.count("……")  # one, as Chinese and Japanese write it
    ellipses = count / words
    return drop("ellipses", ellipses) if ellipses > rules.max_symbol_ratio else keep()


def heading_level(line: str) -> int:
    """How many hash signs mark the line as a heading: 2 of `## Rivers`, 0 of `#rivers`."""
    level = len(line) - len(line.lstrip("#"))
    return level if level <= 6 and line[level : level + 1] == " " else 0


def bullet_lines(page: Text, rules: GopherQualitySettings) -> Verdict:
    """Lists without prose."""
    share = share_of_lines(page, lambda line: line.lstrip().startswith(BULLETS))
    return drop("bullet_lines", share) if share > rules.max_bullet_lines else keep()


def ellipsis_lines(page: Text, rules: GopherQualitySettings) -> Verdict:
    """Search results and front pages: every text breaks off."""
    share = share_of_lines(page, lambda line: line.rstrip().endswith(ELLIPSES))
    return drop("ellipsis_lines", share) if share > rules.max_ellipsis_lines else keep()


def letter_words(page: Text, rules: GopherQualitySettings) -> Verdict:
    """Tables of numbers."""
    enough = rules.min_letter_words * len(page.words)
    if sum(map(str.isalpha, page.words)) >= enough:  # of nothing but letters, which is quickly told
        return keep()
    share = sum(any(map(str.isalpha, word)) for word in page.words) / max(1, len(page.words))
    return drop("few_letter_words", share) if share < rules.min_letter_words else keep()


def few_stop_words(page: Text, rules: GopherQualitySettings, language: str = "en") -> Verdict:
    """Prose contains function words; menus and keyword lists do not."""
    stop_words = rules.stop_words or stop_words_by_language().get(language)
    if not stop_words:
        return keep()
    found = len(set(page.words).intersection(stop_words))
    return drop("few_stop_words", found) if found < rules.min_stop_words else keep()


def first_drop(page: Text, rules: object, checks: Sequence[Callable[..., Verdict]]) -> Verdict:
    for check in checks:
        verdict = check(page, rules)
        if verdict.dropped:
            return verdict
    return keep()


def share_of_lines(page: Text, is_so: Callable[[str], bool]) -> float:
    return sum(map(is_so, page.lines)) / max(1, len(page.lines))
