import gzip
import json
import re

import pytest

from crawl2chat.evals.suites.sandbox import SandboxMissing, way
from crawl2chat.evals.tasks import Problem, Task, judge, load_task, read_problems, split_problems
from crawl2chat.generate import Completion
from crawl2chat.stages.files import StageError


def gsm8k(tmp_path, *rows):
    file = tmp_path / "problems.jsonl"
    file.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return file


def test_a_file_in_gsm8ks_form_is_read_and_split_without_overlap(tmp_path):
    rows = [{"question": f"How many are {i} pears?", "answer": f"Easy.\n#### {i},000"} for i in range(1, 21)]
    file = gsm8k(tmp_path, *rows, rows[0])
    problems = read_problems(file)
    assert [p.expected for p in problems] == [f"{i},000" for i in range(1, 21)]  # the repeated one counts once
    training, held_out = split_problems(problems, 200, file)
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
    assert [(p.text, p.expected) for p in read_problems(file)] == [("Half of a café?", "½"), ("Where?", "Oslo")]


@pytest.mark.parametrize(("number", "text"), [(5, "5"), (-2.5, "-2.5"), (0, "0")])
def test_a_number_as_answer_is_read_as_its_text(tmp_path, number, text):
    (problem,) = read_problems(gsm8k(tmp_path, {"question": "?", "answer": number}))
    assert (problem.answers, problem.solution) == ((text,), None)
    assert judge(problem, f"It is {text}.") == 1


def test_each_kind_of_bad_line_is_named_with_its_first_line(tmp_path):
    good = {"question": "?", "answer": "#### 1"}
    unmarked, no_answer = {"question": "?", "answer": "3 and 4 are 7, so there are 7."}, {"question": "?"}
    file = gsm8k(tmp_path, good, "{not json", unmarked, "", no_answer, {"question": "?", "answer": {"is": 5}})
    with pytest.raises(StageError) as error:
        read_problems(file)
    assert [line.split(":")[0].strip() for line in str(error.value).split("\n")[1:]] == [
        "line 2", "line 3", "line 5", "line 6",
    ]  # fmt: skip
    assert "4 bad rows" in str(error.value)


def test_lines_that_are_bad_in_the_same_way_are_one_sentence(tmp_path):
    file = gsm8k(tmp_path, *[{"messages": [], "id": n} for n in range(98)])
    with pytest.raises(StageError) as error:
        read_problems(file)
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
        (b'{"question": "?", "answer": "1\\n####"}', "nothing after its last mark"),
    ],
)
def test_what_is_no_file_of_problems_is_named(tmp_path, content, message):
    file = tmp_path / "problems.jsonl"
    file.write_bytes(content)
    with pytest.raises(StageError, match=re.escape(message)):
        read_problems(file)


def test_a_folder_without_problems_and_a_file_too_small_say_what_to_do(tmp_path):
    with pytest.raises(StageError, match="a folder without problems.jsonl; name a file of problems"):
        read_problems(tmp_path)
    file = gsm8k(tmp_path, {"question": "?", "answer": "#### 1"})
    with pytest.raises(StageError, match="a file needs 5"):
        split_problems(read_problems(file), 10, file)
    assert read_problems(tmp_path) == read_problems(file)


def test_rows_say_how_they_are_judged_grouped_and_split(tmp_path):
    rows = [
        {"question": "2+2?", "answer": ["4", "four"], "group": "sums", "split": "train", "solution": "2 and 2 is 4."},
        {"question": "Name it.", "answer": "Oslo", "check": "mentions", "split": "probe"},
        {"question": "3+3?", "answer": "3 and 3.\n#### 6", "group": "sums", "split": "held_out"},
    ]
    problems = read_problems(gsm8k(tmp_path, *rows))
    assert problems == [
        Problem("2+2?", ("4", "four"), "sums", "value", "train", "2 and 2 is 4."),
        Problem("Name it.", ("Oslo",), "problems", "mentions", "probe", None),
        Problem("3+3?", ("6",), "sums", "value", "held_out", "3 and 3.\n#### 6"),
    ]
    training, held_out = split_problems(problems, 10, "file")
    assert (training, held_out) == (problems[:2], problems[2:])


def test_rows_with_a_split_stay_as_they_are_and_the_others_are_shared_out(tmp_path):
    given = [{"question": "A?", "answer": "1", "split": "train"}] * 2 + [{"question": "B?", "answer": "1"}] * 2
    problems = read_problems(gsm8k(tmp_path, *given))
    assert [problem.text for problem in problems] == ["A?", "A?", "B?"]
    more = [Problem(f"{i}?", ("1",), "g") for i in range(10)]
    training, held_out = split_problems([*problems, *more], 10, "file")
    assert [len(training), len(held_out)] == [11, 2]
    assert split_problems([*problems, *more], 1, "file")[1] == held_out[:1]


def test_what_is_held_out_does_not_depend_on_how_much_is_measured():
    problems = [Problem(f"What is {i}?", (str(i),), "value", "g", None) for i in range(100)]
    few, many = (split_problems(problems, measured, "file") for measured in (5, 400))
    assert few[0] == many[0]
    assert (few[1], len(many[1])) == (many[1][:5], 20)


def test_a_question_that_is_learned_from_and_measured_is_refused(tmp_path):
    rows = [{"question": "1+1?", "answer": "2", "split": split} for split in ("train", "held_out")]
    with pytest.raises(StageError, match=r"1 questions are both learned from and held out, such as '1\+1\?'"):
        split_problems(read_problems(gsm8k(tmp_path, *rows)), 10, "file")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {"question": "?", "answer": "1", "check": "guess"},
            'found "check": "guess"; expected value, text, mentions',
        ),
        ({"question": "?", "answer": "1", "check": ["value"]}, 'found "check": ["value"]; expected value'),
        ({"question": "?", "answer": "1", "split": "test"}, 'found "split": "test"; expected train, probe, held_out'),
        ({"question": "?", "answer": []}, 'found "answer": [], not a text'),
        ({"question": "?", "answer": ["1", True]}, 'found "answer": true, not a text'),
        ({"question": "?", "answer": "1", "group": 3}, 'found "group": 3, not a text'),
        ({"question": "?", "answer": "1", "solution": ""}, 'found "solution": "", not a text'),
    ],
)
def test_a_field_with_a_wrong_value_is_named(tmp_path, row, message):
    with pytest.raises(StageError, match=re.escape(message)):
        read_problems(gsm8k(tmp_path, row))


@pytest.mark.parametrize(
    ("check", "answer", "said", "right"),
    [
        ("value", "42", "That makes 42.0.", True),
        ("value", "42", "It is 41.", False),
        ("text", "042", "The answer is 042.", True),
        ("text", "042", "The answer is 42.", False),
        ("text", "A dog", "It is this:\na dog.", True),
        ("mentions", "cold", "A cold, windy day", True),
        ("mentions", "cold", "He was scolded.", False),
        ("exact", "A-b", " A-b\n", True),
        ("exact", "A-b", "a-b", False),
    ],
)
def test_each_check_judges_as_it_says(check, answer, said, right):
    assert judge(Problem("?", ("no", answer), "g", check), said) == right
    assert Task("t", []).solves(Problem("?", (answer,), "g", check), Completion([1], [0.0], said, "stop")) == right


def code(tmp_path, text):
    (tmp_path / "task.py").write_text(text)
    return str(tmp_path / "task.py")


ROWS = [{"question": "Say a.", "answer": "She said a, of course, and then a again."}, {"question": "Say b."}]


@pytest.mark.parametrize("name", ["", ":reward"])
def test_a_reward_of_ones_own_judges_problems_of_a_file_that_need_no_answer(tmp_path, name):
    file = gsm8k(tmp_path, *ROWS)
    reference = code(tmp_path, "def reward(problem, answer):\n    return answer.count(problem.text[4]) / 2\n") + name
    task = load_task(file, reference)
    assert [problem.text for problem in task.problems] == ["Say a.", "Say b."]
    answer = Completion([1], [0.0], "bab", "stop")
    assert [task.score(problem, answer) for problem in task.problems] == [0.5, 1]
    assert [task.solves(problem, answer) for problem in task.problems] == [False, True]


@pytest.mark.parametrize("form", ["ROWS", "def", "Task", "as a class"])
def test_a_task_of_ones_own_may_bring_its_problems(tmp_path, form):
    rows = '[{"question": f"{i}+1?", "answer": str(i + 1), "group": "sums"} for i in range(5)]'
    text = {
        "ROWS": f"problems = {rows}",
        "def": f"def problems():\n    yield from {rows}",
        "Task": "from crawl2chat.evals.tasks import Problem, Task\n"
        "task = Task('t', [Problem(f'{i}+1?', (str(i + 1),), 'sums') for i in range(5)])",
        "as a class": f"class Sums:\n    problems = {rows}\n    def reward(self, p, a): return float(a in p.answers)\n"
        "task = Sums()",
    }[form]
    reference = code(tmp_path, text) + (":task" if "task =" in text else "")
    expected = [Problem(f"{i}+1?", (str(i + 1),), "sums") for i in range(5)]
    for task in (load_task(reference), load_task(tmp_path / "unread.jsonl", reference)):
        assert task.problems == expected
        assert task.score(expected[3], Completion([1], [0.0], "4", "stop")) == 1
        assert task.score(expected[3], Completion([1], [0.0], "5", "stop")) == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1", "defines neither problems nor reward"),
        ("problems = []", "problems is empty"),
        ("problems = [{'question': '?'}]", '1 bad rows; expected {.*\n.*item 1: found no "answer" but question'),
        ("problems = 7", "problems can't be listed: TypeError"),
        ("def problems(): return 1 / 0", r"problems can't be listed: ZeroDivisionError: .*task.py, line 1"),
        ("reward = 1.0", "reward is float; expected a function"),
    ],
)
def test_code_that_is_no_task_is_named(tmp_path, text, message):
    with pytest.raises(StageError, match=message):
        load_task(gsm8k(tmp_path, *ROWS), code(tmp_path, text), "reinforce.task")
    with pytest.raises(StageError, match="defines a reward but no problems; name a file of problems"):
        load_task(code(tmp_path, "def reward(problem, answer): return 1.0"))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("None", r"reward fails for the problem 'Say a\.' and the answer 'a': TypeError"),
        ("float('nan')", r"reward returned nan for the problem 'Say a\.' and the answer 'a'; expected a finite number"),
        ("'1'", "reward returned '1' for the problem"),
        (
            "1 / 0",
            r"reward fails for the problem 'Say a\.' .*ZeroDivisionError: division by zero \(.*task.py, line 2\)",
        ),
    ],
)
def test_a_reward_that_is_no_finite_number_names_the_problem_and_what_came(tmp_path, value, message):
    reference = code(tmp_path, f"def reward(problem, answer):\n    return {value}\n")
    task = load_task(gsm8k(tmp_path, *ROWS), reference)
    with pytest.raises(StageError, match=message):
        task.score(task.problems[0], Completion([1], [0.0], "a", "stop"))


def test_an_answer_that_is_cut_off_earns_nothing_and_keeps_a_penalty(tmp_path):
    for value, earned in ((0.7, 0), (-0.5, -0.5)):
        task = Task("t", [], lambda problem, answer, value=value: value)
        assert task.score(Problem("?", (), "g"), Completion([1], [0.0], "a", "length")) == earned


@pytest.mark.parametrize(
    ("check", "accepted", "right", "wrong"),
    [
        (
            "choice",
            "B",
            ["B", "(b) a cat", "B. A cat", "**B**", "It is a cat.\nThe answer is B."],
            ["A", "Bears", "A or B"],
        ),
        ("regex", r"\b\d{4}-\d\d\b", ["On 2024-05.", "<think>2</think>2024-05"], ["<think>2024-05</think>?", "24-05"]),
        (
            "code",
            "assert double(4) == 8",
            ["```python\ndef double(x):\n    return 2 * x\n```\nIt doubles.", "def double(x): return x + x"],
            ["```python\ndef double(x):\n    return x\n```", "Double it.", "```python\nexit(0)\n```"],
        ),
    ],
)
def test_answers_are_checked_by_letter_by_pattern_and_by_tests(tmp_path, check, accepted, right, wrong):
    if check == "code":
        try:
            way()
        except SandboxMissing as missing:
            pytest.skip(str(missing))
    (problem,) = read_problems(gsm8k(tmp_path, {"question": "?", "answer": accepted, "check": check}))
    assert [judge(problem, answer) for answer in right] == [1] * len(right)
    assert [judge(problem, answer) for answer in wrong] == [0] * len(wrong)


def test_a_pattern_that_is_none_is_named(tmp_path):
    with pytest.raises(StageError, match="not a regular expression"):
        read_problems(gsm8k(tmp_path, {"question": "?", "answer": "(", "check": "regex"}))
