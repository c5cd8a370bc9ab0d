import json
import sys
from pathlib import Path

import pytest

from crawl2chat.stages.files import StageError
from crawl2chat.stages.user_code import describe_error, load_module, load_object, source_file


def write(folder: Path, text: str, name: str = "mine.py") -> str:
    (folder / name).write_text(text, encoding="utf-8")
    return str(folder / name)


def test_a_function_of_a_file_is_found_by_its_path(tmp_path):
    file = write(tmp_path, "def double(x):\n    return 2 * x\n")
    assert load_object(f"{file}:double", "reinforce.task")(21) == 42


def test_an_object_of_an_installed_module_is_found_by_its_name():
    assert load_object("json:dumps", "refine.extra") is json.dumps
    assert source_file("json:dumps", "refine.extra") == Path(json.__file__)


def test_a_file_runs_once_and_again_once_it_has_changed(tmp_path):
    file = write(tmp_path, "box = []\n")
    first = load_object(f"{file}:box", "x")
    assert load_object(f"{file}:box", "x") is first
    write(tmp_path, "box = [1]\n")
    assert load_object(f"{file}:box", "x") == [1]


def test_a_file_without_a_name_is_the_whole_module(tmp_path):
    file = write(tmp_path, "one = 1\n")
    assert load_module(file, "reinforce.task").one == 1
    assert source_file(file, "reinforce.task") == Path(file)


def test_a_file_cannot_hide_an_installed_module(tmp_path):
    file = write(tmp_path, "name = 'mine'\n", "json.py")
    assert load_object(f"{file}:name", "x") == "mine"
    assert sys.modules["json"] is json


def test_dataclasses_in_a_file_work(tmp_path):
    file = write(
        tmp_path,
        "from __future__ import annotations\nfrom dataclasses import dataclass\n\n"
        "@dataclass\nclass Pair:\n    one: int\n    other: str = ''\n",
    )
    assert load_object(f"{file}:Pair", "x")(3).one == 3


@pytest.mark.parametrize(
    ("reference", "found"),
    [
        ("absent.py:reward", "reinforce.task = absent.py: no such file: absent.py"),
        ("reward", "expected file.py:name or package.module:name"),
        ("mine.py:", "expected file.py:name or package.module:name"),
        ("mine.py:two words", "expected file.py:name or package.module:name"),
        ("no_such_module_here:reward", "no module named 'no_such_module_here' is installed"),
        ("mine.py:other", "mine.py does not define 'other'; it defines reward"),
        ("broken.py:reward", r"broken.py: fails when it is run: SyntaxError: .*broken.py, line 2\)"),
        ("raises.py:reward", r"raises.py: fails when it is run: ZeroDivisionError: .*raises.py, line 1\)"),
        ("imports.py:reward", "no module named 'absent_library' is installed"),
    ],
)
def test_what_cannot_be_loaded_is_named_with_its_place(tmp_path, monkeypatch, reference, found):
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "def reward(): ...\n")
    write(tmp_path, "x = 1\ndef reward(:\n", "broken.py")
    write(tmp_path, "1 / 0\n", "raises.py")
    write(tmp_path, "import absent_library\n", "imports.py")
    with pytest.raises(StageError, match=found):
        load_object(reference, "reinforce.task")


def test_an_error_of_somebodys_own_code_is_one_line_with_its_place(tmp_path):
    file = write(tmp_path, "def reward(x):\n    return 1 / x\n")
    with pytest.raises(ZeroDivisionError) as caught:
        load_object(f"{file}:reward", "x")(0)
    assert describe_error(caught.value) == f"ZeroDivisionError: division by zero ({file}, line 2)"
