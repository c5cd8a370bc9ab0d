import argparse
import re
import resource
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from crawl2chat.api import find_recipe
from crawl2chat.cli.main import _parser, _split_settings, main
from crawl2chat.cli.stages import STAGES as STAGE_COMMANDS
from crawl2chat.stages.pipeline import STAGE_NAMES, STAGES, Recipe
from crawl2chat.stages.settings import load_settings
from crawl2chat.train.settings import PretrainSettings


def run_main(*arguments):
    return main([str(a) for a in arguments])


def test_help_answers_at_once_because_it_imports_nothing_heavy():
    code = "import sys; from crawl2chat.cli.main import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
    code += "print(sorted(m for m in ('torch', 'pydantic', 'numpy', 'rich', 'matplotlib') if m in sys.modules))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.splitlines()[-1] == "[]"
    assert "crawl2chat run recipes/pages.toml" in shown


def test_help_takes_less_than_half_a_second_of_processor_time():
    def seconds():
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "crawl2chat", "--help"], capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert min(seconds() for _ in range(5)) < 0.5


def test_no_command_is_help_in_groups_with_one_line_per_command(capsys):
    with pytest.raises(SystemExit) as left:
        run_main()
    assert left.value.code == 0
    shown = capsys.readouterr().out
    groups = re.findall(r"^([a-z ]+):\n((?:  \S.*\n)+)", shown, re.MULTILINE)
    listed = [line.split()[0] for title, lines in groups if title not in ("options", "examples")
              for line in lines.splitlines()]  # fmt: skip
    assert listed == list(commands())
    assert [title for title, _ in groups][1:3] == ["make a model", "talk to it"]


def commands():
    (action,) = [a for a in _parser()._actions if isinstance(a, argparse._SubParsersAction)]
    return action.choices


@pytest.mark.parametrize("command", commands())
def test_each_command_has_an_example_that_it_understands(command):
    examples = re.findall(rf"^  (crawl2chat {command} .*)$", commands()[command].format_help(), re.MULTILINE)
    assert examples
    for example in examples:
        options, settings = _split_settings(shlex.split(example)[1:])
        parsed = _parser().parse_args(options)
        assert parsed.takes_settings or not settings
        if settings:
            table = "" if command in ("run", "plan") else command
            model = type(Recipe.model_fields[table].default) if table else Recipe
            assert load_settings(model, None, settings, table=table)


def test_a_recipe_of_the_package_is_found_by_its_name_from_anywhere(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    recipes = Path(__file__).parents[1] / "recipes"
    for name in ("laptop", "laptop.toml", "recipes/laptop.toml", None):
        assert find_recipe(name) == recipes / "laptop.toml"
    (tmp_path / "gpu.toml").write_text("")
    assert find_recipe("gpu.toml") == Path("gpu.toml"), "a file of one's own comes first"
    for command in ("run", "plan"):
        assert run_main(command, "labtop") == 1
        told = capsys.readouterr().err
        assert "labtop: no such file" in told
        assert "gpu, honesty, laptop" in told
    assert run_main("run", "elsewhere/laptop.toml") == 1
    assert not (tmp_path / "runs").exists()


def settings_shown(capsys, *arguments):
    with pytest.raises(SystemExit) as left:
        run_main(*arguments)
    said = capsys.readouterr()
    return left.value.code, said.out, said.err


def test_settings_are_listed_by_table_and_repeated_ones_by_their_names_alone(capsys):
    code, shown, _ = settings_shown(capsys, "run", "--settings")
    assert code == 0
    tables = re.findall(r"^(\w+)$", shown, re.MULTILINE)
    assert tables == list(STAGE_COMMANDS)
    assert shown.count("--pretrain.seq_len ") == 1
    assert "--sft.seq_len " not in shown
    assert re.search(r"--sft.NAME, as of pretrain, with these defaults:\n[^-]*seq_len 256", shown)
    assert "--sft.seq_len 256\n" in settings_shown(capsys, "sft", "--settings")[1]


def test_settings_are_filtered_by_a_word_in_their_name_or_meaning(capsys):
    _, shown, _ = settings_shown(capsys, "run", "--settings", "Matrix_LR")
    names = re.findall(r"^  --(\S+)", shown, re.MULTILINE)
    assert names[:3] == ["pretrain.matrix_lr", "sft.matrix_lr", "honesty.matrix_lr"], "asked for, so each by itself"
    assert all("matrix_lr" in name for name in names)
    _, shown, _ = settings_shown(capsys, "run", "--settings", "shingle")
    assert "--refine.dedup.ngram 5\n      words per shingle" in shown
    code, _, told = settings_shown(capsys, "refine", "--settings", "learning rate of gold")
    assert (code, "no setting has this" in told) == (2, True)


def test_one_seed_goes_to_every_stage_that_does_not_have_its_own():
    recipe = load_settings(Recipe, find_recipe("laptop"), ["--sft.seed", "3"], seed=7)
    assert recipe.crawl.seed == 0, "the recipe sets it"
    assert (recipe.pretrain.seed, recipe.sft.seed, recipe.honesty.seed, recipe.prefer.seed) == (7, 3, 7, 7)
    assert recipe.refine.dedup.seed == 1, "of hash functions"
    unseeded = load_settings(Recipe, find_recipe("laptop"), ["--sft.seed", "3"])
    assert unseeded.pretrain.seed == 0
    assert load_settings(PretrainSettings, None, table="pretrain", seed=5).seed == 5


def test_the_commands_and_the_pipeline_name_the_same_stages():
    assert tuple(STAGE_COMMANDS) == STAGE_NAMES
    for stage in STAGES:
        assert callable(stage.load())


@pytest.mark.parametrize("command", ["run", *STAGE_COMMANDS])
def test_each_command_lists_its_settings(command, capsys):
    with pytest.raises(SystemExit) as left:
        run_main(command, "--settings")
    assert left.value.code == 0
    shown = capsys.readouterr().out
    assert f"--{command}." in shown or command == "run"


def test_all_problems_of_a_recipe_are_told_at_once_before_any_work(tmp_path, capsys):
    recipe = tmp_path / "r.toml"
    recipe.write_text("[pretrain]\ndetph = 3\n")
    assert run_main("run", recipe, "--out", tmp_path / "out", "--pretrain.seq_len", "0", "--tokenizer.size=1") == 1
    told = capsys.readouterr().err
    assert "3 problems" in told
    assert "pretrain.detph: no such setting; did you mean pretrain.depth?" in told
    assert "pretrain.seq_len = 0" in told
    assert "tokenizer.size" in told
    assert not (tmp_path / "out").exists()


def test_tables_that_do_not_fit_each_other_are_told_before_any_work(tmp_path, capsys):
    recipe = tmp_path / "r.toml"
    recipe.write_text("")
    cases = [
        (["--pretrain.seq_len", "128"], "sft.seq_len = 256 is more than the model's context"),
        (["--questions", tmp_path / "absent.jsonl"], "absent.jsonl"),
        (["--conversations", tmp_path / "absent.jsonl"], "absent.jsonl"),
        (["--until", "pretrain", "--crawl.source", "warc", "--crawl.warc", tmp_path / "absent.warc"], "absent.warc"),
        (["--refine.blocklist", tmp_path / "absent.txt"], "absent.txt: no such file"),
    ]
    for flags, expected in cases:
        assert run_main("run", recipe, "--out", tmp_path / "out", *flags) == 1
        assert expected in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_stage_takes_its_own_table_of_a_recipe_and_no_other_settings(tmp_path, capsys):
    pages = Path(__file__).parents[1] / "recipes" / "pages.toml"
    assert run_main("refine", tmp_path / "absent.warc", "--recipe", pages, "--out", tmp_path / "out") == 1
    assert "does not exist" in capsys.readouterr().err
    assert run_main("refine", tmp_path, "--out", tmp_path / "out", "--sft.epochs", "3") == 1
    assert "takes settings of the table refine alone" in capsys.readouterr().err


def test_settings_are_refused_where_there_are_none(capsys):
    with pytest.raises(SystemExit):
        run_main("tokens", "somewhere", "text", "--pretrain.depth", "3")
    assert "takes no settings" in capsys.readouterr().err


def test_a_missing_input_is_a_message_not_a_traceback(tmp_path, capsys):
    assert run_main("refine", tmp_path / "absent.warc.gz", "--out", tmp_path / "out") == 1
    assert "absent.warc.gz) does not exist" in capsys.readouterr().err
    assert run_main("refine", "https://example.org/a.warc.gz", "--out", tmp_path / "out") == 1
    assert "--crawl.warc https://example.org/a.warc.gz --out CRAWL" in capsys.readouterr().err
    assert run_main("chat", tmp_path) == 1
    assert "no model in it" in capsys.readouterr().err
    assert run_main("chat", tmp_path / "absent") == 1
    assert "there is no such folder" in capsys.readouterr().err


def test_bytes_that_are_not_utf8_in_an_argument_are_said_and_shown(tmp_path, tokenizer, capsys):
    tokenizer.save(tmp_path)
    assert run_main("tokens", tmp_path, "caf\udce9") == 0  # as Python takes a Latin-1 é from the shell
    said = capsys.readouterr()
    assert "the text is not UTF-8" in said.err
    assert "tokens" in said.out
    assert run_main("tokens", tmp_path, "café") == 0
    assert capsys.readouterr().err == ""


def test_a_tilde_that_the_shell_left_is_the_home_folder(tmp_path, tokenizer, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    tokenizer.save(tmp_path / "tokenizer")
    assert run_main("tokens", "~/tokenizer", "text") == 0
    (tmp_path / "texts.txt").write_text("".join(f"{i} Of the miller and the river.\n\n" for i in range(60)))
    lists = ["--positive", "~/texts.txt", "--negative", "~/texts.txt"]
    assert run_main("classify", *lists, "--out=~/model") == 0
    assert (tmp_path / "model").is_dir()
    assert not (tmp_path / "~").exists()


def test_a_stage_works_alone_on_ordinary_files(tmp_path, capsys):
    (tmp_path / "texts").mkdir()
    for i in range(60):
        (tmp_path / "texts" / f"{i}.txt").write_text(f"Text {i} of the miller and the river. " * 10)
    out = tmp_path / "tokenizer"
    assert run_main("tokenizer", tmp_path / "texts", "--out", out, "--tokenizer.vocab_size", "300") == 0
    assert run_main("tokens", out, "the miller") == 0
    assert "bytes per token" in capsys.readouterr().out
    small = ["--pretrain.seq_len", 16, "--pretrain.batch_tokens", 64, "--pretrain.micro_batch_tokens", 64]
    small += ["--pretrain.depth", 1, "--pretrain.tokens", 640, "--pretrain.compile", "off"]
    model = tmp_path / "model"
    assert run_main("pretrain", tmp_path / "texts", out, "--out", model, *small) == 0
    assert run_main("generate", model, "Text 3", "--max-tokens", 5) == 0
    assert "Text 3" in capsys.readouterr().out
    assert run_main("generate", model, "Text 3 " * 40) == 1
    assert "the context takes 1 to 15" in capsys.readouterr().err
    assert run_main("generate", model, "x", "--top-p", 3) == 1
    assert "top_p = 3.0: must be from 0.000001 to 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "wrong"),
    [
        (["plan"], ["--cores", "0"]),
        (["plan"], ["--price", "nan"]),
        (["plan"], ["--flops", "inf"]),
        (["classify", "--out", "o"], ["--bits", "99"]),
        (["classify", "--out", "o"], ["--epochs", "0"]),
        (["classify", "--out", "o"], ["--seed", "-1"]),
        (["judge", "texts.jsonl", "--url", "http://h/v1", "--model", "m", "--out", "o"], ["--threads", "0"]),
        (["judge", "texts.jsonl", "--url", "http://h/v1", "--model", "m", "--out", "o"], ["--sample", "0"]),
        (["judge", "texts.jsonl", "--url", "http://h/v1", "--model", "m", "--out", "o"], ["--timeout", "soon"]),
    ],
)
def test_a_number_out_of_range_is_named_with_what_was_expected(command, wrong, capsys):
    with pytest.raises(SystemExit):
        run_main(*command, *wrong)
    assert f"argument {wrong[0]}: '{wrong[1]}': expected a " in capsys.readouterr().err
