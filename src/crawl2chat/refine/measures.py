"""What the rules measure on a text, whether they drop it or not: the values of a page, and of many for a histogram.

A rule reports its value only when it drops a page. So each is asked with a threshold that no page meets: the value is
then the one that the rule itself would have held against its real threshold.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

from crawl2chat.refine.rules import Text, Verdict
from crawl2chat.refine.rules.c4 import c4_quality
from crawl2chat.refine.rules.fineweb import list_like, repeated_lines, short_lines, unpunctuated_lines
from crawl2chat.refine.rules.gopher import (
    WordGrams,
    bullet_lines,
    common_grams,
    ellipses,
    ellipsis_lines,
    few_stop_words,
    hash_signs,
    letter_words,
    mean_word_length,
    repeated_grams,
    repeated_paragraphs,
    word_count,
)
from crawl2chat.refine.rules.gopher import repeated_lines as gopher_lines
from crawl2chat.refine.settings import RefineSettings, for_language

MAX_CHARS = 200_000  # of a text; a longer one is not measured, as counting n-grams takes seconds


@dataclass(frozen=True)
class Measured:
    """A text with its language and the pieces that several rules look at."""

    text: Text
    language: str = "en"

    @cached_property
    def grams(self) -> WordGrams:
        return WordGrams(self.text.words)


Ask = Callable[[Measured, Any], Verdict]  # of a text and a table of settings


@dataclass(frozen=True)
class Rule:
    """One threshold of refining.

    reason: for which pages are dropped by it. setting: its name within the table of `step`; n: the length of the
    n-gram, where the setting has a threshold for each. at_least: the threshold is the smallest value that is kept,
    not the largest.
    """

    step: str
    reason: str
    setting: str
    says: str  # what the value is
    at_least: bool
    ask: Ask
    never: dict[str, Any]  # settings with which every page is dropped for this reason
    n: int | None = None

    @property
    def name(self) -> str:
        """The setting in full, as it is set: `gopher_quality.min_words`."""
        return f"{self.step}.{self.setting}" + (f".{self.n}" if self.n else "")

    def threshold(self, settings: RefineSettings, language: str = "en") -> float | None:
        """For pages in a language; None where the rule is switched off, or has no threshold for its length."""
        table = getattr(for_language(settings, language), self.step)
        value = getattr(table, self.setting)
        if not table.enabled or (self.n and self.n not in value):
            return None
        return float(value[self.n] if self.n else value)

    def value(self, measured: Measured, settings: RefineSettings) -> float | None:
        """What the rule finds in a text; None where it has nothing to measure."""
        table = getattr(settings, self.step).model_copy(update={"enabled": True, **self.never})
        found = self.ask(measured, table)
        return float(found.value) if found.reason == self.reason and found.value is not None else None

    def keeps(self, value: float, threshold: float) -> bool:
        return value >= threshold if self.at_least else value <= threshold


def _on_text(check: Callable[[Text, Any], Verdict]) -> Ask:
    return lambda measured, table: check(measured.text, table)


def _stop_words(measured: Measured, table: Any) -> Verdict:
    return few_stop_words(measured.text, table, measured.language)


def _repeated(check: Callable[[str, Any], Verdict]) -> Ask:
    """The text must not be empty: shares are of its characters."""
    return lambda measured, table: check(measured.text.text, table) if measured.text.text else Verdict()


def _grams(check: Callable[[WordGrams, int, Any], Verdict], setting: str, n: int) -> Ask:
    def ask(measured: Measured, table: Any) -> Verdict:
        text = measured.text.text
        return check(measured.grams, len(text), {n: getattr(table, setting)}) if text else Verdict()

    return ask


def _sentences(measured: Measured, table: Any) -> Verdict:
    return c4_quality(measured.text, table)[0]


def _on_page(step: str, reason: str, setting: str, says: str, check: Callable[[Text, Any], Verdict]) -> Rule:
    at_least = setting.startswith("min_")
    return Rule(step, reason, setting, says, at_least, _on_text(check), {setting: math.inf if at_least else -1.0})


_quality, _fineweb = partial(_on_page, "gopher_quality"), partial(_on_page, "fineweb")


def _repetition(reason: str, setting: str, says: str, check: Callable[[str, Any], Verdict], **others: float) -> Rule:
    return Rule("gopher_repetition", reason, setting, says, False, _repeated(check), {**others, setting: -1.0})


def _of_grams(reason: str, setting: str, says: str, check: Callable[[WordGrams, int, Any], Verdict], n: int) -> Rule:
    return Rule("gopher_repetition", reason, setting, says, False, _grams(check, setting, n), {setting: -1.0}, n)


RULES: tuple[Rule, ...] = (
    _quality("too_few_words", "min_words", "words", word_count),
    Rule(
        "gopher_quality", "too_many_words", "max_words", "words", False, _on_text(word_count),
        {"min_words": 0, "max_words": -1},
    ),
    _quality("short_words", "min_mean_word_length", "mean length of a word, in characters", mean_word_length),
    Rule(
        "gopher_quality", "long_words", "max_mean_word_length", "mean length of a word, in characters", False,
        _on_text(mean_word_length), {"min_mean_word_length": 0, "max_mean_word_length": -1},
    ),
    _quality("hash_signs", "max_symbol_ratio", "hash signs per word", hash_signs),
    _quality("ellipses", "max_symbol_ratio", "ellipses per word", ellipses),
    _quality("bullet_lines", "max_bullet_lines", "share of lines that begin with a bullet", bullet_lines),
    _quality("ellipsis_lines", "max_ellipsis_lines", "share of lines that end with an ellipsis", ellipsis_lines),
    _quality("few_letter_words", "min_letter_words", "share of words that contain a letter", letter_words),
    Rule(
        "gopher_quality", "few_stop_words", "min_stop_words", "different function words, such as “the” and “of”", True,
        _stop_words, {"min_stop_words": math.inf},
    ),
    _repetition(
        "duplicate_paragraphs", "max_duplicate_paragraphs", "share of paragraphs that occurred before on the page",
        repeated_paragraphs,
    ),
    _repetition(
        "duplicate_paragraph_chars", "max_duplicate_paragraph_chars", "share of characters in repeated paragraphs",
        repeated_paragraphs, max_duplicate_paragraphs=math.inf,
    ),
    _repetition(
        "duplicate_lines", "max_duplicate_lines", "share of lines that occurred before on the page", gopher_lines
    ),
    _repetition(
        "duplicate_line_chars", "max_duplicate_line_chars", "share of characters in repeated lines", gopher_lines,
        max_duplicate_lines=math.inf,
    ),
    *(
        _of_grams(
            f"top_{n}_gram", "max_top_ngrams", f"share of characters in the most frequent sequence of {n} words",
            common_grams, n,
        )
        for n in (2, 3, 4)
    ),
    *(
        _of_grams(
            f"duplicate_{n}_grams", "max_duplicate_ngrams",
            f"share of characters in sequences of {n} words that occurred before", repeated_grams, n,
        )
        for n in range(5, 11)
    ),
    Rule("c4", "too_few_sentences", "min_sentences", "sentences", True, _sentences, {"min_sentences": math.inf}),
    _fineweb(
        "unpunctuated_lines", "min_punctuated_lines", "share of lines that end with punctuation", unpunctuated_lines
    ),
    _fineweb("short_lines", "max_short_lines", "share of lines that are short", short_lines),
    _fineweb(
        "repeated_line_chars", "max_duplicate_line_chars", "share of characters in repeated lines", repeated_lines
    ),
    _fineweb("list_like", "max_newlines_per_word", "line ends per word", list_like),
)  # fmt: skip
BY_REASON = {rule.reason: rule for rule in RULES}


@dataclass(frozen=True)
class Value:
    """What one rule, known by its reason, found in a text, and its threshold."""

    reason: str
    value: float
    threshold: float

    @property
    def rule(self) -> Rule:
        return BY_REASON[self.reason]

    @property
    def keeps(self) -> bool:
        return self.rule.keeps(self.value, self.threshold)


def values_of(step: str, text: str, language: str, settings: RefineSettings) -> list[Value]:
    """The values of all rules of a step that are switched on, on the text as it was before the step.

    None for a text of more than MAX_CHARS.
    """
    rules = [rule for rule in RULES if rule.step == step]
    if len(text) > MAX_CHARS or not rules:
        return []
    measured = Measured(Text.of(text), language)
    found = []
    for rule in rules:
        threshold, value = rule.threshold(settings, language), rule.value(measured, settings)
        if threshold is not None and value is not None:
            found.append(Value(rule.reason, value, threshold))
    return found
