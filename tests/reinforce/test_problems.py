import json

import pytest

from crawl2chat.crawl.tinyweb import TinywebSettings, write_tinyweb
from crawl2chat.crawl.tinyweb.ledger import Ledger
from crawl2chat.reinforce.problems import in_epochs, read_gsm8k, read_problems, sums
from crawl2chat.run import StageError

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
    by_group = [sorted(p.value for p in problems if p.group == group) for group in ("sum", "story")]
    assert by_group[0] == by_group[1]
    assert not [p.text for p in problems if "step" in p.text or "at once" in p.text]


def test_a_file_in_gsm8ks_form_is_read_and_split_without_overlap(tmp_path):
    rows = [{"question": f"How many are {i} pears?", "answer": f"Easy.\n#### {i},000"} for i in range(1, 21)]
    file = gsm8k(tmp_path, *rows, rows[0])
    problems = read_gsm8k(file)
    assert [p.value for p in problems] == [f"{i},000" for i in range(1, 21)]  # the repeated one counts once
    training, held_out = read_problems(file, 200, seed=0)
    assert len(held_out) == 4
    assert not {p.text for p in training} & {p.text for p in held_out}


def test_every_bad_line_is_named(tmp_path):
    good = {"question": "?", "answer": "#### 1"}
    no_mark, no_answer = {"question": "?", "answer": "1"}, {"question": "?"}
    file = gsm8k(tmp_path, good, "{not json", no_mark, "", no_answer, {"question": "?", "answer": 5})
    with pytest.raises(StageError) as error:
        read_gsm8k(file)
    assert [line.split(":")[0].strip() for line in str(error.value).split("\n")[1:]] == [
        "line 2", "line 3", "line 5", "line 6",
    ]  # fmt: skip
    assert "4 bad lines" in str(error.value)


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
