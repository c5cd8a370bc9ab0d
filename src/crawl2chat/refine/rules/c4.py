"""C4's rules (arXiv 1910.10683, section 2.2): lines that are not prose go, and pages with too little left.

Of each line:
- it ends with . ? ! or a quotation mark: only with `terminal_punctuation`, as FineWeb does without this rule;
- it has enough words (3; newer versions of the paper and the reference code ask for 5): done;
- it has no word of more than 1,000 characters (reference code): done;
- it does not mention Javascript, cookies, terms of use or a privacy policy: done;
- citation marks as in Wikipedia, `[1]` and `[edit]`, are removed: done.
Of each page:
- it has enough sentences (5; newer versions: 3), no "lorem ipsum" and no curly bracket: done;
- it has no word of the "List of Dirty, Naughty, Obscene or Otherwise Bad Words": not done, nor does FineWeb;
- no three sentences in a row that another page has: not done; `refine.dedup.lines` removes repeated lines, if asked to;
- it is English with a probability of 0.99: done by the step `language`, with a threshold of its own.
Reference code: https://github.com/tensorflow/datasets/blob/master/tensorflow_datasets/text/c4_utils.py

The verdicts and texts are those of datatrove (`C4QualityFilter`), except where something else is meant:
- empty lines between paragraphs stay where they are;
- headings stay, however short, and so do lines of code between ``` fences; neither are sentences, and a { in code or
  in a formula between dollar signs is no reason to drop the page;
- sentences end with a word that ends with punctuation (`words.py`); datatrove asks a tokenizer of the language.
"""

import re

from crawl2chat.refine.rules import Text, Verdict, bare_words, drop, heading_level, keep
from crawl2chat.refine.settings import C4Settings
from crawl2chat.refine.text.words import (
    count_sentences,
    ends_sentence_of_other_script,
    may_end_without_mark,
    split_words,
)

END_PUNCTUATION = (".", "?", "!", '"', "'")
CITATION = re.compile(r"\[\d{0,9}\]|\[edit\]|\[citation needed\]")
POLICY_PHRASES = ("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies")
NOTICES = tuple(phrase.encode() for phrase in ("javascript", "lorem ipsum", *POLICY_PHRASES))
FENCE = "```"
FORMULA = re.compile(r"\$[^$\n]+\$")


def c4_quality(page: Text, rules: C4Settings) -> tuple[Verdict, str]:
    """A verdict on the page, and its text without notices, menus and citation marks (unchanged if it is dropped)."""
    if not rules.enabled:
        return keep(), page.text
    lowered = page.text.encode("utf-8", "replace").lower()  # ten times as fast as the text's own, and enough
    has_notices = any(notice in lowered for notice in NOTICES)
    kept: list[str] = []
    sentences = 0
    fences = sum(line.startswith(FENCE) for line in page.lines) // 2 * 2  # the last of an odd number opens nothing
    in_code = False
    for line in page.text.split("\n"):
        if fences and line.startswith(FENCE):
            in_code, fences = not in_code, fences - 1
            kept.append(line)
        elif in_code or heading_level(line):
            kept.append(line)
        elif not (line := line.strip()):
            if kept and kept[-1]:
                kept.append("")
        elif not is_line_of_words(line, rules):
            continue
        else:
            line = CITATION.sub("", line).strip() if "[" in line else line
            if not line:
                continue
            if rules.terminal_punctuation and not ends_like_a_sentence(line):
                continue
            if has_notices and "lorem ipsum" in line.lower():
                return drop("lorem_ipsum"), page.text
            if has_notices and is_about_scripts(line):
                continue
            if rules.drop_curly_bracket and "{" in line and "{" in FORMULA.sub("", line):
                return drop("curly_bracket", detail=line[:80]), page.text
            if has_notices and states_policy(line):
                continue
            kept.append(line)
            if sentences < rules.min_sentences:
                sentences += count_sentences(line)
    if sentences < rules.min_sentences:
        return drop("too_few_sentences", sentences), page.text
    return keep(), "\n".join(kept).strip()


def is_line_of_words(line: str, rules: C4Settings) -> bool:
    """Menus have short lines; data and code have endless words."""
    if len(line) > rules.max_word_length and max(map(len, split_words(line))) > rules.max_word_length:
        return False
    least = rules.min_words_per_line
    if len(line.split(maxsplit=least)) >= least:
        return True
    return not line.isascii() and len(bare_words(split_words(line[: 40 * least]))) >= least


def ends_like_a_sentence(line: str) -> bool:
    if line.endswith(END_PUNCTUATION):
        return not line.endswith("...")
    return ends_sentence_of_other_script(line) or may_end_without_mark(line)


def is_about_scripts(line: str) -> bool:
    """Mostly a request to enable them."""
    return "javascript" in line.lower()


def states_policy(line: str) -> bool:
    """Banners and footers."""
    lowered = line.lower()
    return any(phrase in lowered for phrase in POLICY_PHRASES)
