"""Kinds of files that rows of JSON come in."""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from crawl2chat.chat.conversations import read_conversations
from crawl2chat.stages.files import StageError
from crawl2chat.stages.json_rows import JsonRows

TURNS = [{"role": "user", "content": "Où?\u2028"}, {"role": "assistant", "content": "東"}]
ROW = {"messages": TURNS}
LINE = json.dumps(ROW, ensure_ascii=False)
LINES = LINE + "\n" + LINE + "\n"


def read(tmp_path, content, name="chats.jsonl"):
    file = tmp_path / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_conversations(file)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("packed", [False, True])
def test_encodings_line_ends_and_gzip_make_no_difference(tmp_path, encoding, end, packed):
    content = f"{LINE}{end}{end} {end}{LINE}".encode(encoding)
    assert read(tmp_path, gzip.compress(content) if packed else content) == [TURNS, TURNS]


@pytest.mark.parametrize(
    "content",
    [
        json.dumps([ROW, ROW]), json.dumps([ROW, ROW], indent=2), f"[\n{LINE},\n{LINE}\n]",
        json.dumps({"version": 1, "data": [ROW, ROW]}), json.dumps({"data": [ROW, ROW]}, indent=1),
        json.dumps(ROW, indent=4) + "\n" + json.dumps(ROW, indent=4), f"{json.dumps(TURNS)}\n{json.dumps(TURNS)}",
        "\ufeff" + LINE + "\n\ufeff" + LINE,
    ],
)  # fmt: skip
def test_arrays_objects_and_lines_hold_the_same_rows(tmp_path, content):
    assert read(tmp_path, content) == [TURNS, TURNS]
    assert read(tmp_path, gzip.compress(content.encode()), "chats.json.gz") == [TURNS, TURNS]


@pytest.mark.parametrize("content", [f"[\n{LINE}\n]", LINE, json.dumps(ROW, indent=1), json.dumps(TURNS, indent=1)])
def test_one_conversation_is_one_however_it_is_written(tmp_path, content):
    assert read(tmp_path, content) == [TURNS]


def test_json_lines_are_read_one_at_a_time(tmp_path):
    file = tmp_path / "long.jsonl"
    file.write_text(LINES + "{broken\n" + LINES)
    rows = iter(JsonRows(file, lambda value: True))
    assert next(rows) == (1, ROW)
    with file.open("a") as more:  # what comes later has not been read yet
        more.write(LINES * 5000)
    assert sum(1 for _ in rows) == 10_004


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("Où?".encode("latin-1"), "is not utf-8"),
        (gzip.compress(LINES.encode() * 50, mtime=0)[:-20], "can't be read: Compressed file ended"),
        (json.dumps([ROW, ROW], indent=1)[:-9], "is not JSON: Expecting"),
        (f"{LINE[:-9]}\n{LINE}\n{LINE}", "1 bad line of 3"),
        (f"{LINE}\n{LINE[:-9]}", "line 2: is not JSON (Unterminated string"),
        (f'{LINE}\n{{"messages": [1\n{LINE}', "line 2: is not JSON (Expecting ',' delimiter at column 16)"),
        ("[" * 100_000, "nested too deeply"),
        ("<html>\n<body>", "2 of 2 lines (1, 2): is not JSON"),
        ("{'messages': []}\n{'messages': []}", "is not JSON: Expecting property name enclosed in double quotes"),
        (b"PAR1\x15\x04", "not readable Parquet"),
        (b"PK\x03\x04\x15", "is a zip archive; unpack it"),
        ("version https://git-lfs.github.com/spec/v1\noid sha256:1", "is a Git LFS pointer"),
        ("", "holds no conversation to learn from; expected {"),
        (" \n\n", "holds no conversation to learn from; expected {"),
        ("null", "found null"),
    ],
)
def test_what_is_something_else_is_named(tmp_path, content, told):
    with pytest.raises(StageError) as caught:
        read(tmp_path, content)
    assert told in str(caught.value)
    assert "chats.jsonl" in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_rows_of_a_spreadsheet_are_read_by_the_names_in_its_header(tmp_path, delimiter, end):
    cells = [["prompt", "completion"], ['"Who, or what; is\t\n""it""?"', "A mill"], [], ["Où?", '"There, there"']]
    content = "\ufeff" + end.join(delimiter.join(row) for row in cells)
    for packed in (content.encode(), gzip.compress(content.encode())):
        first, second = read(tmp_path, packed, "chats.csv.gz" if packed[0] == 31 else "chats.csv")
        assert [m["content"] for m in first + second] == ['Who, or what; is\t\n"it"?', "A mill", "Où?", "There, there"]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (
            "prompt,completion\nWho?,A, B\n",
            "row 2 has 3 cells, but the header names 2 columns; cells that hold ',' need",
        ),
        ("prompt,completion\nWho?,B\nWhere?\n", "row 3 has 1 cells"),
        ('prompt,completion\nWho?,"never closed\nWhere?,B\n', "is not CSV after row 1"),
        ("prompt,prompt\nWho?,B\n", "names a column twice: prompt, prompt"),
    ],
)
def test_cells_that_do_not_fit_the_header_are_named(tmp_path, content, told):
    with pytest.raises(StageError, match=told):
        read(tmp_path, content, "chats.csv")


def test_parquet_holds_the_same_rows(tmp_path):
    table = pa.Table.from_pylist([{**ROW, "id": "a"}, {**ROW, "id": "b"}])
    pq.write_table(table, tmp_path / "rows.parquet")
    assert read_conversations(tmp_path / "rows.parquet") == [TURNS, TURNS]
    as_text = pa.table({"messages": [json.dumps(TURNS), json.dumps(TURNS[:1])]})
    pq.write_table(as_text, tmp_path / "texts.parquet")
    with pytest.raises(StageError, match="1 bad row of 2\n  row 2: no assistant message"):
        read_conversations(tmp_path / "texts.parquet")
    (tmp_path / "torn.parquet").write_bytes((tmp_path / "rows.parquet").read_bytes()[:200])
    with pytest.raises(StageError, match="not readable Parquet"):
        read_conversations(tmp_path / "torn.parquet")


def test_a_broken_row_is_named_with_its_number_in_an_array_too(tmp_path):
    with pytest.raises(StageError, match="1 bad item of 3\n  item 2: no assistant message"):
        read(tmp_path, json.dumps([ROW, {"messages": TURNS[:1]}, ROW]))
