"""docs/reference.py writes down every command and every setting, and notices when one has changed."""

import importlib.util
from pathlib import Path

import pytest

from crawl2chat.stages.pipeline import STAGE_NAMES, Recipe

SCRIPT = Path(__file__).parents[1] / "docs" / "reference.py"


@pytest.fixture(scope="module")
def reference():
    spec = importlib.util.spec_from_file_location("docs_reference", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def folder(reference, tmp_path, monkeypatch):
    """An empty folder that stands for docs/reference."""
    monkeypatch.setattr(reference, "FOLDER", tmp_path)
    return tmp_path


def run(reference, monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", ["reference.py", *arguments])
    return reference.main()


def test_every_command_and_every_setting_is_listed(reference, folder, monkeypatch):
    assert run(reference, monkeypatch) == 0
    commands = (folder / "cli.md").read_text(encoding="utf-8")
    assert {"run", "chat", "serve", *STAGE_NAMES} <= set(reference.subcommands(reference.parser_that_helps()))
    for name in reference.subcommands(reference.parser_that_helps()):
        assert f"\n## {name}\n" in commands
    settings = (folder / "settings.md").read_text(encoding="utf-8")
    for stage in STAGE_NAMES:
        for name in Recipe.model_fields[stage].annotation.model_fields:
            assert f"| `{stage}.{name}" in settings
    assert "| `pretrain.depth` | int, ≥ 1, ≤ 200 | `4` | layers" in settings


def test_what_was_just_written_is_up_to_date(reference, folder, monkeypatch):
    run(reference, monkeypatch)
    assert run(reference, monkeypatch, "--check") == 0


@pytest.mark.parametrize("file", ["cli.md", "settings.md"])
def test_a_changed_line_is_printed_and_fails_the_check(reference, folder, monkeypatch, capsys, file):
    run(reference, monkeypatch)
    text = (folder / file).read_text(encoding="utf-8")
    (folder / file).write_text(text.replace("seed", "sEEd"), encoding="utf-8")
    assert run(reference, monkeypatch, "--check") == 1
    printed = capsys.readouterr()
    assert "sEEd" in printed.out
    assert "python docs/reference.py" in printed.err
    assert "sEEd" in (folder / file).read_text(encoding="utf-8"), "a check writes nothing"
