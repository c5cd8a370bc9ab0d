import time

import pytest
from warcs import prose

from crawl2chat.refine.quality import Text, c4, count_sentences, fineweb, gopher_quality
from crawl2chat.refine.repetition import WordGrams, gopher_repetition
from crawl2chat.refine.settings import C4Settings, FineWebSettings, GopherQualitySettings, GopherRepetitionSettings

GOOD = prose(1, 24)


def quality(text: str) -> str | None:
    return gopher_quality(Text.of(text), GopherQualitySettings()).reason


def repetition(text: str) -> str | None:
    return gopher_repetition(text, text.split(), GopherRepetitionSettings()).reason


def test_prose_passes_every_rule_and_keeps_its_words():
    assert quality(GOOD) is None
    assert repetition(GOOD) is None
    verdict, cleaned = c4(Text.of(GOOD), C4Settings())
    assert verdict.reason is None
    assert cleaned.split() == GOOD.split()
    assert fineweb(Text.of(cleaned), FineWebSettings()).reason is None


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
    assert grams.top_chars(6) == 0
    assert grams.duplicate_chars(4) == len("thecatsaton")
    assert grams.duplicate_chars(2) == len("thecat") + len("saton")
    assert WordGrams([]).duplicate_chars(5) == 0


def test_repetition_of_long_pages_takes_time_in_proportion():
    words = [f"w{i % 977}" for i in range(100_000)]
    began = time.process_time()
    gopher_repetition(" ".join(words), words, GopherRepetitionSettings(max_duplicate_ngrams={10: 1.0}))
    assert time.process_time() - began < 2


def test_c4_cleans_lines_and_keeps_the_rest():
    lines = GOOD.split("\n\n")
    noise = [
        "Please enable JavaScript to read on.",
        "Read our privacy policy before you go.",
        "Menu",
        f"a b {'x' * 1001} c",
    ]
    verdict, cleaned = c4(
        Text.of("\n\n".join([*noise, *lines[:-1], f"{lines[-1]}[12] [citation needed]"])), C4Settings()
    )
    assert verdict.reason is None
    assert cleaned == "\n".join(lines)


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
    assert c4(Text.of(text), C4Settings())[0].reason == reason


def test_lines_without_end_punctuation_go_only_when_asked():
    text = f"{GOOD}\n\nA headline without a full stop"
    assert "headline" in c4(Text.of(text), C4Settings())[1]
    assert "headline" not in c4(Text.of(text), C4Settings(terminal_punctuation=True))[1]


def test_sentences_are_counted_in_linear_time():
    assert count_sentences('He said: "Go." She went! Did he? Nobody knows') == 4
    assert count_sentences("") == 0
    began = time.process_time()
    count_sentences("." * 200_000 + "x" + " ." * 200_000)
    assert time.process_time() - began < 1


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
    assert fineweb(Text.of("\n".join(lines)), FineWebSettings()).reason == reason


def test_a_verdict_carries_what_was_measured():
    verdict = gopher_quality(Text.of("Too short."), GopherQualitySettings())
    assert verdict.dropped
    assert verdict.value == 2
