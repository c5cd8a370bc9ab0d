"""The file of questions: what is read, and how a bad row is named."""

import json

import pytest

from crawl2chat.evals.questions import QuestionRow, of_split, read_questions, write_questions
from crawl2chat.stages.files import StageError

GOOD = {"wordings": ["Where was Ada born?"], "answers": ["Telm"], "group": "often", "split": "probe"}


def write(tmp_path, *rows):
    file = tmp_path / "questions.jsonl"
    file.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return file


def test_what_is_written_is_read(tmp_path):
    rows = [
        QuestionRow(("Where?", "In which town?"), ("Telm", "Old Telm"), "1", "train", "http://a.example/x"),
        QuestionRow(("Who is Nobody?",), (), "nobody", "held_out", shown=True),
        QuestionRow(("Tell me a story.",), ("Ada",), "story", "held_out", check="story"),
    ]
    write_questions(rows, tmp_path / "questions.jsonl")
    assert read_questions(tmp_path / "questions.jsonl") == rows
    assert of_split(rows, "held_out") == [rows[1]]
    assert of_split(rows, "held_out", check="story") == [rows[2]]


def test_a_group_may_be_a_number_or_missing(tmp_path):
    without = {name: value for name, value in GOOD.items() if name != "group"}
    rows = read_questions(write(tmp_path, GOOD | {"group": 3}, without))
    assert [row.group for row in rows] == ["3", "questions"]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ("{", "is not JSON"),
        ("[]", "expected {"),
        ({"question": "Where?", "answer": "Telm"}, "has no wordings, answers, split but question, answer"),
        (GOOD | {"wordings": []}, '"wordings" is empty'),
        (GOOD | {"answers": "Telm"}, "expected a list of texts"),
        (GOOD | {"answers": [1815]}, "expected a list of texts"),
        (GOOD | {"split": "test"}, "expected train or probe or held_out"),
        (GOOD | {"check": "regex"}, "expected mentions or story"),
        (GOOD | {"source": 3}, "expected a url or a passage"),
        (GOOD | {"shown": "yes"}, "expected true or false"),
        (GOOD | {"group": ""}, "expected a name"),
        (GOOD | {"wording": "Where?"}, "wording: no such field; there are wordings, answers"),
    ],
)
def test_a_bad_row_is_named_with_its_line_and_what_was_expected(tmp_path, row, expected):
    with pytest.raises(StageError) as error:
        read_questions(write(tmp_path, GOOD, row))
    assert "questions.jsonl" in str(error.value)
    assert "2" in str(error.value)
    assert expected in str(error.value)


def test_rows_with_the_same_mistake_are_counted_together(tmp_path):
    with pytest.raises(StageError, match=r"3 of 4 lines \(2, 3, 4\): .*split"):
        read_questions(write(tmp_path, GOOD, *[GOOD | {"split": split} for split in ("a", "b", "c")]))


def test_an_empty_file_is_refused(tmp_path):
    with pytest.raises(StageError, match="holds no question"):
        read_questions(write(tmp_path))
