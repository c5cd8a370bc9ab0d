import json
import sqlite3
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crawl2chat.refine.documents import Document
from crawl2chat.search import Passage, SearchIndex, build_index, index, open_index
from crawl2chat.search.passages import MAX_BYTES, passages_of, title_of, words_of
from crawl2chat.stages.files import StageError

DOCUMENTS = [
    Document("1", "Errors\nError E04 means that the paper is out.\nError E11 means that the door is open.", "https://a.example/errors"),
    Document("2", "Die Mühle am Fluss\nZoë Vulbar besitzt die Mühle.", "https://b.example/y"),
    Document("3", "東京の天気\n東京は今日晴れです。大阪は雨です。", "https://c.example/z"),
    Document("4", "हिन्दी पाठ\nनदी के किनारे एक चक्की है।", title="Hindi"),
]  # fmt: skip


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    file = tmp_path_factory.mktemp("index") / "passages.sqlite"
    build_index(DOCUMENTS, file)
    return SearchIndex(file)


@pytest.mark.parametrize(
    ("query", "page"),
    [
        ("What does error E04 mean?", 1), ("muhle", 2), ("MÜHLE?", 2), ("Who is Vulbar?", 2), ("大阪", 3),
        ("今日の天気", 3),
        ("चक्की", 4), ("e\u0301rrors door", 1),
    ],
)  # fmt: skip
def test_words_of_any_script_find_their_page(built, query, page):
    assert built.best(query, 1)[0].page == page


def test_a_passage_has_its_title_and_address(built):
    (found,) = built.best("paper", 1)
    assert (found.title, found.address) == ("Errors", "https://a.example/errors")
    assert built.best("Hindi", 1)[0].address == "4"  # its id, where it has no address


def test_nothing_is_found_about_a_name_that_is_on_no_page(built):
    assert built.best("Who is Orson Kovats?", 3) == []
    assert built.best("Who is Orson Vulbar?", 3)[0].page == 2
    assert built.best("", 3) == built.best("?!", 3) == []


@given(query=st.text(max_size=40))
def test_no_query_is_an_error(built, query):
    built.best(query, 3)


@pytest.mark.parametrize(
    "query", ['"', "a OR b", "NEAR(a b)", "title:mill", "mill*", "-mill", "') --", "\0", "x " * 9999]
)
def test_what_looks_like_an_operator_is_words(built, query):
    built.best(query, 3)


def test_threads_search_at_the_same_time_and_nothing_can_be_written(built):
    found = []
    threads = [threading.Thread(target=lambda: found.append(built.best("error paper", 1))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [passages[0].page for passages in found] == [1] * 8
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        built.database.execute("DELETE FROM passages")


def test_an_index_is_kept_and_made_again_when_documents_change(tmp_path, monkeypatch):
    file = tmp_path / "docs" / "a.jsonl"
    file.parent.mkdir()
    file.write_text(json.dumps({"text": "The mill is closed.", "url": "u", "title": "Hours"}))
    assert open_index(file.parent).best("mill", 1)[0].title == "Hours"
    made = []
    monkeypatch.setattr(index, "build_index", lambda *a, **k: made.append(1) or build_index(*a, **k))
    assert open_index(file.parent).best("mill", 1)
    assert not made
    file.write_text(json.dumps({"text": "The bakery is open."}))
    assert open_index(file.parent).best("mill", 1) == []
    assert open_index(file.parent).best("bakery", 1)
    assert len(made) == 1
    (file.parent / index.KEPT).write_bytes(b"no database")
    assert open_index(file.parent).best("bakery", 1)


def test_where_nothing_can_be_written_the_index_lasts_as_long_as_it_is_used(tmp_path, monkeypatch, capsys):
    (tmp_path / "a.txt").write_text("The mill is closed.")

    def refuse(documents, file, **options):
        if file.parent == tmp_path:
            raise PermissionError(13, "Permission denied", str(file))
        return build_index(documents, file, **options)

    monkeypatch.setattr(index, "build_index", refuse)
    assert open_index(tmp_path).best("mill", 1)
    assert "the index is not kept" in capsys.readouterr().err


@given(text=st.text(max_size=3000))
def test_passages_hold_all_words_and_no_more_than_their_length(text):
    found = list(passages_of(text, 200))
    assert all(0 < len(passage.encode(errors="replace")) <= 200 for passage in found)
    assert "".join("".join(found).split()) == "".join("".join(line.strip() for line in text.split("\n")).split())


def test_a_heading_stays_with_what_it_is_about():
    lines = [f"This is sentence number {i} of a long text about mills." for i in range(20)]
    text = "\n".join([*lines[:12], "Error E11", *lines[12:]])
    holding = next(passage for passage in passages_of(text) if "Error E11" in passage)
    assert holding.startswith("Error E11\n")
    assert len(holding.encode()) <= MAX_BYTES


def test_a_title_is_the_documents_own_or_a_first_line_that_is_no_sentence():
    assert title_of("", "# Opening hours\nWe open at nine.") == "Opening hours"
    assert title_of("Hours", "# Opening hours") == "Hours"
    assert title_of("", "We open at nine.\nMore.") == ""


def test_words_without_spaces_are_pairs_of_characters():
    assert words_of("東京は晴れ, ok") == ["東 京", "京 は", "は 晴", "晴 れ", "ok"]


def test_passages_are_equal_by_page_and_text():
    assert Passage(1, "x", "title") == Passage(1, "x")


def test_ranks_are_fused_by_their_reciprocals():
    assert index.fuse([[1, 2, 3], [3, 4, 1]]) == [1, 3, 2, 4]


def test_embeddings_from_a_folder_rank_next_to_words(tmp_path):
    model2vec = pytest.importorskip("model2vec", reason="the extra `search`")
    import numpy as np
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace

    words = ["[UNK]", "car", "automobile", "red", "river", "wide", "the", "is"]
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    meanings = np.eye(8, dtype=np.float32)
    meanings[2] = meanings[1]  # a car is an automobile
    model2vec.StaticModel(meanings, tokenizer).save_pretrained(str(tmp_path / "vectors"))
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.txt").write_text("the car is red")
    (tmp_path / "docs" / "b.txt").write_text("the river is wide")
    assert open_index(tmp_path / "docs").best("automobile", 1) == []
    (found,) = open_index(tmp_path / "docs", tmp_path / "vectors").best("automobile", 1)
    assert found.text == "the car is red"
    with pytest.raises(StageError, match="no embeddings here"):
        open_index(tmp_path / "docs", tmp_path / "docs")


def test_an_index_that_is_not_kept_leaves_no_file_and_one_that_is_there_is_taken(tmp_path, monkeypatch):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.txt").write_text("the car is red")
    found = open_index(tmp_path / "docs", keep=False)
    assert found.best("car", 1)[0].text == "the car is red"
    assert [file.name for file in (tmp_path / "docs").iterdir()] == ["a.txt"]
    kept = open_index(tmp_path / "docs")
    monkeypatch.setattr(index, "build_index", lambda *_, **__: pytest.fail("it was built again"))
    assert open_index(tmp_path / "docs", keep=False).file == kept.file
