"""Full and read-only disks: one line with the file and what to do, and nothing that the same command can't mend."""

import contextlib
import errno
import os
import resource
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file
from warcs import page_record, write_warc

from crawl2chat.cli.main import main
from crawl2chat.evals.suites import suites
from crawl2chat.model import ModelConfig, Transformer
from crawl2chat.parallel.map_shards import map_shards
from crawl2chat.rl.preferences.store import Answer, RankingStore
from crawl2chat.stages import disks
from crawl2chat.stages.disks import check_writable, describe, storage_error
from crawl2chat.stages.files import StageError, atomic_write, atomic_write_shared
from crawl2chat.stages.stage import read_manifest
from crawl2chat.train.pretrain import save_stage_model

LIMIT = 1 << 16
BIG = 1 << 18


@contextlib.contextmanager
def files_limited():
    """No file may grow beyond LIMIT bytes; the writers fail as on a full disk, with another number."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def write_plain(path):
    path.write_bytes(bytes(BIG))


def write_numpy(path):
    with open(path, "wb") as file:
        np.save(file, np.zeros(BIG))


def write_raw_numpy(path):
    with open(path, "wb") as file:
        np.zeros(BIG).tofile(file)


def write_safetensors(path):
    save_file({"a": torch.zeros(BIG)}, path)


def write_parquet(path):
    pq.write_table(pa.table({"a": np.random.default_rng(0).random(BIG)}), path, compression="none")


def write_sqlite(path):
    database = sqlite3.connect(path)
    with database:
        database.execute("CREATE TABLE t (x)")
        database.execute("INSERT INTO t VALUES (?)", (bytes(BIG),))


WRITERS = [write_plain, write_numpy, write_raw_numpy, write_safetensors, write_parquet, write_sqlite]


@pytest.mark.parametrize("manager", [atomic_write, atomic_write_shared])
@pytest.mark.parametrize("write", WRITERS)
def test_whatever_library_writes_its_error_has_a_number_and_the_final_name(tmp_path, write, manager):
    target = tmp_path / "folder" / "file"
    with files_limited(), pytest.raises(OSError) as caught, manager(target) as temporary:  # noqa: PT011
        write(temporary)
    assert caught.value.errno in disks.PROBLEMS
    assert caught.value.filename == str(target)
    assert list(target.parent.iterdir()) == []


@pytest.mark.parametrize("write", WRITERS)
def test_a_file_in_a_folder_is_named_by_where_it_was_to_be(tmp_path, write):
    def nested():
        with atomic_write(tmp_path / "model") as folder:
            folder.mkdir()
            with atomic_write(folder / "part") as file:
                write(file)

    with files_limited(), pytest.raises(OSError) as caught:  # noqa: PT011
        nested()
    assert caught.value.filename == str(tmp_path / "model" / "part")


def test_an_error_that_is_not_about_storage_stays_what_it_is(tmp_path):
    with pytest.raises(ValueError, match="of its own"), atomic_write(tmp_path / "file"):
        raise ValueError("of its own")
    assert storage_error(ValueError("12 requested"), tmp_path) is None
    assert storage_error(ConnectionRefusedError(errno.ECONNREFUSED, "refused"), tmp_path) is None
    assert describe(PermissionError(errno.EPERM, "a signal, not a file")) is None


@pytest.mark.parametrize("number", disks.PROBLEMS)
def test_each_problem_is_one_line_with_its_file_and_what_to_do(number):
    line = describe(OSError(number, os.strerror(number), "runs/a/file"), goes_on=", it goes on from here")
    assert line.startswith("runs/a/file: ")
    assert "; " in line
    assert "\n" not in line


def test_a_full_disk_is_named_by_what_the_command_writes_and_others_by_the_file(tmp_path):
    full = OSError(errno.ENOSPC, "", str(tmp_path / "out" / "shards" / "1"))
    assert describe(full, tmp_path / "out").startswith(
        f"{tmp_path / 'out'}: no space left on device; free some and run"
    )
    denied = OSError(errno.EACCES, "", str(tmp_path / "out" / "shards" / "1"))
    assert describe(denied, tmp_path / "out").startswith(f"{tmp_path / 'out' / 'shards' / '1'}: permission denied; ")
    copied = OSError(errno.ENOSPC, "", "from", None, "to")
    assert describe(copied).startswith("to: ")


def fill(item: str, output: Path) -> None:
    raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT), str(output))


def test_an_error_of_storage_crosses_from_a_process(tmp_path):
    with pytest.raises(OSError) as caught:  # noqa: PT011
        map_shards(fill, [("a", tmp_path / "a"), ("b", tmp_path / "b")], label="test", workers=2)
    assert caught.value.errno == errno.EDQUOT
    assert Path(caught.value.filename).parent == tmp_path


def test_rankings_on_a_full_disk_say_so(tmp_path):
    store = RankingStore(tmp_path / "r.sqlite")
    answers = [Answer("x" * BIG, True, "a"), Answer("y", True, "a")]
    with files_limited(), pytest.raises(OSError) as caught:  # noqa: PT011
        store.add("p", answers, [0, 1], "me")
    assert caught.value.filename == str(tmp_path / "r.sqlite")
    store.add("p", answers, [0, 1], "me")
    assert len(list(store.rankings())) == 1


def test_what_can_not_be_written_is_said_before_the_work(tmp_path, tokenizer, monkeypatch, capsys):
    model = Transformer(ModelConfig(tokenizer.vocab_size, 16, 32, 1, 1, 1, 16, max_position_embeddings=64))
    model.init_weights(0)
    save_stage_model(model, tokenizer, tmp_path)
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(suites, "measure", lambda *given: pytest.fail("it measured"))
    out = tmp_path / "file" / "figures.json"
    command = ["eval", tmp_path / "model", "--suite", "arc", "--data", "arc.jsonl", "--out", out]
    assert main(list(map(str, command))) == 1
    told = capsys.readouterr().err
    assert str(tmp_path / "file") in told
    assert "Traceback" not in told
    monkeypatch.setattr("crawl2chat.cli.measure._load", lambda *given: pytest.fail("it loaded"))
    assert main(["compress", str(tmp_path / "model"), str(tmp_path / "file"), "--out", str(out)]) == 1
    assert str(tmp_path / "file") in capsys.readouterr().err


def test_an_error_of_another_kind_keeps_its_traceback(monkeypatch):
    def refuse(options):
        raise ConnectionRefusedError(errno.ECONNREFUSED, "refused")

    monkeypatch.setattr("crawl2chat.cli.data.tokens_command", refuse)
    with pytest.raises(ConnectionRefusedError):
        main(["tokens", "run", "text"])


def test_an_explained_error_is_not_taken_for_one_of_storage(tmp_path):
    with pytest.raises(StageError, match="can't be read"), atomic_write(tmp_path / "file"):
        raise StageError("in.safetensors: can't be read: I/O error (os error 5)")


def test_checking_leaves_nothing_and_changes_nothing(tmp_path):
    (tmp_path / "a").write_text("old")
    check_writable(tmp_path / "a")
    check_writable(tmp_path / "new" / "b")
    check_writable(Path())
    assert (tmp_path / "a").read_text() == "old"
    assert list((tmp_path / "new").iterdir()) == []


def run_cli(*arguments, stdout=subprocess.PIPE):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-m", "crawl2chat", *map(str, arguments)]
    return subprocess.run(
        command, env=environment, stdout=stdout, stderr=subprocess.PIPE, text=True, check=False, timeout=600
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_output_that_can_not_be_written_is_one_line(tmp_path, tokenizer):
    tokenizer.save(tmp_path)
    for text in ("short", "long " * 5000):  # written at the end, and meanwhile
        with open("/dev/full", "w") as full:
            done = run_cli("tokens", tmp_path, text, stdout=full)
        assert done.returncode == 1
        assert done.stderr.startswith("standard output: no space left on device; ")
        assert done.stderr.count("\n") == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_list_of_settings_that_can_not_be_written_is_one_line():
    with open("/dev/full", "w") as full:
        done = run_cli("refine", "--settings", stdout=full)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)


def test_a_command_whose_output_is_closed_does_its_work(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)  # as Python has it after >&-
    warc = write_warc(tmp_path / "a.warc.gz", [page_record(0)])
    assert main(["crawl", "--crawl.source", "warc", "--crawl.warc", str(warc), "--out", str(tmp_path / "out")]) == 0
    assert read_manifest(tmp_path / "out")


def test_a_folder_that_can_not_be_made_says_what_to_do(tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    warc = write_warc(tmp_path / "a.warc.gz", [page_record(0)])
    for out, what in (("file", "a file of this name is in the way"), ("n" * 300, "name too long")):
        arguments = ["crawl", "--crawl.source", "warc", "--crawl.warc", str(warc), "--out", str(tmp_path / out)]
        assert main(arguments) == 1
        assert f"{out}: {what}; name " in capsys.readouterr().err


def test_a_reader_that_has_seen_enough_is_no_error_to_talk_about(tmp_path, tokenizer):
    tokenizer.save(tmp_path)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-m", "crawl2chat", "tokens", tmp_path, "long " * 5000]
    writer = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    writer.stdout.readline()
    writer.stdout.close()
    assert writer.stderr.read() == b""
    writer.wait(600)


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 64 KiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.slow
def test_a_stage_on_a_full_or_read_only_disk_says_so_and_the_same_command_mends_it(small_disk, tmp_path):
    text = "\n\n".join(
        f"The miller of town {i} went down to the river, and the people had told her of it." for i in range(30)
    )
    pages = [page_record(i, f"{i}. {text}".replace("miller", f"miller{i}")) for i in range(40)]
    warc = write_warc(tmp_path / "a.warc.gz", pages)
    command = ["refine", warc, "--out", small_disk / "ref", "--refine.workers", "1"]
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(40 * 1024))
    done = run_cli(*command)
    assert done.returncode == 1, done.stderr
    assert f"{small_disk / 'ref'}: no space left on device; free some and run the same command again" in done.stderr
    assert "Traceback" not in done.stderr
    ballast.unlink()
    subprocess.run(["mount", "-o", "remount,size=16m", small_disk], check=True)
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    done = run_cli(*command)
    assert done.returncode == 1
    assert "read-only file system; name another place" in done.stderr
    assert "Traceback" not in done.stderr
    subprocess.run(["mount", "-o", "remount,rw", small_disk], check=True)
    assert run_cli(*command).returncode == 0
    assert run_cli("refine", warc, "--out", tmp_path / "ref", "--refine.workers", "1").returncode == 0
    assert read_manifest(small_disk / "ref").hash == read_manifest(tmp_path / "ref").hash
