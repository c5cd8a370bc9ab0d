"""The value that a rule is asked for is the one that it would report if it dropped the page."""

import pytest
from warcs import prose

from crawl2chat.refine.explain import find_limit
from crawl2chat.refine.measures import BY_REASON, MAX_CHARS, RULES, values_of
from crawl2chat.refine.rules import Text
from crawl2chat.refine.rules.c4 import c4_quality
from crawl2chat.refine.rules.fineweb import fineweb_quality
from crawl2chat.refine.rules.gopher import gopher_quality, gopher_repetition
from crawl2chat.refine.settings import RefineSettings

SETTINGS = RefineSettings()
GOOD = prose(1, 24)
# Texts, each of which a different rule drops.
BAD = {
    "too_few_words": "The miller went home in the evening, and he had his supper with the others.",
    "too_many_words": "the mill and the river " * 20_001,
    "short_words": "a b c d " * 30,
    "long_words": "incomprehensibilities " * 60,
    "hash_signs": f"{'#word ' * 30} {prose(2, 9)}",
    "ellipses": f"{'read more... ' * 40} {prose(3, 3)}",
    "bullet_lines": "\n".join(f"- {line}" for line in prose(4, 30).replace("\n\n", " ").split(". ")),
    "ellipsis_lines": "\n".join(f"{line}..." for line in prose(5, 30).replace("\n\n", " ").split(". ")),
    "few_letter_words": "12345 67890 and the " * 30,
    "few_stop_words": "Miller river mill stone bridge valley barley " * 10,
    "duplicate_paragraphs": "\n\n".join(["The mill is old and the river is deep."] * 12),
    "duplicate_lines": "\n".join(["The mill is old and the river is deep."] * 12),
    "too_few_sentences": prose(6, 24).replace(".", "").replace("\n\n", " ") + ".",
    "unpunctuated_lines": prose(7, 24).replace(". ", "\n").replace(".", ""),
    "short_lines": "\n".join(f"The {word} is old." for word in prose(8, 24).split()[:60]),
}


def verdicts(text):
    """Of all rules of these steps, in their order, each on the same text."""
    page = Text.of(text)
    yield "gopher_quality", gopher_quality(page, SETTINGS.gopher_quality, "en")
    yield "gopher_repetition", gopher_repetition(text, page.words, SETTINGS.gopher_repetition)
    yield "c4", c4_quality(page, SETTINGS.c4)[0]
    yield "fineweb", fineweb_quality(page, SETTINGS.fineweb)


@pytest.mark.parametrize("text", [GOOD, *BAD.values(), f"{GOOD}\n\n{GOOD}"], ids=["good", *BAD, "twice"])
def test_values_are_those_of_the_verdicts_and_stand_on_their_side_of_the_threshold(text):
    for step, verdict in verdicts(text):
        found = values_of(step, text, "en", SETTINGS) if len(text) <= MAX_CHARS else []
        failing = {value.reason: value.value for value in found if not value.keeps}
        if verdict.dropped and verdict.reason in BY_REASON and found:
            assert failing[verdict.reason] == verdict.value
        elif not verdict.dropped:
            assert not failing, f"{step} kept the page"


def test_each_text_is_dropped_for_the_reason_that_it_was_made_for():
    reasons = {reason: {verdict.reason for _, verdict in verdicts(text)} for reason, text in BAD.items()}
    assert all(reason in found for reason, found in reasons.items()), reasons


def test_every_rule_with_a_threshold_can_be_measured_under_the_setting_that_explain_names():
    for rule in RULES:
        name, threshold = find_limit(rule.reason, SETTINGS)
        assert (rule.name, rule.threshold(SETTINGS)) == (name, threshold)


def test_thresholds_are_those_of_the_language_and_rules_that_are_off_have_none():
    rule = BY_REASON["duplicate_lines"]
    assert rule.threshold(SETTINGS, "de") != rule.threshold(SETTINGS, "en")
    off = SETTINGS.model_copy(update={"c4": SETTINGS.c4.model_copy(update={"enabled": False})})
    assert BY_REASON["too_few_sentences"].threshold(off) is None
    assert values_of("c4", GOOD, "en", off) == []
    assert values_of("gopher_quality", "x" * (MAX_CHARS + 1), "en", SETTINGS) == []
    assert values_of("gopher_repetition", "", "en", SETTINGS) == []
