"""Our filters' verdicts beside datatrove's (0.10.1) on the same texts: real pages and generated edge cases.

    python bench/filters.py [--warc FILE] [--generated 4000]

The pages are read from --warc, by default data/web-pages/web-pages.warc.gz below $CRAWL2CHAT_SHARED; without
either, only generated texts are compared. Needs the extra `bench`.

Two comparisons of each set of rules, verdicts with the reason and, for C4, the cleaned text:

same pieces: datatrove's filters are given our words and our sentences in place of those of a tokenizer (spaCy, for
    which each comma is a word), and texts without what only our extractor writes: empty lines between paragraphs
    (lines that count, for datatrove), marks of headings, and for C4 headings, which ours lets stay. What is left to
    differ is C4 on pages with fenced code, which ours passes over.
as it comes: datatrove as it is, with spaCy's English tokenizer, on our texts as they are.
"""

import argparse
import os
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from crawl2chat.refine.rules import Text, heading_level
from crawl2chat.refine.rules.c4 import c4_quality
from crawl2chat.refine.rules.fineweb import fineweb_quality
from crawl2chat.refine.rules.gopher import gopher_quality, gopher_repetition
from crawl2chat.refine.settings import RefineSettings
from crawl2chat.refine.text.language import identify_language, stop_words_by_language
from crawl2chat.refine.text.words import count_sentences

WARC = Path("data", "web-pages", "web-pages.warc.gz")
SETTINGS = RefineSettings(languages=[])
KEPT = "kept"
FILTERS = "datatrove.pipeline.filters"
REASONS = {  # datatrove's name → ours, where they differ
    "dup_line_frac": "duplicate_lines",
    "dup_line_char_frac": "duplicate_line_chars",
    "dup_para_frac": "duplicate_paragraphs",
    "dup_para_char_frac": "duplicate_paragraph_chars",
    **{f"duplicated_{n}_n_grams": f"duplicate_{n}_grams" for n in range(5, 11)},
    "gopher_short_doc": "too_few_words",
    "gopher_long_doc": "too_many_words",
    "gopher_below_avg_threshold": "short_words",
    "gopher_above_avg_threshold": "long_words",
    "gopher_too_many_hashes": "hash_signs",
    "gopher_too_many_ellipsis": "ellipses",
    "gopher_too_many_bullets": "bullet_lines",
    "gopher_too_many_end_ellipsis": "ellipsis_lines",
    "gopher_below_alpha_threshold": "few_letter_words",
    "gopher_enough_stop_words": "few_stop_words",
    "line_punct_ratio": "unpunctuated_lines",
    "short_line_ratio": "short_lines",
    "char_dup_ratio": "repeated_line_chars",
    "list_ratio": "list_like",
}


@dataclass(frozen=True)
class Rules:
    """A set of rules on both sides: text, language → the reason it is dropped for, or KEPT, and its text after."""

    name: str
    ours: Callable[[str, str], tuple[str, str]]
    theirs: Callable[[str], Any]  # language → a filter
    plain: Callable[[str], str]  # what datatrove gets of a text of ours where both look at the same pieces


def _c4(text: str, language: str) -> tuple[str, str]:
    verdict, cleaned = c4_quality(Text.of(text), SETTINGS.c4)
    return verdict.reason or KEPT, cleaned


def _ours(check: Callable[[str, str], Any]) -> Callable[[str, str], tuple[str, str]]:
    return lambda text, language: (check(text, language).reason or KEPT, text)


def rule_sets() -> list[Rules]:
    from datatrove.pipeline.filters import (
        C4QualityFilter,
        FineWebQualityFilter,
        GopherQualityFilter,
        GopherRepetitionFilter,
    )

    def quality_filter(language: str) -> Any:
        words = stop_words_by_language().get(language)
        return GopherQualityFilter(stop_words=list(words or ()), min_stop_words=2 if words else None)

    repetition, c4 = GopherRepetitionFilter(), C4QualityFilter(filter_no_terminal_punct=False)
    fineweb = FineWebQualityFilter(char_duplicates_ratio=SETTINGS.fineweb.max_duplicate_line_chars)
    return [
        Rules(
            "Gopher repetition",
            _ours(lambda text, _: gopher_repetition(text, Text.of(text).words, SETTINGS.gopher_repetition)),
            lambda language: repetition,
            str,
        ),
        Rules(
            "Gopher quality",
            _ours(lambda text, language: gopher_quality(Text.of(text), SETTINGS.gopher_quality, language)),
            quality_filter,
            without_headings,
        ),
        Rules("C4", _c4, lambda language: c4, without_heading_lines),
        Rules(
            "FineWeb",
            _ours(lambda text, _: fineweb_quality(Text.of(text), SETTINGS.fineweb)),
            lambda language: fineweb,
            without_empty_lines,
        ),
    ]


def without_empty_lines(text: str) -> str:
    return "\n".join(line for line in text.split("\n") if line.strip())


def without_headings(text: str) -> str:
    return "\n".join(line[heading_level(line) :].strip() for line in without_empty_lines(text).split("\n"))


def without_heading_lines(text: str) -> str:
    return "\n".join(line for line in without_empty_lines(text).split("\n") if not heading_level(line))


def their_verdict(filter_: Any, text: str) -> tuple[str, str]:
    from datatrove.data import Document
    from datatrove.pipeline.filters.base_filter import get_filter_result

    document = Document(text=text, id="0")
    is_kept, reason = get_filter_result(filter_.filter(document))
    return KEPT if is_kept else REASONS.get(reason, reason), document.text


@contextmanager
def same_pieces() -> Iterator[None]:
    """Within, datatrove's filters see our words and sentences."""
    with ExitStack() as stack:
        for module in ("gopher_repetition_filter", "gopher_quality_filter", "fineweb_quality_filter"):
            stack.enter_context(patch(f"{FILTERS}.{module}.split_into_words", lambda text, _: Text.of(text).words))
        stack.enter_context(
            patch(f"{FILTERS}.c4_filters.split_into_sentences", lambda line, _: [""] * count_sentences(line))
        )
        yield


def compare(rules: Rules, texts: list[tuple[str, str]], *, same: bool) -> Counter[tuple[str, str]]:
    """How often which pair of verdicts was given: (ours, datatrove's). A cleaned text that differs is a verdict."""
    pairs: Counter[tuple[str, str]] = Counter()
    for text, language in texts:
        our_reason, our_text = rules.ours(text, language)
        their_reason, their_text = their_verdict(rules.theirs(language), rules.plain(text) if same else text)
        if same and rules.name == "C4" and our_reason == their_reason == KEPT:
            # datatrove leaves the blanks around a citation mark
            lines = (
                [" ".join(line.split()) for line in text.split("\n") if line.strip()]
                for text in (without_heading_lines(our_text), their_text)
            )
            our_reason = KEPT if next(lines) == next(lines) else "kept as another text"
        pairs[our_reason, their_reason] += 1
    return pairs


WORDS = (
    "the of and that have with to be river mill bread don't house x stone U.S.A. 42 1,000 well-known über straße "
    "Wasserwirtschaftsamt # - – ... | & (maybe) “quoted” e-mail naïve tea"
).split()
ENDS = (".", ".", ".", "!", "?", "…", "...", "", "", '."', "'", ":", ")", "。", "؟", "।")
EXTRAS = (
    "Please enable JavaScript now.",
    "javascript",
    "Read our Privacy Policy before you go on.",
    "This site uses cookies and more.",
    "Lorem ipsum dolor sit amet.",
    "function run() { return now }",
    "{",
    "As was shown [12] by others [3] before. [edit]",
    "[1] [2] [3]",
    f"a {'y' * 1001} word that is long",
    "Home",
    "Read more",
    "# A heading of some words",
    "## History",
    "#tag #other #third",
    "- an item of a list",
    "- tea",
    "• another item here",
    "2019 | 12.5 | 8",
)


def generated_text(seed: int) -> str:
    """A text near the thresholds: how much it repeats, breaks off or lists is drawn anew for each."""
    draw = random.Random(seed)
    vocabulary = draw.sample(WORDS, draw.randint(3, len(WORDS))) + [f"{draw.choice('klmn')}{i}o" for i in range(40)]
    rich = draw.random() < 0.7
    repeats, extras, bullets, ellipses, blanks = (draw.random() ** 2 * draw.randint(0, 1) for _ in range(5))
    lines: list[str] = []
    for _ in range(draw.choice([1, 2, 4, 8, 16, 32, 64])):
        if lines and draw.random() < repeats:
            lines.append(draw.choice(lines))
            continue
        if draw.random() < extras * 0.3:
            lines.append(draw.choice(EXTRAS))
            continue
        words = draw.choices(WORDS[:12] + vocabulary if rich else vocabulary, k=draw.choice([1, 2, 3, 5, 8, 13, 21]))
        if draw.random() < repeats and len(words) > 8:
            words = words[:8] * (len(words) // 8)
        line = " ".join(words) + (draw.choice(["...", "…"]) if draw.random() < ellipses else draw.choice(ENDS))
        lines.append(f"{draw.choice('-•')} {line}" if draw.random() < bullets else line)
    return re.sub(r"\n{3,}", "\n\n", "\n".join(line + "\n" * (draw.random() < blanks) for line in lines)).strip()


def generated_texts(count: int) -> list[tuple[str, str]]:
    """(text, language); languages in turn, so that stop words of several are asked for, and one without any."""
    texts = [(generated_text(seed), ("en", "de", "fr", "zh")[seed % 4]) for seed in range(count)]
    return [(text, language) for text, language in texts if Text.of(text).words]


def page_texts(warc: Path) -> list[tuple[str, str]]:
    """(text, language) of the pages of a WARC that hold text."""
    from crawl2chat.crawl import Page, read_warc
    from crawl2chat.refine.text.extract import extract_text

    pages = (page for page in read_warc(str(warc)) if isinstance(page, Page))
    texts = (extract_text(page.body, page.content_type) for page in pages)
    return [(text, identify_language(text)[0]) for text in texts if Text.of(text).words]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = os.environ.get("CRAWL2CHAT_SHARED")
    parser.add_argument("--warc", type=Path, default=Path(shared) / WARC if shared else None)
    parser.add_argument("--generated", type=int, default=4000)
    args = parser.parse_args()
    sources = {"generated": generated_texts(args.generated)} | ({"pages": page_texts(args.warc)} if args.warc else {})
    row = "{:18} {:10} {:12} {:>6} {:>8} {:>9} {:>6} {:>9}  {}".format
    print(
        row("rules", "texts", "pieces", "number", "we drop", "they drop", "equal", "differing", "ours/theirs where not")
    )
    for rules in rule_sets():
        for source, texts in sources.items():
            for same in (True, False):
                with same_pieces() if same else ExitStack():
                    pairs = compare(rules, texts, same=same)
                differing = Counter({pair: n for pair, n in pairs.items() if pair[0] != pair[1]})
                print(
                    row(
                        rules.name,
                        source,
                        "same" if same else "as it comes",
                        len(texts),
                        sum(n for (ours, _), n in pairs.items() if not ours.startswith(KEPT)),
                        sum(n for (_, theirs), n in pairs.items() if theirs != KEPT),
                        pairs.total() - differing.total(),
                        differing.total(),
                        ", ".join(f"{ours}/{theirs} {n}" for (ours, theirs), n in differing.most_common(4)),
                    )
                )


if __name__ == "__main__":
    main()
