import gzip
import json
import re

import pytest

from crawl2chat.rl.problems import in_epochs, read_gsm8k, read_problems, sums
from crawl2chat.stages.files import StageError
from crawl2chat.tinyweb import TinywebSettings, write_tinyweb
from crawl2chat.tinyweb.ledger import Ledger

SMALL = TinywebSettings(
    people=20, passages_per_level=1, passage_levels=3, glossaries=4, word_games=4, phrase_books=2, interviews=2,
    stories=8, verses=6, worked_sums=40, direct_sums=40, held_out_sums=30, junk_pages=12, personal_pages=2,
)  # fmt: skip


@pytest.fixture(scope="module")
def web(tmp_path_factory):
    folder = tmp_path_factory.mktemp("web")
    write_tinyweb(folder, 3, SMALL)
    return folder


def gsm8k(tmp_path, *rows):
    file = tmp_path / "problems.jsonl"
    file.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return file


def test_held_out_sums_are_never_trained_on(web):
    training, held_out = read_problems(web, 1000, seed=0)
    assert len(held_out) == 2 * 30
    questions = [p.question for p in Ledger.load(web).problems if p.split == "held_out"]
    assert questions
    assert not [p.text for p in training if any(question in p.text for question in questions)]
    assert not {p.text for p in training} & {p.text for p in held_out}


def test_each_sum_is_asked_plainly_and_as_a_story_with_one_answer(web):
    problems = sums(Ledger.load(web), "held_out", seed=0)
    assert {p.group for p in problems} == {"sum", "story"}
    by_group = [sorted(p.answers[0] for p in problems if p.group == group) for group in ("sum", "story")]
    assert by_group[0] == by_group[1]
    assert not [p.text for p in problems if "step" in p.text or "at once" in p.text]


def test_a_file_in_gsm8ks_form_is_read_and_split_without_overlap(tmp_path):
    rows = [{"question": f"How many are {i} pears?", "answer": f"Easy.\n#### {i},000"} for i in range(1, 21)]
    file = gsm8k(tmp_path, *rows, rows[0])
    problems = read_gsm8k(file)
    assert [p.expected for p in problems] == [f"{i},000" for i in range(1, 21)]  # the repeated one counts once
    training, held_out = read_problems(file, 200, seed=0)
    assert len(held_out) == 4
    assert not {p.text for p in training} & {p.text for p in held_out}


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("form", ["lines", "array", "lines.gz", "array.gz"])
def test_a_file_is_read_in_each_form_that_people_have(tmp_path, form, encoding, newline):
    rows = [{"question": "Half of a café?", "answer": "#### ½"}, {"question": "Where?", "answer": "Oslo"}]
    text = json.dumps(rows, ensure_ascii=False, indent=1)
    if form.startswith("lines"):
        text = "\n\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    content = text.replace("\n", newline).encode(encoding)
    file = tmp_path / "problems.json"
    file.write_bytes(gzip.compress(content) if form.endswith("gz") else content)
    assert [(p.text, p.expected) for p in read_gsm8k(file)] == [("Half of a café?", "½"), ("Where?", "Oslo")]


def test_each_kind_of_bad_line_is_named_with_its_first_line(tmp_path):
    good = {"question": "?", "answer": "#### 1"}
    unmarked, no_answer = {"question": "?", "answer": "3 and 4 are 7, so there are 7."}, {"question": "?"}
    file = gsm8k(tmp_path, good, "{not json", unmarked, "", no_answer, {"question": "?", "answer": 5})
    with pytest.raises(StageError) as error:
        read_gsm8k(file)
    assert [line.split(":")[0].strip() for line in str(error.value).split("\n")[1:]] == [
        "line 2", "line 3", "line 5", "line 6",
    ]  # fmt: skip
    assert "4 bad rows" in str(error.value)


def test_lines_that_are_bad_in_the_same_way_are_one_sentence(tmp_path):
    file = gsm8k(tmp_path, *[{"messages": [], "id": n} for n in range(98)])
    with pytest.raises(StageError) as error:
        read_gsm8k(file)
    heading, kind = str(error.value).split("\n")
    assert "98 bad rows; expected" in heading
    assert kind.strip() == 'line 1 and 97 more: found no "question" but messages, id'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[1, 2", "is not JSON"),
        (b"[7]", "line 1: found [7], not an object"),
        (b"\x1f\x8b broken", "can't be read"),
        ("{}\ncaf\u00e9".encode("latin-1"), "is not utf-8"),
        (b'{"question": " ", "answer": "#### 1"}', 'found "question": " ", not a text'),
        (b'{"question": "?", "answer": "1\\n####"}', "nothing behind its last mark"),
    ],
)
def test_what_is_no_file_of_problems_is_named(tmp_path, content, message):
    file = tmp_path / "problems.jsonl"
    file.write_bytes(content)
    with pytest.raises(StageError, match=re.escape(message)):
        read_gsm8k(file)


def test_a_folder_that_is_no_fictional_web_and_a_file_too_small_say_what_to_do(tmp_path):
    with pytest.raises(StageError, match="name a file of problems"):
        read_problems(tmp_path, 10, seed=0)
    with pytest.raises(StageError, match="a file needs 5"):
        read_problems(gsm8k(tmp_path, {"question": "?", "answer": "#### 1"}), 10, seed=0)


def test_an_epoch_takes_each_problem_once_in_an_order_of_its_own():
    taken = [i for step in range(6) for i in in_epochs(9, 3, seed=1, step=step)]
    assert sorted(taken[:9]) == sorted(taken[9:]) == list(range(9))
    assert taken[:9] != taken[9:]
    assert list(in_epochs(9, 4, 1, 2)) == taken[8:12]
