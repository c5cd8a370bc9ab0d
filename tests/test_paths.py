"""Public functions take a file or folder as str, as Path, or as any other PathLike."""

import json
from pathlib import Path

import pytest
from models import random_model

from crawl2chat.chat.conversations import read_conversations, write_conversations
from crawl2chat.crawl import list_warcs, read_warc
from crawl2chat.crawl.settings import CrawlSettings
from crawl2chat.generate import Engine, Sampling
from crawl2chat.honesty.search import SearchIndex, build_index
from crawl2chat.model import load_model, save_model
from crawl2chat.refine import read_documents, read_texts
from crawl2chat.refine.settings import RefineSettings
from crawl2chat.refine.stage import refine
from crawl2chat.report import read_run, write_report
from crawl2chat.rl.preferences.store import RankingStore
from crawl2chat.stages.pipeline import Recipe, run_pipeline
from crawl2chat.stages.settings import load_settings
from crawl2chat.stages.stage import read_manifest
from crawl2chat.tinyweb.write import crawl
from crawl2chat.tokenizer import Tokenizer
from crawl2chat.tokenizer.shards import TokenizedDocuments, write_tokens
from crawl2chat.tokenizer.stage import TokenizerSettings, train_tokenizer

FEW_PAGES = {
    "people": 10, "passages_per_level": 1, "passage_levels": 1, "glossaries": 1, "word_games": 1, "phrase_books": 1,
    "interviews": 1, "stories": 2, "verses": 3, "worked_sums": 6, "direct_sums": 6, "held_out_sums": 6,
    "junk_pages": 12, "personal_pages": 1,
}  # fmt: skip


class Elsewhere:
    """A PathLike of somebody else's, such as a library's own path class."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __fspath__(self) -> str:
        return self.path


@pytest.fixture(params=[str, Path, Elsewhere])
def kind(request):
    return request.param


def test_the_calls_of_the_readme(kind, tokenizer, tmp_path):
    save_model(random_model("tied", tokenizer.vocab_size), kind(tmp_path / "sft"), stop_ids=[1], pad_id=0)
    tokenizer.save(kind(tmp_path / "sft"))
    engine = Engine(load_model(kind(tmp_path / "sft")), Tokenizer.load(kind(tmp_path / "sft")))
    prompt, _ = engine.tokenizer.encode_chat([{"role": "user", "content": "Hi."}], add_generation_prompt=True)
    assert engine.generate([prompt], Sampling(max_tokens=2))[0].ids


def test_the_first_stages_and_what_reads_them(kind, tmp_path):
    settings = CrawlSettings.model_validate({"tinyweb": FEW_PAGES})
    crawl(kind(tmp_path / "crawl"), settings)
    warcs = list_warcs(kind(tmp_path / "crawl"))
    assert next(iter(read_warc(kind(Path(warcs[0])))))
    refine(kind(tmp_path / "crawl"), kind(tmp_path / "refine"), RefineSettings(workers=1))
    documents = list(read_documents(kind(tmp_path / "refine")))
    assert documents
    assert len(list(read_texts(kind(tmp_path / "refine")))) == len(documents)
    train_tokenizer(kind(tmp_path / "refine"), kind(tmp_path / "tokenizer"), TokenizerSettings(vocab_size=300))
    tokenizer = Tokenizer.load(kind(tmp_path / "tokenizer" / "tokenizer.json"))
    write_tokens(["A mill."], tokenizer, kind(tmp_path / "tokens"))
    assert len(TokenizedDocuments.load(kind(tmp_path / "tokens"))) == 1
    assert build_index(documents, kind(tmp_path / "index.sqlite"))
    SearchIndex(kind(tmp_path / "index.sqlite"))


def test_runs_reports_and_files_of_people(kind, tmp_path):
    recipe = tmp_path / "tiny.toml"
    recipe.write_text("until = 'crawl'\n[crawl.tinyweb]\n" + "\n".join(f"{k} = {v}" for k, v in FEW_PAGES.items()))
    list(run_pipeline(load_settings(Recipe, kind(recipe)), kind(tmp_path / "run")))
    assert read_manifest(kind(tmp_path / "run" / "crawl"))
    assert len(read_run(kind(tmp_path / "run"))) == 1
    assert write_report(kind(tmp_path / "run")).is_file()
    (tmp_path / "chats.jsonl").write_text(
        json.dumps({"messages": [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hello."}]})
    )
    conversations = read_conversations(kind(tmp_path / "chats.jsonl"))
    write_conversations(conversations, kind(tmp_path / "again.jsonl"))
    assert read_conversations(kind(tmp_path / "again.jsonl")) == conversations
    RankingStore(kind(tmp_path / "rankings.sqlite")).save(kind(tmp_path / "copy.sqlite"))
