"""In-context learning: pages whose words mean what they say there alone, and their controls."""

import pytest
from subjects import Parrot, make_subject

from crawl2chat.evals.base.in_context import SHOTS, glossary_cases, meaning_on_page, measure_in_context, phrase_cases
from crawl2chat.tinyweb.glossary import ask_in_game, ask_in_sentences
from crawl2chat.tinyweb.ledger import Glossary, Ledger, PhraseBook, Translation
from crawl2chat.tinyweb.words import NOUNS

WORDS = [f"w{i}x" for i in range(20)]
MEANINGS = [f"m{i}x" for i in range(20)]
DICTIONARY = {"the": "ol", "and": "ku"} | {noun: f"x{noun}" for noun in NOUNS[:6]}
PHRASES = {f"the {noun}": f"ol x{noun}" for noun in NOUNS[:6]} | {f"the {NOUNS[0]} and the {NOUNS[1]}": "seen"}
LEDGER = Ledger(
    people=[], passages=[], glossaries=[Glossary("", dict(zip(WORDS, MEANINGS, strict=True)))],
    phrase_books=[PhraseBook("", "Nomish", PHRASES)],
    dictionary=[Translation(*entry) for entry in DICTIONARY.items()],
    stories=[], verses=[], problems=[], leaked_questions=[], pages=[],
)  # fmt: skip


@pytest.mark.parametrize("ask", [ask_in_game, ask_in_sentences])
def test_the_answer_stands_on_the_page_behind_the_word_that_is_asked_for(ask):
    for case in glossary_cases(LEDGER, ask, 8, 30, 0):
        word = case.prompt.split()[-1] if ask is ask_in_game else case.prompt.split()[-2]
        between = " " if ask is ask_in_game else " means "
        assert f"{word}{between}{case.answer}" in case.prompt
        assert case.prompt.count(" w") + case.prompt.startswith("w") >= 9


def test_an_absent_word_and_its_meaning_stand_nowhere_on_the_page():
    for case in glossary_cases(LEDGER, ask_in_game, 8, 30, 0, absent=True):
        word = case.prompt.split()[-1]
        assert case.prompt.split().count(word) == 1
        assert case.answer not in case.prompt


def test_shuffled_pages_tell_another_meaning_and_remember_the_one_before():
    plain = glossary_cases(LEDGER, ask_in_game, 4, 30, 0)
    shuffled = glossary_cases(LEDGER, ask_in_game, 4, 30, 0, shuffled=True)
    for before, after in zip(plain, shuffled, strict=True):
        assert after.other == before.answer != after.answer
        assert f"{after.prompt.split()[-1]} {after.answer}" in after.prompt


def test_a_phrase_is_asked_that_no_book_holds_and_translated_word_for_word():
    for case in phrase_cases(LEDGER, 4, 60, 0):
        *lines, last = case.prompt.split("\n")
        phrase = last.removesuffix(" =")
        assert len(lines) == 4
        assert phrase not in PHRASES
        assert case.answer == " ".join(DICTIONARY[word] for word in phrase.split())
    assert phrase_cases(LEDGER, 0, 5, 0)[0].prompt.endswith(" =")


def test_shuffled_lines_have_another_ones_translation():
    for case in phrase_cases(LEDGER, 4, 30, 0, shuffled=True):
        pairs = [line.split(" = ") for line in case.prompt.split("\n")[:-1]]
        assert all(PHRASES[english] != foreign for english, foreign in pairs)


def test_a_reader_of_the_page_has_all_right_but_where_nothing_tells(tokenizer, tmp_path):
    def read(prompt):
        words = prompt.replace(",", " ").replace(".", " ").split()
        asked, step = (words[-2], 2) if words[-1] == "means" else (words[-1], 1)
        places = [i for i, word in enumerate(words[: -step - 1]) if word == asked and words[i + 1] != "mean"]
        return f" {words[places[0] + step]}, and" if places else " nothing"

    subject = make_subject(tokenizer, tmp_path, engine=Parrot(tokenizer, read), ledger=LEDGER, questions=30)
    figures = {f.name: f.value for f in measure_in_context(subject)}
    for name in ("glossary", "definitions"):
        assert figures[f"{name}/8"] == figures[f"{name}/16"] == 1
        assert figures[f"{name}_absent/8"] == 0
        assert figures[f"{name}/0"] == 0
    assert figures["glossary_shuffled/8"] == 0
    assert figures["glossary_follows/8"] == 1
    assert {f"phrase_book/{shots}" for shots in SHOTS} <= set(figures)


def test_a_web_without_glossaries_has_no_such_figures(tokenizer, tmp_path):
    assert measure_in_context(make_subject(tokenizer, tmp_path)) == []


@pytest.mark.parametrize("ask", [ask_in_game, ask_in_sentences])
def test_what_a_page_says_of_its_word_can_be_read_from_it(ask):
    for shots in (1, 4):
        for case in glossary_cases(LEDGER, ask, shots, 20, 0):
            assert meaning_on_page(case.prompt) == case.answer
        for case in glossary_cases(LEDGER, ask, shots, 20, 0, absent=True):
            assert meaning_on_page(case.prompt) is None
    for case in glossary_cases(LEDGER, ask, 4, 20, 0, shuffled=True):
        assert meaning_on_page(case.prompt) == case.answer != case.other
    assert meaning_on_page(ask([], "ab")) is None
    assert meaning_on_page("") is meaning_on_page("means") is None


def test_of_several_meanings_the_last_one_counts():
    assert meaning_on_page("We say ab door, cd hill, ab mill, ab") == "mill"
