import gc
import os

import pytest
from hypothesis import HealthCheck, settings

from crawl2chat.tinyweb import TinywebSettings, write_tinyweb
from crawl2chat.tinyweb.ledger import Ledger
from crawl2chat.tokenizer import Tokenizer
from crawl2chat.tokenizer.stage import train_bpe

# Property tests try the same examples every time, so that a run of the tests says something about the change that was
# made. `make explore` tries new ones; what it finds becomes an @example of the test.
settings.register_profile(
    "fixed", derandomize=True, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("explore", deadline=None, max_examples=2000, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))

PROSE = [
    "The miller's daughter went down to the river at dawn; nobody had told her that the bridge was gone.",
    "In 1842 they counted 17 mills, 3 bridges and one inn. By 1850 there were 23 mills.",
    "„Straße“ und café: naïve words, 東京, emoji 🙂 and tabs\tand\n\nempty lines.",
] * 4

SMALL_WORLD = TinywebSettings(
    people=20, passages_per_level=1, passage_levels=3, glossaries=4, word_games=4, phrase_books=2, interviews=2,
    stories=8, verses=6, worked_sums=40, direct_sums=40, held_out_sums=30, junk_pages=12, personal_pages=2,
    strangers=10, looked_up=10,
)  # fmt: skip


@pytest.fixture(scope="session")
def crawl_folder(tmp_path_factory):
    """A small fictional web, as the crawl stage leaves it."""
    folder = tmp_path_factory.mktemp("web")
    write_tinyweb(folder, 3, SMALL_WORLD)
    return folder


@pytest.fixture(scope="session")
def ledger(crawl_folder) -> Ledger:
    return Ledger.load(crawl_folder)


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return train_bpe(PROSE, vocab_size=420)


@pytest.fixture
def frozen_heap():
    """Python's garbage collector passes over what earlier tests left: to walk it takes seconds of whoever is timed."""
    gc.freeze()
    yield
    gc.unfreeze()
