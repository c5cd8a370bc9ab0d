"""The commands in README, tour and how-tos are commands that exist, and the files that the README names are there."""

import re
import shlex
from pathlib import Path

import pytest

from crawl2chat.api import find_recipe
from crawl2chat.cli.main import _parser, _split_settings
from crawl2chat.stages.pipeline import Recipe
from crawl2chat.stages.settings import load_settings

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = {file.name: file.read_text(encoding="utf-8") for file in sorted((ROOT / "docs").glob("*.md"))}
WITH_COMMANDS = [text for name, text in DOCUMENTS.items() if name.startswith(("howto-", "bring-", "reading-", "tour"))]
COMMANDS = [
    line.split("#")[0].split("<")[0].strip()
    for document in (README, *WITH_COMMANDS)
    for line in document.splitlines()
    if line.startswith("crawl2chat ")
]


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_is_understood(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # settings may name a file, which is read with them
    (tmp_path / "card.toml").write_text('name = "Ada"\n')
    options, settings = _split_settings(shlex.split(command)[1:])
    if "--settings" in options:
        with pytest.raises(SystemExit) as left:
            _parser().parse_args(options)
        assert left.value.code == 0
        return
    parsed = _parser().parse_args(options)
    assert parsed.takes_settings or not settings
    if parsed.command == "run":
        recipe = find_recipe(parsed.recipe)
        assert load_settings(Recipe, recipe, settings)


def test_there_are_commands_to_test():
    assert len(COMMANDS) >= 6


@pytest.mark.parametrize("target", re.findall(r"\]\(([^)#:]+)\)", README))
def test_each_linked_file_exists(target):
    assert (ROOT / target).exists()


@pytest.mark.parametrize("target", re.findall(r"^make (\w+)", README, re.MULTILINE))
def test_each_make_target_exists(target):
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
