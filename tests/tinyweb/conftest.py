from pathlib import Path

import pytest

from crawl2chat.tinyweb import Ledger, TinywebSettings, write_tinyweb

_SMALL = TinywebSettings(
    people=40,
    passage_levels=7,
    passages_per_level=3,
    glossaries=20,
    word_games=20,
    phrase_books=6,
    interviews=16,
    stories=30,
    verses=12,
    worked_sums=120,
    direct_sums=120,
    held_out_sums=60,
    junk_pages=120,
    personal_pages=20,
    strangers=10,
    looked_up=10,
)


@pytest.fixture(scope="session")
def small() -> TinywebSettings:
    return _SMALL


@pytest.fixture(scope="session")
def crawl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small fictional web of seed 1."""
    out = tmp_path_factory.mktemp("tinyweb")
    write_tinyweb(out, 1, _SMALL)
    return out


@pytest.fixture(scope="session")
def ledger(crawl: Path) -> Ledger:
    return Ledger.load(crawl)
