import gzip

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crawl2chat.refine import read_documents
from crawl2chat.refine.documents import Document, read_texts
from crawl2chat.run import StageError


def test_parquet_json_lines_and_text_files_are_documents(tmp_path):
    first = {"text": ["one", "two"], "id": ["x", "y"], "url": ["u", None], "language": [None, "en"]}
    pq.write_table(pa.table(first), tmp_path / "a.parquet")
    pq.write_table(pa.table({"text": ["three"], "other": [1]}), tmp_path / "b.parquet")
    (tmp_path / "c.jsonl").write_text('{"text": "four"}\n\n{"text": "five", "id": 7, "language": "de"}\n')
    (tmp_path / "d.jsonl.gz").write_bytes(gzip.compress(b'{"text": "six"}\n'))
    (tmp_path / "e.txt").write_text("seven\nlines")
    (tmp_path / ".hidden.txt").write_text("no")
    assert list(read_documents(tmp_path)) == [
        Document("x", "one", "u"),
        Document("y", "two", "", "en"),
        Document("b.parquet:0", "three"),
        Document("c.jsonl:0", "four"),
        Document("7", "five", "", "de"),
        Document("d.jsonl.gz:0", "six"),
        Document("e.txt", "seven\nlines"),
    ]
    assert list(read_texts(tmp_path / "b.parquet")) == ["three"]


def test_a_folder_that_is_named_like_a_file_is_looked_into(tmp_path):
    (tmp_path / "pages.parquet").mkdir()
    pq.write_table(pa.table({"text": ["one"]}), tmp_path / "pages.parquet" / "part-0.parquet")
    assert list(read_documents(tmp_path)) == [Document("pages.parquet/part-0.parquet:0", "one")]
    assert list(read_texts(tmp_path / "pages.parquet")) == ["one"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.parquet", b"nonsense", "not readable Parquet"),
        ("a.jsonl", b"[1]\n", r'line 1: expected an object with "text"'),
        ("a.jsonl", b'{"txt": "a"}\n', r'line 1: expected an object with "text"'),
        ("a.jsonl.gz", b"nonsense", "not readable behind line 0: Not a gzipped file"),
        ("a.jsonl.gz", gzip.compress(b'{"text": "a"}\n')[:-9], "not readable behind line [01]: Compressed file ended"),
        ("a.doc", b"", "no documents here|not a file of documents"),
    ],
)
def test_files_without_texts_are_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    for place in (tmp_path, tmp_path / name):
        with pytest.raises(StageError, match=message):
            list(read_documents(place))


def test_parquet_without_a_text_column_says_which_it_has(tmp_path):
    pq.write_table(pa.table({"body": ["one"]}), tmp_path / "a.parquet")
    with pytest.raises(StageError, match="no column `text`; it has body"):
        list(read_documents(tmp_path))


def test_bytes_that_are_not_utf8_cost_a_character_in_json_lines_as_in_text_files(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "caf\xe9"}\n')
    (tmp_path / "b.txt").write_bytes(b"caf\xe9")
    assert [document.text for document in read_documents(tmp_path)] == ["caf\ufffd", "caf\ufffd"]
