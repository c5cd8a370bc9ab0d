"""Is it prose? The rules of Gopher, C4 and FineWeb, each a function that gives a verdict."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from crawl2chat.refine.repetition import count_duplicates
from crawl2chat.refine.settings import C4Settings, FineWebSettings, GopherQualitySettings
from crawl2chat.refine.verdict import Verdict, drop, keep

END_PUNCTUATION = (".", "?", "!", '"', "'", "”", "’", "»", "…", ")", "]", "。", "？", "！", "؟", "।")
BULLETS = ("-", "•", "*", "‣", "–", "●", "○", "▪")
PUNCTUATION = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~“”‘’«»…–—•·"
SENTENCE_ENDS = (".", "!", "?", "…", "。", "？", "！", "؟", "।")
CLOSING = "\"'”’»)]"
CITATION = re.compile(r"\[\d{0,9}\]|\[edit\]|\[citation needed\]")
POLICY_PHRASES = ("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies")


@dataclass(frozen=True)
class Text:
    """A page's text and the pieces that rules look at; words are what stands between blanks."""

    text: str
    words: list[str] = field(repr=False)
    bare_words: list[str] = field(repr=False)  # without punctuation around them, and none that is nothing else
    lines: list[str] = field(repr=False)  # those that are not empty

    @staticmethod
    def of(text: str) -> "Text":
        words = text.split()
        bare_words = [bare for word in words if (bare := word.strip(PUNCTUATION))]
        return Text(text, words, bare_words, [line for line in text.split("\n") if line.strip()])


def gopher_quality(page: Text, rules: GopherQualitySettings) -> Verdict:
    """All of Gopher's quality rules, cheap ones first."""
    return _first_drop(
        page, rules, (word_count, mean_word_length, symbols, bullet_lines, ellipsis_lines, letter_words, few_stop_words)
    )


def word_count(page: Text, rules: GopherQualitySettings) -> Verdict:
    """Pages too short to say anything, or too long to be a page."""
    count = len(page.bare_words)
    if count < rules.min_words:
        return drop("too_few_words", count)
    return drop("too_many_words", count) if count > rules.max_words else keep()


def mean_word_length(page: Text, rules: GopherQualitySettings) -> Verdict:
    """Single letters, or code and addresses without blanks."""
    mean = sum(map(len, page.bare_words)) / max(1, len(page.bare_words))
    if mean < rules.min_mean_word_length:
        return drop("short_words", mean)
    return drop("long_words", mean) if mean > rules.max_mean_word_length else keep()


def symbols(page: Text, rules: GopherQualitySettings) -> Verdict:
    """Hash tags and teasers."""
    words = max(1, len(page.words))
    hashes = page.text.count("#") / words
    if hashes > rules.max_symbol_ratio:
        return drop("hash_signs", hashes)
    ellipses = (page.text.count("...") + page.text.count("…")) / words
    return drop("ellipses", ellipses) if ellipses > rules.max_symbol_ratio else keep()


def bullet_lines(page: Text, rules: GopherQualitySettings) -> Verdict:
    """Lists without prose."""
    share = _share_of_lines(page, lambda line: line.lstrip().startswith(BULLETS))
    return drop("bullet_lines", share) if share > rules.max_bullet_lines else keep()


def ellipsis_lines(page: Text, rules: GopherQualitySettings) -> Verdict:
    """Search results and front pages: every text breaks off."""
    share = _share_of_lines(page, lambda line: line.rstrip().endswith(("...", "…")))
    return drop("ellipsis_lines", share) if share > rules.max_ellipsis_lines else keep()


def letter_words(page: Text, rules: GopherQualitySettings) -> Verdict:
    """Tables of numbers."""
    share = sum(any(map(str.isalpha, word)) for word in page.words) / max(1, len(page.words))
    return drop("few_letter_words", share) if share < rules.min_letter_words else keep()


def few_stop_words(page: Text, rules: GopherQualitySettings) -> Verdict:
    """Prose contains function words; menus and keyword lists do not."""
    found = len(set(map(str.lower, page.bare_words)).intersection(rules.stop_words))
    return drop("few_stop_words", found) if found < rules.min_stop_words else keep()


def c4(page: Text, rules: C4Settings) -> tuple[Verdict, str]:
    """C4's rules: a verdict on the page, and its text without notices, menus and citation marks."""
    lowered = page.text.lower()
    if "lorem ipsum" in lowered:
        return drop("lorem_ipsum"), page.text
    if rules.drop_curly_bracket and "{" in page.text:
        return drop("curly_bracket"), page.text
    lines = []
    for line in page.lines:
        clean = CITATION.sub("", line).strip()
        if _is_line_of_prose(clean, rules):
            lines.append(clean)
    sentences = sum(map(count_sentences, lines))
    if sentences < rules.min_sentences:
        return drop("too_few_sentences", sentences), page.text
    return keep(), "\n".join(lines)


def _is_line_of_prose(line: str, rules: C4Settings) -> bool:
    words = line.split()
    if len(words) < rules.min_words_per_line or max(map(len, words), default=0) > rules.max_word_length:
        return False
    if rules.terminal_punctuation and (not line.endswith(END_PUNCTUATION) or line.endswith(("...", "…"))):
        return False
    lowered = line.lower()
    return "javascript" not in lowered and not any(phrase in lowered for phrase in POLICY_PHRASES)


def count_sentences(line: str) -> int:
    """Words that end a sentence, and one more where the line ends without one. `Mr.` counts; thresholds are low."""
    words = line.split()
    ends = [word.rstrip(CLOSING).endswith(SENTENCE_ENDS) for word in words]
    return sum(ends) + (bool(ends) and not ends[-1])


def fineweb(page: Text, rules: FineWebSettings) -> Verdict:
    """FineWeb's own rules, found by comparing good and bad crawls."""
    return _first_drop(page, rules, (unpunctuated_lines, short_lines, repeated_lines, list_like))


def unpunctuated_lines(page: Text, rules: FineWebSettings) -> Verdict:
    """Lines of prose end with punctuation; entries of menus and tables do not."""
    share = _share_of_lines(page, lambda line: line.rstrip().endswith(END_PUNCTUATION))
    return drop("unpunctuated_lines", share) if share < rules.min_punctuated_lines else keep()


def short_lines(page: Text, rules: FineWebSettings) -> Verdict:
    """Headings, menus and forms."""
    share = _share_of_lines(page, lambda line: len(line) <= rules.short_line_chars)
    return drop("short_lines", share) if share > rules.max_short_lines else keep()


def repeated_lines(page: Text, rules: FineWebSettings) -> Verdict:
    """Characters in lines that stood on the page before."""
    share = count_duplicates(page.lines)[1] / max(1, sum(map(len, page.lines)))
    return drop("repeated_line_chars", share) if share > rules.max_duplicate_line_chars else keep()


def list_like(page: Text, rules: FineWebSettings) -> Verdict:
    """Too many line ends for the words."""
    ratio = page.text.count("\n") / max(1, len(page.words))
    return drop("list_like", ratio) if ratio > rules.max_newlines_per_word else keep()


def _first_drop(page: Text, rules: object, checks: Sequence[Callable[..., Verdict]]) -> Verdict:
    for check in checks:
        verdict = check(page, rules)
        if verdict.dropped:
            return verdict
    return keep()


def _share_of_lines(page: Text, is_so: Callable[[str], bool]) -> float:
    return sum(map(is_so, page.lines)) / max(1, len(page.lines))
