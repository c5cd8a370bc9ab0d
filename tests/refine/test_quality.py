import random

import pytest
from effort import assert_linear
from warcs import prose

from crawl2chat.refine.rules import Text
from crawl2chat.refine.rules.c4 import c4_quality
from crawl2chat.refine.rules.fineweb import fineweb_quality
from crawl2chat.refine.rules.gopher import WordGrams, gopher_quality, gopher_repetition
from crawl2chat.refine.settings import C4Settings, FineWebSettings, GopherQualitySettings, GopherRepetitionSettings
from crawl2chat.refine.text.language import stop_words_by_language
from crawl2chat.refine.text.words import count_sentences

GOOD = prose(1, 24)


def quality(text: str) -> str | None:
    return gopher_quality(Text.of(text), GopherQualitySettings()).reason


def repetition(text: str) -> str | None:
    return gopher_repetition(text, text.split(), GopherRepetitionSettings()).reason


def test_prose_passes_every_rule_and_keeps_its_words():
    assert quality(GOOD) is None
    assert repetition(GOOD) is None
    verdict, cleaned = c4_quality(Text.of(GOOD), C4Settings())
    assert verdict.reason is None
    assert cleaned.split() == GOOD.split()
    assert fineweb_quality(Text.of(cleaned), FineWebSettings()).reason is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Too short.", "too_few_words"),
        ("word " * 100_001, "too_many_words"),
        ("a b c d e the of " * 20, "short_words"),
        ("Donaudampfschifffahrt Hottentottenwelt the of " * 20, "long_words"),
        (GOOD + " #tag" * 60, "hash_signs"),
        (GOOD + " and ..." * 60, "ellipses"),
        ("\n".join(f"- {line}" for line in prose(2, 30).split("\n\n")), "bullet_lines"),
        ("\n".join(f"{line[:-1]}…" for line in prose(2, 60).split("\n\n")), "ellipsis_lines"),
        (GOOD + " 12345" * 100, "few_letter_words"),
        ("buy cheap shoes online today " * 12, "few_stop_words"),
    ],
)
def test_gopher_quality_names_what_is_wrong(text, reason):
    assert quality(text) == reason


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "\n".join([*(f"line number {i} is here" for i in range(6)), *["the same line again and again"] * 6]),
            "duplicate_lines",
        ),
        (
            "\n".join([*(f"{i}" for i in range(60)), *["a line as long as this one weighs a lot more"] * 9]),
            "duplicate_line_chars",
        ),
        (
            "\n\n".join([*(f"{i} one\n{i} two\n{i} three\n{i} four" for i in range(6)), *["a\nb"] * 5]),
            "duplicate_paragraphs",
        ),
        (GOOD + " click here" * 90, "top_2_gram"),
    ],
)
def test_gopher_repetition_names_what_repeats(text, reason):
    assert repetition(text) == reason


def test_grams_are_counted_as_by_hand():
    grams = WordGrams(["the", "cat", "sat", "on", "the", "cat", "sat", "on", "the", "mat"])
    assert grams.top_chars(2) == 2 * len("the cat")  # of equally common ones the first
    assert grams.top_chars(3) == 2 * len("the cat sat")
    assert grams.top_chars(6) == len("the cat sat on the cat")  # each occurs once
    assert grams.duplicate_chars(4) == len("thecatsaton")
    assert grams.duplicate_chars(2) == len("thecat") + len("saton")
    assert WordGrams([]).duplicate_chars(5) == WordGrams([]).top_chars(2) == WordGrams([]).top_chars_bound(2) == 0


@pytest.mark.parametrize("seed", range(20))
def test_bounds_of_repetition_hold(seed):
    draw = random.Random(seed)
    grams = WordGrams([draw.choice(["a", "the", "longer", "riverbank"]) for _ in range(draw.randint(1, 200))])
    for n in (2, 3, 4):
        assert grams.top_chars_bound(n) >= grams.top_chars(n)
    for n in range(5, 11):
        assert grams.duplicate_chars_bound(5) >= grams.duplicate_chars(n)


def test_repetition_of_long_pages_takes_time_in_proportion():
    def measure(share: float) -> None:
        words = [f"w{i % 977}" for i in range(round(100_000 * share))]
        gopher_repetition(" ".join(words), words, GopherRepetitionSettings(max_duplicate_ngrams={10: 1.0}))

    assert_linear(measure)


def test_c4_cleans_lines_and_keeps_the_rest():
    lines = GOOD.split("\n\n")
    noise = [
        "Please enable JavaScript to read on.",
        "Read our privacy policy before you go.",
        "Menu",
        f"a b {'x' * 1001} c",
    ]
    verdict, cleaned = c4_quality(
        Text.of("\n\n".join([*noise, *lines[:-1], f"{lines[-1]}[12] [citation needed]"])), C4Settings()
    )
    assert verdict.reason is None
    assert cleaned == GOOD


def test_c4_passes_over_headings_and_code():
    code = "```\nx = {\n\n\n    1: 2}\n```"
    text = f"# Mill\n\n{GOOD}\n\n{code}\n\nTwo words\n- three whole words\n\nThe end of it."
    verdict, cleaned = c4_quality(Text.of(text), C4Settings())
    assert verdict.reason is None
    assert cleaned == f"# Mill\n\n{GOOD}\n\n{code}\n\n- three whole words\n\nThe end of it."
    unclosed = f"{GOOD}\n\n```\n\nfunction of x {{ return }}"
    assert c4_quality(Text.of(unclosed), C4Settings())[0].reason == "curly_bracket"


def test_c4_lets_no_citation_mark_stand_alone():
    assert c4_quality(Text.of(f"[1] [2] [3]\n\n{GOOD}"), C4Settings())[1] == GOOD


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (GOOD + "\n\nLorem ipsum dolor sit amet.", "lorem_ipsum"),
        (GOOD + "\n\nfunction() { return }", "curly_bracket"),
        ("One sentence only stands on this page.", "too_few_sentences"),
        ("", "too_few_sentences"),
    ],
)
def test_c4_drops_pages(text, reason):
    assert c4_quality(Text.of(text), C4Settings())[0].reason == reason


def test_lines_without_end_punctuation_go_only_when_asked():
    text = f"{GOOD}\n\nA headline without a full stop"
    assert "headline" in c4_quality(Text.of(text), C4Settings())[1]
    assert "headline" not in c4_quality(Text.of(text), C4Settings(terminal_punctuation=True))[1]


def test_headings_are_no_hash_tags():
    headings = "\n\n".join(f"## The part about {part}" for part in "abcdefghijklmnopqrstuvwxyz")
    assert quality(f"{GOOD}\n\n{headings}") is None
    assert quality(f"{GOOD}\n\n{headings.replace('# ', '#')}") == "hash_signs"


def test_empty_lines_are_no_lines():
    items = [f"- {line}" for line in prose(2, 30).split("\n\n")]
    assert quality("\n\n".join(items)) == "bullet_lines"
    few_words = FineWebSettings(min_punctuated_lines=0, max_short_lines=1)
    lines = [f"Some words in line {i}" for i in range(20)]  # one line end for 5 words
    assert fineweb_quality(Text.of("\n\n".join(lines)), few_words).reason is None


GERMAN = "Der Fluss fließt durch das Tal und die Mühle steht nicht mehr auf dem Berg bei den alten Häusern. " * 4


def test_stop_words_are_those_of_the_language():
    rules = GopherQualitySettings()
    assert gopher_quality(Text.of(GERMAN), rules, "de").reason is None
    assert gopher_quality(Text.of(GERMAN), rules, "en").reason == "few_stop_words"
    assert gopher_quality(Text.of(GOOD), rules, "de").reason == "few_stop_words"


def test_stop_words_are_not_asked_for_where_there_is_no_list():
    assert gopher_quality(Text.of("buy cheap shoes online today " * 12), GopherQualitySettings(), "zu").reason is None


def test_stop_words_of_your_own_count_for_every_language():
    rules = GopherQualitySettings(stop_words=["miller", "river"])
    assert gopher_quality(Text.of(GOOD), rules, "zh").reason is None
    assert gopher_quality(Text.of(GERMAN), rules, "de").reason == "few_stop_words"


def test_stop_words_of_english_are_gophers_and_each_list_is_long_enough():
    lists = stop_words_by_language()
    assert lists["en"] == {"the", "be", "to", "of", "and", "that", "have", "with"}
    assert len(lists) >= 20
    assert all(len(words) >= 6 for words in lists.values())


def test_sentences_are_counted_in_linear_time():
    assert count_sentences('He said: "Go." She went! Did he? Nobody knows') == 4
    assert count_sentences("") == 0
    assert_linear(lambda share: count_sentences("." * round(200_000 * share) + "x" + " ." * round(200_000 * share)))


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ([f"an entry of the menu number {i} without an end" for i in range(20)], "unpunctuated_lines"),
        ([f"Short one {i}." for i in range(20)], "short_lines"),
        (
            [
                *(f"A line of prose that says something, number {i}." for i in range(9)),
                *["This line is said twice."] * 4,
            ],
            "repeated_line_chars",
        ),
        ([f"Wordswordswordswordswordswords{i} x." for i in range(20)], "list_like"),
    ],
)
def test_fineweb_names_what_is_wrong(lines, reason):
    assert fineweb_quality(Text.of("\n".join(lines)), FineWebSettings()).reason == reason


def test_a_verdict_carries_what_was_measured():
    verdict = gopher_quality(Text.of("Too short."), GopherQualitySettings())
    assert verdict.dropped
    assert verdict.value == 2
