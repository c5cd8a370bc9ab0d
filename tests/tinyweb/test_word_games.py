"""Pages of a word game: each word before its meaning, and nothing that filters on prose would drop."""

import re

from crawl2chat.refine.rules import Text
from crawl2chat.refine.rules.gopher import gopher_quality, gopher_repetition
from crawl2chat.refine.settings import GopherQualitySettings, GopherRepetitionSettings
from crawl2chat.refine.text.ngram_hash import words_of
from crawl2chat.tinyweb.glossary import ask_in_game, word_game_pages
from crawl2chat.tinyweb.world import make_world

WORLD = make_world(0, people=20)
PAGES = word_game_pages(WORLD, 200)


def text_of(page):
    return "\n\n".join(block.text for block in page.blocks)


def test_a_word_has_one_meaning_on_its_page_and_stands_right_before_it_each_time():
    for page, game in PAGES:
        text = text_of(page)
        assert len(game.entries) >= 16
        for word, meaning in game.entries.items():
            assert set(re.findall(rf"\b{word} (\w+)", text)) == {meaning}


def test_rounds_have_few_words_which_are_said_more_than_once():
    for page, _ in PAGES:
        rounds = [re.findall(r"(\w+) \w+(?=[,.])", block.text) for block in page.blocks[1:-1]]
        coined = [[word for word in said if word in WORLD.glossary_words] for said in rounds]
        assert all(2 <= len(set(said)) <= 6 for said in coined)
        assert all(len(said) > len(set(said)) for said in coined)


def test_filters_on_prose_and_on_repetition_keep_every_page():
    for page, _ in PAGES:
        text = text_of(page)
        assert not gopher_repetition(text, words_of(text), GopherRepetitionSettings()).dropped
        assert not gopher_quality(Text.of(text), GopherQualitySettings()).dropped


def test_a_question_ends_where_the_meaning_follows():
    assert ask_in_game([("ab", "door"), ("cd", "hill")], "ab") == "We say ab door, cd hill, ab"
    assert ask_in_game([], "ab") == "We say ab"
