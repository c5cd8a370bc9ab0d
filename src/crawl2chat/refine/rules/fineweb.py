"""FineWeb's own rules (arXiv 2406.17557, section 3.6), found by comparing good and bad crawls.

A page is dropped if few of its lines end with punctuation (0.12), if many of its characters are in lines that occurred
before (0.1), or if many of its lines are short (0.67 have at most 30 characters). All three of the paper's rules are
done, and the fourth of its published script: too many line ends per word (0.3).
The script: https://github.com/huggingface/datatrove/blob/main/examples/fineweb.py

The verdicts are those of datatrove (`FineWebQualityFilter`) on the same words, except that empty lines are not lines:
a page whose paragraphs are separated by them is not a list.
"""

from crawl2chat.refine.rules import Text, Verdict, bare_words, drop, first_drop, keep, share_of_lines
from crawl2chat.refine.rules.gopher import count_duplicates
from crawl2chat.refine.settings import FineWebSettings
from crawl2chat.refine.text.words import ends_sentence


def fineweb_quality(page: Text, rules: FineWebSettings) -> Verdict:
    """All of FineWeb's rules, in datatrove's order."""
    if not rules.enabled:
        return keep()
    return first_drop(page, rules, (unpunctuated_lines, short_lines, repeated_lines, list_like))


def unpunctuated_lines(page: Text, rules: FineWebSettings) -> Verdict:
    """Lines of prose end with punctuation; entries of menus and tables do not."""
    share = share_of_lines(page, ends_sentence)
    return drop("unpunctuated_lines", share) if share < rules.min_punctuated_lines else keep()


def short_lines(page: Text, rules: FineWebSettings) -> Verdict:
    """Headings, menus and forms."""
    share = share_of_lines(page, lambda line: len(line) <= rules.short_line_chars)
    return drop("short_lines", share) if share > rules.max_short_lines else keep()


def repeated_lines(page: Text, rules: FineWebSettings) -> Verdict:
    """Characters in lines that occurred before on the page."""
    share = count_duplicates(page.lines)[1] / max(1, sum(map(len, page.lines)))
    return drop("repeated_line_chars", share) if share > rules.max_duplicate_line_chars else keep()


def list_like(page: Text, rules: FineWebSettings) -> Verdict:
    """Too many line ends for the words."""
    line_ends = len(page.lines) - 1
    few = 2 * int(line_ends / max(rules.max_newlines_per_word, 0.01)) + 2  # mostly twice as many as are needed
    if line_ends <= rules.max_newlines_per_word * len(bare_words(page.text.split(maxsplit=few)[:few])):
        return keep()
    ratio = line_ends / max(1, len(page.words))
    return drop("list_like", ratio) if ratio > rules.max_newlines_per_word else keep()
