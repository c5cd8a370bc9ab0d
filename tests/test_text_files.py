"""Text files as editors on Windows write them: every reader skips byte order marks and names what is not UTF-8."""

import gzip
import io
import sys

import pytest

from crawl2chat.chat.line_input import LineInput
from crawl2chat.cli.arguments import read_stdin
from crawl2chat.cli.release import _read_statement
from crawl2chat.evals.suites.rows import json_lines
from crawl2chat.refine.quality.classify import read_labels, read_training_texts
from crawl2chat.refine.rules.decontaminate import read_questions
from crawl2chat.refine.rules.urls import load_blocklists
from crawl2chat.release.card_data import stated_licence
from crawl2chat.stages.files import StageError
from crawl2chat.stages.pipeline import Recipe
from crawl2chat.stages.settings import RecipeError, load_settings
from crawl2chat.stages.text_files import NotText, decode, open_utf8, read_text

ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-32"]
# a name of a file, what is in it, how it is read, and what is read
READERS = {
    "recipe": ("a.toml", '# Grüße\nuntil = "crawl"\n', lambda file: load_settings(Recipe, file).until, "crawl"),
    "blocklist": ("a.txt", "grüße.example\n", lambda file: load_blocklists((str(file),)), {"grüße.example"}),
    "rows": ("a.jsonl", '{"question": "Grüße?"}\n', json_lines, [{"question": "Grüße?"}]),
    "test questions": ("a.txt", "Grüße?\n", lambda file: list(read_questions(file, ["q"])), [(1, "Grüße?")]),
    "test questions as JSON lines": (
        "a.jsonl", '{"q": "Grüße?"}\n', lambda file: list(read_questions(file, ["q"])), [(1, "Grüße?")]
    ),
    "test questions as JSON": (
        "a.json", '[{"q": "Grüße?"}]', lambda file: list(read_questions(file, ["q"])), [(1, "Grüße?")]
    ),
    "labels": (
        "a.jsonl", '{"score": 4, "text": "Grüße"}\n', lambda file: read_labels([file], 3), (["Grüße"], [])
    ),
    "a classifier's paragraphs": (
        "a.txt", "Grüße\nzwei\n\ndrei\n",
        lambda file: list(read_training_texts([file], "")), ["Grüße\nzwei\n", "drei\n"],
    ),
    "data statement": ("a.md", "Grüße\r\n", _read_statement, "Grüße\n"),
}  # fmt: skip


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("reader", READERS)
def test_every_reader_takes_files_with_a_byte_order_mark(tmp_path, reader, encoding):
    name, content, read, expected = READERS[reader]
    (tmp_path / name).write_text(content, encoding=encoding, newline="")
    assert read(tmp_path / name) == expected


@pytest.mark.parametrize("reader", sorted(set(READERS) - {"a classifier's paragraphs"}))
def test_every_reader_refuses_what_is_not_utf8_and_says_how_to_convert_it(tmp_path, reader):
    name, content, read, _ = READERS[reader]
    (tmp_path / name).write_text(content, encoding="cp1252")
    with pytest.raises((StageError, RecipeError), match=rf"{name}.* bytes are not UTF-8 \(first at byte .*iconv -f"):
        read(tmp_path / name)


def test_a_classifiers_text_that_is_not_utf8_is_counted(tmp_path, capsys):
    (tmp_path / "a.txt").write_text("Grüße\n\nGrüße\n", encoding="cp1252")
    assert list(read_training_texts([tmp_path / "a.txt"], "")) == ["Gr\ufffd\ufffde\n"] * 2
    assert "a.txt: 4 bytes are not UTF-8 (first at byte 2) and became U+FFFD" in capsys.readouterr().err


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_prompt_from_stdin_has_no_byte_order_mark(monkeypatch, encoding):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("Grüße\n".encode(encoding))))
    assert read_stdin("generate") == "Grüße"


def test_a_message_from_a_pipe_has_no_byte_order_mark(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("Grüße\nzwei\n".encode("utf-8-sig"))))
    messages = LineInput()
    assert [messages.message().text, messages.message().text] == ["Grüße", "zwei"]


def test_a_cards_licence_is_read_behind_a_byte_order_mark(tmp_path):
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n", encoding="utf-8-sig")
    assert stated_licence([tmp_path])["license"] == "mit"


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("compressed", [False, True])
def test_marks_and_line_ends_are_no_part_of_a_text(tmp_path, encoding, compressed):
    content = "one 東京\r\ntwo\rthree\n".encode(encoding)
    file = tmp_path / ("a.txt.gz" if compressed else "a.txt")
    file.write_bytes(gzip.compress(content) if compressed else content)
    assert read_text(file) == "one 東京\ntwo\nthree\n"
    with open_utf8(file) as stream:
        assert stream.read() == "one 東京\r\ntwo\rthree\n".encode()


def test_a_mark_within_is_left_of_joined_files_and_goes(tmp_path):
    (tmp_path / "a.jsonl").write_bytes("1\n".encode("utf-8-sig") * 2)
    assert read_text(tmp_path / "a.jsonl") == "1\n1\n"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("é".encode("latin-1"), r"^1 byte is not UTF-8 \(first at byte 0\)"),
        (b"abc\xff\xfe", r"^2 bytes are not UTF-8 \(first at byte 3\)"),
        ("東京".encode("shift_jis"), r"bytes are not UTF-8"),
        ("東L".encode("utf-16-be") + bytes(9), r"10 of its first 13 bytes are NUL.*UTF-16 without"),
        (b"\0L\0e\0\7" * 9, r"27 of its first 54 bytes are NUL"),
        (b"\xff\xfea", r"begins with the byte order mark of UTF-16, but is not UTF-16: truncated data at byte 2"),
    ],
)
def test_what_is_no_text_is_described(content, told):
    with pytest.raises(NotText, match=told):
        decode(content)


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_without_a_mark_a_text_is_known_by_the_nul_bytes_next_to_its_first_letter(tmp_path, encoding):
    for text in ("a", "Grüße, 東京 🙂\n" * 900):
        (tmp_path / "a.txt").write_bytes(text.encode(encoding))
        assert read_text(tmp_path / "a.txt") == decode(text.encode(encoding)) == text


def test_gzip_is_known_by_its_first_bytes_whatever_the_name(tmp_path):
    (tmp_path / "a.txt").write_bytes(gzip.compress("Grüße\n".encode()))
    assert read_text(tmp_path / "a.txt") == "Grüße\n"


def test_an_empty_file_is_an_empty_text(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"")
    assert read_text(tmp_path / "a.txt") == decode(b"") == decode("\ufeff".encode()) == ""
