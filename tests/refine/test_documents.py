import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crawl2chat.refine import read_documents
from crawl2chat.refine.documents import Document, read_texts
from crawl2chat.stages.files import StageError
from crawl2chat.stages.text_files import HOW_TO_CONVERT


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
        ("a.jsonl.gz", b"nonsense", "not readable after line 0: Not a gzipped file"),
        (
            "a.jsonl.gz",
            gzip.compress(b'{"text": "a"}\n', mtime=0)[:-9],
            "not readable after line [01]: Compressed file ended",
        ),
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


FRENCH = "Le meunier était à la rivière.\n" * 50
BAD = 3 * 50  # letters of it that are a byte each in Windows-1252


def as_json_lines(*texts):
    return "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts)


def test_bytes_that_are_not_utf8_cost_a_character_each_and_are_counted_with_their_place(tmp_path, capsys):
    (tmp_path / "a.txt").write_bytes(FRENCH.encode("cp1252"))
    (tmp_path / "b.jsonl").write_bytes(as_json_lines("no accents").encode() + as_json_lines(FRENCH).encode("latin-1"))
    (tmp_path / "c.jsonl.gz").write_bytes(gzip.compress(as_json_lines("caf\u00e9").encode("latin-1")))
    (tmp_path / "d.txt").write_text("genuine \ufffd, and whole: é")
    texts = list(read_texts(tmp_path, label="tokenizer"))
    assert texts[0] == FRENCH.replace("é", "\ufffd").replace("à", "\ufffd").replace("è", "\ufffd")
    assert texts[1:] == ["no accents", texts[0], "caf\ufffd", "genuine \ufffd, and whole: é"]
    said = capsys.readouterr().err.splitlines()
    assert said == [
        f"tokenizer: a.txt: {BAD} bytes are not UTF-8 (first at byte 11) and became U+FFFD; {HOW_TO_CONVERT}",
        f"tokenizer: b.jsonl: {BAD} bytes are not UTF-8 (first at byte 23) and became U+FFFD; {HOW_TO_CONVERT}",
        f"tokenizer: c.jsonl.gz: 1 byte is not UTF-8 (first at byte 0) and became U+FFFD; {HOW_TO_CONVERT}",
    ]


def test_parquet_with_bytes_that_are_not_utf8_is_read_and_counted(tmp_path, capsys):
    pq.write_table(pa.table({"text": pa.array([b"one", "café".encode("latin-1")])}), tmp_path / "a.parquet")
    assert list(read_texts(tmp_path)) == ["one", "caf\ufffd"]
    assert "a.parquet: 1 byte is not UTF-8 (first at row 1)" in capsys.readouterr().err


def test_many_files_that_are_not_utf8_are_summed_up(tmp_path, capsys):
    for i in range(9):
        (tmp_path / f"{i}.txt").write_bytes(b"caf\xe9")
    list(read_texts(tmp_path))
    assert "4 more bytes in 4 other files are not UTF-8" in capsys.readouterr().err


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32", "utf-16-be with mark", "utf-32-be with mark"])
@pytest.mark.parametrize("name", ["a.txt", "a.TXT", "a.md", "a.txt.gz", "a.jsonl", "a.jsonl.gz"])
def test_a_byte_order_mark_says_the_encoding_and_is_no_part_of_the_text(tmp_path, capsys, name, encoding):
    text = "Straße\n東京 🙂"
    content = as_json_lines(text, text) if "jsonl" in name else text
    bare, marked = encoding.removesuffix(" with mark"), " with mark" in encoding
    encoded = ("\ufeff" * marked + content).encode(bare)
    (tmp_path / name).write_bytes(gzip.compress(encoded) if name.endswith(".gz") else encoded)
    assert list(read_texts(tmp_path / name)) == [text] * (2 if "jsonl" in name else 1)
    assert capsys.readouterr().err == ""


def test_marks_where_json_lines_were_joined_are_skipped(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(2 * as_json_lines("one").encode("utf-8-sig"))
    assert list(read_texts(tmp_path)) == ["one", "one"]


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.md"])
def test_binary_files_are_refused_and_utf16_without_a_mark_is_read(tmp_path, name):
    (tmp_path / name).write_bytes(bytes([1, 0, 0, 0, 2, 0, 0, 3]) * 40)
    with pytest.raises(StageError, match=rf"{name}.*of its first .* bytes are NUL.*iconv -f UTF-16LE"):
        list(read_documents(tmp_path))
    text = as_json_lines("plain English") if name == "a.jsonl" else "plain English"
    (tmp_path / name).write_bytes(text.encode("utf-16-le"))
    assert list(read_texts(tmp_path)) == ["plain English"]


def test_documents_without_a_text_are_left_out_and_counted(tmp_path, capsys):
    (tmp_path / "a.jsonl").write_text('{"text": null}\n{"text": "one"}\n{"text": ""}\n')
    pq.write_table(pa.table({"text": pa.array([None, "two", ""])}), tmp_path / "b.parquet")
    pq.write_table(pa.table({"text": pa.nulls(2)}), tmp_path / "c.parquet")
    (tmp_path / "d.txt").write_text("")
    assert [(d.id, d.text) for d in read_documents(tmp_path)] == [("a.jsonl:1", "one"), ("b.parquet:1", "two")]
    assert capsys.readouterr().err == "documents: 7 documents without a text were left out\n"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ('["first", "second"]', r'\["first", "second"\]'),
        ('{"body": "inside"}', r'\{"body": "inside"\}'),
        ("12.0", r"12\.0"),
        ("0", "0"),
        ("true", "true"),
        ("NaN", "NaN"),
    ],
)
def test_a_text_that_is_something_else_is_refused_with_its_line(tmp_path, value, shown):
    (tmp_path / "a.jsonl").write_text(f'{{"text": "one"}}\n\n{{"text": {value}}}\n')
    with pytest.raises(StageError, match=rf'a\.jsonl: line 3: "text" is {shown}; expected a string'):
        list(read_documents(tmp_path))


@pytest.mark.parametrize("line", ["[" * 100_000, '{"text": ' + "1" * 5000 + "}", "\x00", "{'text': 'a'}"])
def test_a_line_that_json_can_not_take_is_named(tmp_path, line):
    (tmp_path / "a.jsonl").write_text(f'{{"text": "one, which is longer than a few bytes"}}\n{line}\n')
    with pytest.raises(StageError, match=r"a\.jsonl: line 2: expected an object"):
        list(read_documents(tmp_path))


TEXT_TYPES = [
    pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary(), pa.binary_view(),
    pa.dictionary(pa.int32(), pa.string()),
]  # fmt: skip


@pytest.mark.parametrize("type_", TEXT_TYPES, ids=str)
def test_every_type_of_text_is_read_from_parquet(tmp_path, type_):
    pq.write_table(pa.table({"text": pa.array(["one", None, "zwölf"]).cast(type_)}), tmp_path / "a.parquet")
    assert list(read_texts(tmp_path)) == ["one", "zwölf"]


@pytest.mark.parametrize("values", [[1], [1.5], [True], [["one"]], [{"body": "one"}]], ids=str)
def test_a_column_of_something_else_is_refused(tmp_path, values):
    pq.write_table(pa.table({"text": values}), tmp_path / "a.parquet")
    with pytest.raises(StageError, match=r"a\.parquet: its column `text` is of type .*; expected string"):
        list(read_documents(tmp_path))


def test_markdown_is_text_but_a_data_sets_card_is_not(tmp_path):
    (tmp_path / "faq.md").write_text("# Questions")
    assert (
        list(read_documents(tmp_path))
        == list(read_documents(tmp_path / "faq.md"))
        == [Document("faq.md", "# Questions")]
    )
    (tmp_path / "a.jsonl").write_text('{"text": "one"}\n')
    assert list(read_texts(tmp_path)) == ["one"]


def test_halves_of_surrogate_pairs_in_json_are_no_characters(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "a\\ud83d b \\ud83d\\ude42"}\n')
    assert list(read_texts(tmp_path)) == ["a? b 🙂"]
