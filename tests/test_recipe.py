from pathlib import Path

import pytest
from pydantic import Field

from crawl2chat.stages.pipeline import Recipe
from crawl2chat.stages.settings import RecipeError, Settings, load_settings, settings_help, to_toml

RECIPES = sorted((Path(__file__).parents[1] / "recipes").glob("*.toml"))


class Inner(Settings):
    depth: int = Field(4, ge=1, description="layers")
    name: str = Field("a", description="a word")
    parts: list[str] = Field([], description="several words")


class Outer(Settings):
    inner: Inner = Inner()
    share: float = Field(0.5, ge=0, le=1, description="a share")


def write(tmp_path, text):
    file = tmp_path / "some.toml"
    file.write_text(text)
    return file


def test_flags_go_over_the_file_and_the_file_over_defaults(tmp_path):
    file = write(tmp_path, "share = 0.25\n[inner]\ndepth = 6\nname = 'b'\n")
    settings = load_settings(Outer, file, ["--inner.depth", "8", "--inner.parts=['x', 'y']"])
    assert settings == Outer(share=0.25, inner=Inner(depth=8, name="b", parts=["x", "y"]))


@pytest.mark.parametrize("name", ["lr", "learning_rate"])
def test_other_programs_name_of_the_learning_rate_is_answered_with_ours(name):
    with pytest.raises(RecipeError, match=r"no such setting; there are sft\.matrix_lr, sft\.embedding_lr$"):
        load_settings(Recipe, None, [f"--sft.{name}", "0.1"])


@pytest.mark.parametrize(("flag", "languages"), [("", []), ("de", ["de"]), ('["de", "fr"]', ["de", "fr"])])
def test_a_list_of_words_may_be_one_word_or_none(flag, languages):
    assert load_settings(Recipe, None, ["--refine.languages", flag]).refine.languages == languages


def test_every_problem_is_reported_at_once_and_misspellings_are_guessed(tmp_path):
    file = write(tmp_path, "share = 2\n[inner]\ndetph = 6\n")
    with pytest.raises(RecipeError) as caught:
        load_settings(Outer, file, ["--inner.depth", "no"])
    assert str(caught.value).splitlines()[0] == f"recipe {file}: 3 problems"
    assert "  inner.detph: no such setting; did you mean inner.depth?" in str(caught.value)
    assert '  inner.depth = "no": input should be a valid integer' in str(caught.value)
    assert "  share = 2: input should be less than or equal to 1" in str(caught.value)


@pytest.mark.parametrize("flags", [["--inner.depth"], ["--inner.depth", "--share", "1"], ["stray"]])
def test_a_flag_without_a_value_is_an_error(flags):
    with pytest.raises(RecipeError):
        load_settings(Outer, None, flags)


def test_a_flag_into_a_value_is_an_error():
    with pytest.raises(RecipeError, match="share is a value, not a table"):
        load_settings(Outer, None, ["--share", "1", "--share.x", "1"])


def test_broken_toml_is_named(tmp_path):
    with pytest.raises(RecipeError, match="not valid TOML"):
        load_settings(Outer, write(tmp_path, "= 3"))
    with pytest.raises(RecipeError, match="can't be read"):
        load_settings(Outer, tmp_path / "absent.toml")


def test_written_settings_read_back_equal(tmp_path):
    settings = Outer(share=0.1, inner=Inner(name='quote " and \\ and é', parts=["a b"]))
    assert load_settings(Outer, write(tmp_path, to_toml(settings))) == settings


def test_help_names_each_setting_with_default_and_meaning():
    assert "--inner.depth 4\n      layers" in settings_help(Outer)


@pytest.mark.parametrize("file", RECIPES, ids=lambda file: file.name)
def test_shipped_recipes_are_valid(file):
    kinds = [kind for kind in ("warc", "documents") if f'source = "{kind}"' in file.read_text()]
    recipe = load_settings(Recipe, file, [part for kind in kinds for part in (f"--crawl.{kind}", "x")])
    assert recipe.until in ("tokenizer", "pretrain", "base", "sft", "honesty", "prefer")


def test_every_setting_is_documented():
    text = settings_help(Recipe)
    undocumented = [line for line in text.splitlines() if line.startswith("      ") and not line.strip()]
    assert not undocumented
