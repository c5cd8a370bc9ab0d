import fcntl
import json

import pytest

from crawl2chat.stages import figures
from crawl2chat.stages.files import StageError, atomic_write
from crawl2chat.stages.settings import Settings
from crawl2chat.stages.stage import ASKED, Stage, hash_path, read_manifest, run_stage

CALLS: list[str] = []


class Words(Settings):
    word: str = "hello"
    fail: bool = False


def copy_words(source, out, settings):
    """A stage: what `source` says and a word."""
    CALLS.append(settings.word)
    (out / "partial.txt").write_text("left by a stage that was killed")
    if settings.fail:
        raise KeyboardInterrupt
    (out / ASKED).write_text("answers of a model\n")
    (out / "words.txt").write_text(source.read_text() + settings.word)
    return [figures.share("kept", 3, 4)]


STAGE = Stage("words", ("source",), f"{__name__}:copy_words")


@pytest.fixture
def source(tmp_path):
    CALLS.clear()
    file = tmp_path / "source.txt"
    file.write_text("say ")
    return file


def run(source, tmp_path, *, force=False, **settings):
    return run_stage(STAGE, {"source": source}, tmp_path / "out", Words(**settings), force=force)


def test_a_stage_leaves_its_settings_inputs_outputs_and_figures(source, tmp_path):
    manifest, ran = run(source, tmp_path)
    assert ran
    written = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert written["settings"] == {"word": "hello", "fail": False}
    assert written["inputs"] == {"source": hash_path(source)}
    assert set(written["outputs"]) == {"words.txt", "partial.txt"}
    assert not (tmp_path / "out" / ASKED).exists(), "of use only until the stage is done"
    assert written["figures"]["kept"] == {
        "value": 0.75, "unit": "share", "interval": list(figures.wilson_interval(3, 4)), "count": 4,
    }  # fmt: skip
    assert read_manifest(tmp_path / "out") == manifest


def test_the_same_settings_and_inputs_are_skipped(source, tmp_path):
    first, _ = run(source, tmp_path)
    again, ran = run(source, tmp_path)
    assert (again, ran, CALLS) == (first, False, ["hello"])


def test_a_setting_that_is_new_since_then_counts_only_where_it_is_not_the_default(source, tmp_path):
    run(source, tmp_path)
    manifest = tmp_path / "out" / "manifest.json"
    of_then = json.loads(manifest.read_text())
    del of_then["settings"]["fail"]
    manifest.write_text(json.dumps(of_then))
    _, ran = run(source, tmp_path)
    assert not ran
    with pytest.raises(KeyboardInterrupt):
        run(source, tmp_path, fail=True)
    started = tmp_path / "out" / ".started.json"
    of_then = json.loads(started.read_text())
    del of_then["settings"]["word"]
    started.write_text(json.dumps(of_then))
    (tmp_path / "out" / "left.txt").write_text("by a stage that was killed")
    with pytest.raises(KeyboardInterrupt):
        run(source, tmp_path, fail=True)
    assert (tmp_path / "out" / "left.txt").exists()


@pytest.mark.parametrize("change", ["settings", "input", "force"])
def test_anything_new_runs_it_anew_in_an_empty_folder(source, tmp_path, change):
    run(source, tmp_path)
    (tmp_path / "out" / "stale.txt").write_text("of the run before")
    if change == "input":
        source.write_text("shout ")
    _, ran = run(source, tmp_path, force=change == "force", word="bye" if change == "settings" else "hello")
    assert ran
    assert not (tmp_path / "out" / "stale.txt").exists()


def test_an_interrupted_stage_finds_what_it_left_unless_its_settings_changed(source, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(source, tmp_path, fail=True)
    assert read_manifest(tmp_path / "out") is None
    (tmp_path / "out" / "partial.txt").write_text("mine")
    with pytest.raises(KeyboardInterrupt):
        run(source, tmp_path, fail=True)
    assert (tmp_path / "out" / "partial.txt").exists()
    (tmp_path / "out" / "extra.txt").write_text("of other settings")
    run(source, tmp_path)
    assert not (tmp_path / "out" / "extra.txt").exists()


def test_a_folder_of_somebody_else_is_never_emptied(source, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("ten years of work")
    with pytest.raises(StageError, match="holds files that no stage wrote"):
        run(source, tmp_path)
    assert (tmp_path / "out" / "thesis.txt").exists()


def test_an_unfinished_stage_is_no_input(source, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(source, tmp_path, fail=True)
    with pytest.raises(StageError, match="has not finished"):
        run_stage(STAGE, {"source": tmp_path / "out"}, tmp_path / "next", Words())


def test_a_missing_input_is_named(tmp_path):
    with pytest.raises(StageError, match=r"words: its input source \(.*absent\) does not exist"):
        run(tmp_path / "absent", tmp_path)


def test_an_output_that_is_an_input_is_refused_and_left_alone(source, tmp_path):
    run(source, tmp_path)
    out = tmp_path / "out"
    for folder in (out, out / "within", tmp_path):
        with pytest.raises(StageError, match="must be different folders"):
            run_stage(STAGE, {"source": out}, folder, Words())
    assert (out / "words.txt").exists()


def test_a_folder_of_another_stage_is_not_emptied(source, tmp_path):
    run(source, tmp_path)
    other = Stage("other", ("source",), STAGE.function)
    with pytest.raises(StageError, match="is a folder of the stage words"):
        run_stage(other, {"source": source}, tmp_path / "out", Words())
    assert (tmp_path / "out" / "words.txt").exists()


def test_settings_of_how_it_runs_do_not_make_a_stage_run_anew(source, tmp_path):
    class Tuned(Words):
        RUNTIME_ONLY = frozenset({"cores"})
        cores: int = 1

    run_stage(STAGE, {"source": source}, tmp_path / "out", Tuned())
    manifest, ran = run_stage(STAGE, {"source": source}, tmp_path / "out", Tuned(cores=8))
    assert not ran
    assert manifest.machine["settings"] == {"cores": 1}


def test_a_file_that_settings_name_counts_as_an_input(source, tmp_path, capsys):
    for content, runs in (("a", True), ("a", False), ("b", True)):
        inputs, out = {"source": source}, tmp_path / "out"
        assert run_stage(STAGE, inputs, out, Words(), outside={"list": content})[1] == runs
    assert "made again, since these changed: inputs.list" in capsys.readouterr().err


@pytest.mark.parametrize("leftover", [".manifest.json.tmp", ".words.txt.tmp", "..started.json.tmp"])
def test_what_a_kill_left_half_written_is_swept_away(source, tmp_path, leftover):
    undisturbed, _ = run(source, tmp_path)
    other = tmp_path / "other"
    if leftover == "..started.json.tmp":
        other.mkdir()
    else:
        with pytest.raises(KeyboardInterrupt):
            run_stage(STAGE, {"source": source}, other, Words(fail=True))
        (other / ".started.json").write_text((other / ".started.json").read_text().replace("true", "false"))
    (other / leftover).write_text("half a fi")
    manifest, _ = run_stage(STAGE, {"source": source}, other, Words())
    assert manifest.hash == undisturbed.hash
    assert not (other / leftover).exists()


def test_two_processes_do_not_share_a_folder(source, tmp_path):
    (tmp_path / "out").mkdir()
    with open(tmp_path / "out" / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(StageError, match="another crawl2chat process"):
            run(source, tmp_path)


def test_a_failed_write_leaves_the_old_file(tmp_path):
    file = tmp_path / "value.txt"
    file.write_text("old")

    def fail():
        with atomic_write(file) as temporary:
            temporary.write_text("half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fail()
    assert file.read_text() == "old"
