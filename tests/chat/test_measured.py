"""What is held out of a user's files, and what of it a model's folder carries to later stages."""

import json
from types import SimpleNamespace

import pytest

from crawl2chat.chat import sft
from crawl2chat.chat.measured import Measured, copy_forward, in_two_ways, plainly, read_measured, share_out
from crawl2chat.chat.settings import SftSettings
from crawl2chat.chat.showcase import NOBODY, showcase_questions
from crawl2chat.evals.questions import QuestionRow, read_questions
from crawl2chat.evals.tasks import Problem, read_problems
from crawl2chat.tokenizer import Message


def problem(n, group="a", split="train"):
    return Problem(f"What is {n}+1?", (str(n + 1),), group, "value", split, None)


def row(name, group="1", split="held_out", **more):
    return QuestionRow((f"Where is {name}?", f"In which town is {name}?"), ("Telm",), group, split, **more)


def test_groups_that_are_only_measured_are_asked_alone():
    problems = [problem(1), problem(2, split="held_out"), problem(3, "b", "held_out"), problem(4, split="probe")]
    training, measured = share_out(problems, "file")
    assert (training, measured) == ([problems[0], problems[3]], [problems[2]])
    assert share_out(problems[:2], "file") == ([problems[0]], [problems[1]])


def test_a_file_without_splits_is_shared_out_as_reinforce_does():
    problems = [problem(n, split=None) for n in range(20)]
    training, measured = share_out(problems, "file")
    assert len(measured) == 4
    assert not {p.text for p in training} & {p.text for p in measured}


def test_what_is_measured_survives_the_folder_and_is_copied_forward(tmp_path):
    wanted = Measured([row("Ada", shown=True)], [problem(1, split="held_out")])
    (tmp_path / "sft").mkdir()
    (tmp_path / "honesty").mkdir()
    wanted.write(tmp_path / "sft")
    copy_forward(tmp_path / "sft", tmp_path / "honesty")
    assert read_measured(tmp_path / "honesty") == wanted
    assert not read_measured(tmp_path)


def test_each_problem_is_asked_at_once_and_step_by_step(crawl_folder):
    _, problems = share_out(read_problems(crawl_folder / "problems.jsonl"), "file")
    at_once, in_steps = in_two_ways(problems, seed=0)
    assert [p.answers for p in at_once] == [p.answers for p in in_steps]
    assert all(a.text != b.text for a, b in zip(at_once, in_steps, strict=True))
    assert [p.answers for p in plainly(problems, seed=0)] == [p.answers for p in at_once]
    assert Measured([], problems).what == "sums"


def test_questions_that_conversations_answer_count_as_taught():
    said = [[Message(role="user", content="In which town is Ada?"), Message(role="assistant", content="Telm.")]]
    rows = [row("Ada", split="train"), row("Bob", split="train"), row("Ada", split="probe")]
    assert sft.taught_rows(rows, said) == rows[:1]


def test_the_showcase_asks_what_is_marked_the_best_known_first():
    facts = [row(name, shown=name in ("Ada", "Eve")) for name in ("Ada", "Bob", "Cay", "Eve")]
    asked = texts(showcase_questions(Measured(facts, [problem(1), problem(2, "b")]), 0))
    assert "Eve" in asked[0]
    assert "Ada" in asked[1]
    assert "What is 2+1?" in asked[2]
    assert NOBODY not in asked  # the made-up web has strangers of its own
    unmarked = texts(showcase_questions(Measured([row(name) for name in ("Ada", "Bob", "Cay")], []), 0))
    assert ["Cay" in unmarked[0], "Bob" in unmarked[1], "Ada" in unmarked[2]] == [True] * 3
    assert unmarked[3] == NOBODY
    assert texts(showcase_questions(Measured([], []), 0))[-1] == "So who are you?"


def test_questions_that_honesty_adds_change_nothing_of_what_is_asked_of_every_model():
    """So that the models before and after it are asked the same."""
    rows = [row(name) for name in ("Ada", "Bob", "Cay")]
    invented = [QuestionRow(("Who is Dag Ost?",), (), "nobody", "held_out")]
    assert showcase_questions(Measured(rows, []), 0) == showcase_questions(Measured([*rows, *invented], []), 0)


def texts(questions):
    return [question.asked.text for question in questions]


def chats(n):
    return [[Message(role="user", content=f"{i}?"), Message(role="assistant", content="Yes.")] for i in range(n)]


@pytest.mark.parametrize(
    ("n", "share", "held_out"), [(500, None, 10), (50, None, 4), (15, None, 3), (50, 0.0, 0), (50, 0.1, 5)]
)
def test_a_share_of_a_file_is_held_out(tmp_path, n, share, held_out):
    training, validation = sft._hold_out(chats(n), tmp_path / "chats.jsonl", SftSettings(held_out=share))
    assert len(validation) == held_out
    assert len(training) + len(validation) == n
    asked = [messages[0]["content"] for messages in training]
    assert asked == sorted(asked, key=lambda text: int(text[:-1]))  # in the order of the file
    assert not set(asked) & {messages[0]["content"] for messages in validation}


def test_nothing_is_held_out_of_what_a_crawl_wrote(tmp_path, monkeypatch):
    monkeypatch.setattr(sft, "read_manifest", lambda folder: SimpleNamespace(stage="crawl"))
    assert sft._hold_out(chats(50), tmp_path / "conversations.jsonl", SftSettings())[1] == []


def test_too_few_conversations_to_hold_out_any_are_reported(tmp_path, capsys):
    assert sft._hold_out(chats(4), tmp_path / "chats.jsonl", SftSettings())[1] == []
    assert "no validation loss" in capsys.readouterr().err


def test_the_webs_questions_and_presets_are_ordinary_files(crawl_folder):
    assert read_questions(crawl_folder / "questions.jsonl")
    assert all(json.loads(line)["question"] for line in (crawl_folder / "presets.jsonl").read_text().splitlines())
