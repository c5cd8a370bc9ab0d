"""Nothing that somebody made is replaced without a word: what a run keeps, announces, moves aside and deletes."""

import json
import shutil
from pathlib import Path

import pytest
from models import random_model

from crawl2chat.cli.main import main
from crawl2chat.model import save_model
from crawl2chat.stages.files import StageError, write_json
from crawl2chat.stages.pipeline import Recipe, announce, plan_steps
from crawl2chat.stages.settings import Settings
from crawl2chat.stages.stage import MANIFEST, REPLACED, Manifest, Stage, prune, read_manifest, run_stage

TINY = """
until = "tokenizer"
[crawl.tinyweb]
people = 10
passages_per_level = 1
passage_levels = 2
glossaries = 2
word_games = 2
phrase_books = 2
interviews = 2
stories = 4
verses = 3
worked_sums = 10
direct_sums = 10
held_out_sums = 6
junk_pages = 12
personal_pages = 2
strangers = 10
looked_up = 10
[refine]
workers = 1
[tokenizer]
vocab_size = 400
"""
CHAT = '{"messages": [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hello."}]}\n'


class Words(Settings):
    word: str = "hello"


def say(out, settings):
    (out / "words.txt").write_text(settings.word)
    return []


STAGE = Stage("words", (), f"{__name__}:say")


def finish(
    folder: Path, stage: str, *, seconds: float = 1, made_by: str = "run", inputs: dict | None = None, **settings
):
    folder.mkdir(parents=True, exist_ok=True)
    manifest = Manifest(
        stage, settings, inputs or {}, {"model": "abc"}, {}, {}, "2026-01-02T03:04:05+0000", seconds, {}, made_by
    )
    write_json(folder / MANIFEST, vars(manifest))


def take_long(folder: Path) -> None:
    """Have a finished stage's manifest say that it took an hour."""
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(manifest | {"seconds": 3600.0}))


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory):
    place = tmp_path_factory.mktemp("tiny")
    (place / "tiny.toml").write_text(TINY)
    assert main(["run", str(place / "tiny.toml"), "--out", str(place / "run")]) == 0
    return place


@pytest.fixture
def run(finished_run, tmp_path):
    shutil.copytree(finished_run / "run", tmp_path / "run")

    def again(*flags: str) -> int:
        return main(["run", str(finished_run / "tiny.toml"), "--out", str(tmp_path / "run"), *flags])

    again.folder = tmp_path / "run"
    return again


def test_a_run_says_first_which_stages_it_makes_again_and_why(run, capsys):
    assert run("--refine.c4.min_sentences", "2") == 0
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "refine: finished, and will be made again, since these changed: settings.c4.min_sentences 5 → 2"
    assert said[1] == "tokenizer: finished, and will be made again if what it reads comes out different"


def test_an_unchanged_run_announces_nothing(run, capsys):
    assert run() == 0
    assert "will be made again" not in capsys.readouterr().err


def test_a_stage_made_by_its_own_command_stays_until_it_is_asked_for(run, capsys):
    out = run.folder / "tokenizer"
    command = ["tokenizer", str(run.folder / "refine"), "--out", str(out), "--tokenizer.vocab_size", "300"]
    assert main(command) == 0
    by_hand = (out / "tokenizer.json").read_bytes()
    capsys.readouterr()
    assert run() == 0
    assert (out / "tokenizer.json").read_bytes() == by_hand
    said = capsys.readouterr().err
    assert "tokenizer: made by hand" in said
    assert "settings.vocab_size 300 → 400" in said
    assert run("--from", "tokenizer") == 0
    assert (out / "tokenizer.json").read_bytes() != by_hand
    assert "tokenizer: finished, and will be made again, as asked" in capsys.readouterr().err


def test_a_stage_made_by_hand_with_the_recipes_settings_is_the_runs(run):
    out = run.folder / "tokenizer"
    command = ["tokenizer", str(run.folder / "refine"), "--out", str(out), "--tokenizer.vocab_size", "400", "--force"]
    assert main(command) == 0
    before = (out / MANIFEST).stat().st_mtime_ns
    assert run() == 0
    assert (out / MANIFEST).stat().st_mtime_ns == before


def test_work_that_took_long_is_moved_aside_and_pruned_when_asked(run, capsys):
    old = (run.folder / "tokenizer" / "tokenizer.json").read_bytes()
    take_long(run.folder / "tokenizer")
    assert run("--tokenizer.vocab_size", "300") == 0
    (aside,) = (run.folder / REPLACED).iterdir()
    assert aside.name.startswith("tokenizer-20")
    assert (aside / "tokenizer.json").read_bytes() == old
    assert str(aside) in capsys.readouterr().err
    assert run("--tokenizer.vocab_size", "300", "--prune") == 0
    assert not (run.folder / REPLACED).exists()
    assert "pruned: 1 replaced stages" in capsys.readouterr().err


def test_short_work_is_replaced_in_place(run):
    assert run("--tokenizer.vocab_size", "300") == 0
    assert not (run.folder / REPLACED).exists()


def test_a_killed_stage_that_had_worked_long_is_moved_aside(tmp_path):
    import os

    out = tmp_path / "words"
    out.mkdir()
    write_json(out / ".started.json", {"stage": "words", "settings": {"word": "bye"}, "inputs": {}})
    (out / "half.txt").write_text("an hour of work")
    began = (out / ".started.json").stat().st_mtime
    os.utime(out / "half.txt", (began + 3600, began + 3600))
    run_stage(STAGE, {}, out, Words())
    (aside,) = (tmp_path / REPLACED).iterdir()
    assert (aside / "half.txt").read_text() == "an hour of work"
    assert not (out / "half.txt").exists()


def test_prune_leaves_what_no_stage_wrote(tmp_path):
    finish(tmp_path / REPLACED / "sft-1", "sft")
    (tmp_path / REPLACED / "letters").mkdir()
    assert prune(tmp_path)[0] == 1
    assert (tmp_path / REPLACED / "letters").exists()


def names(steps) -> list[str]:
    return [step.stage.name for step in steps]


@pytest.fixture
def imported(tmp_path):
    finish(tmp_path / "run" / "pretrain", "import")
    (tmp_path / "chats.jsonl").write_text(CHAT)
    return tmp_path / "run"


def test_a_run_of_an_imported_model_crawls_only_what_is_read(imported, tmp_path):
    chats = str(tmp_path / "chats.jsonl")
    assert names(plan_steps(Recipe(conversations=chats, until="sft"), imported)) == ["pretrain", "sft"]
    assert names(plan_steps(Recipe(until="sft"), imported)) == ["crawl", "pretrain", "sft"]
    everything = names(plan_steps(Recipe(conversations=chats, until="honesty"), imported))
    assert everything == ["crawl", "refine", "pretrain", "sft", "honesty"]


def test_a_run_without_pages_begins_with_an_imported_model_and_searches_in_nothing(imported, tmp_path):
    chats = str(tmp_path / "chats.jsonl")
    recipe = Recipe.model_validate(
        {"questions": chats, "until": "honesty", "model": "tiny.gguf", "crawl": {"source": "none"}}
    )
    steps = plan_steps(recipe, imported)
    assert names(steps) == ["pretrain", "honesty"]
    assert set(steps[-1].inputs) == {"questions", "pretrain"}
    with pytest.raises(StageError, match="holds no imported model"):
        plan_steps(recipe, tmp_path / "empty")


def test_pages_of_ones_own_are_crawled_and_refined_though_nothing_reads_them(imported, tmp_path):
    (tmp_path / "my.warc").write_bytes(b"WARC/1.0\r\n")
    recipe = Recipe.model_validate({
        "conversations": str(tmp_path / "chats.jsonl"), "until": "sft",
        "crawl": {"source": "warc", "warc": [str(tmp_path / "my.warc")]},
    })  # fmt: skip
    assert names(plan_steps(recipe, imported)) == ["crawl", "refine", "pretrain", "sft"]


def test_what_follows_a_stage_made_by_hand_is_made_from_it(tmp_path):
    finish(tmp_path / "pretrain", "pretrain", made_by="command")
    steps = plan_steps(Recipe(until="base"), tmp_path)
    assert names(steps) == ["crawl", "refine", "pretrain", "base"]
    (line,) = announce(steps)
    assert line.startswith("pretrain: made by hand")


def test_a_model_tuned_by_hand_on_an_imported_one_survives_a_run(tokenizer, tmp_path, capsys):
    pytest.importorskip("tokenizers")
    checkpoint, folder, chats = tmp_path / "theirs", tmp_path / "run", tmp_path / "chats.jsonl"
    save_model(random_model("tied", tokenizer.vocab_size), checkpoint, stop_ids=[1], pad_id=0)
    tokenizer.save(checkpoint)
    chats.write_text(CHAT * 20)
    small = [
        "--sft.seq_len",
        "32",
        "--sft.batch_tokens",
        "64",
        "--sft.micro_batch_tokens",
        "64",
        "--sft.compile",
        "off",
    ]
    assert main(["import", str(checkpoint), "--out", str(folder)]) == 0
    by_hand = ["sft", str(chats), str(folder / "pretrain"), "--out", str(folder / "sft"), "--sft.epochs", "4", *small]
    assert main(by_hand) == 0
    made = read_manifest(folder / "sft")
    whole = ["run", "--out", str(folder), "--conversations", str(chats), "--until", "sft", *small]
    assert main(whole) == 0
    assert read_manifest(folder / "sft") == made
    assert sorted(path.name for path in folder.iterdir() if path.is_dir()) == ["pretrain", "sft"]
    assert "sft: made by hand" in capsys.readouterr().err
    assert main([*whole, "--from", "sft"]) == 0
    assert read_manifest(folder / "sft").hash != made.hash
