import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from crawl2chat.parallel.map_shards import map_shards, split_cores
from crawl2chat.parallel.workers import Worker
from crawl2chat.stages.files import StageError, atomic_write_shared

# At module level: a spawned process imports this file to find them.


def write_text(item: str, output: Path) -> None:
    output.write_text(item)


def write_folder(item: str, output: Path) -> None:
    output.mkdir()
    (output / "a").write_text(item)


def fail_on_b(item: str, output: Path) -> None:
    if item == "b":
        raise ValueError("no b today")
    output.write_text(item)


def die_once(item: tuple[str, str], output: Path) -> None:
    name, died = item
    if not Path(died).exists():
        Path(died).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    output.write_text(name)


def half_write_and_die_once(died: str, output: Path) -> None:
    output.mkdir()
    if not Path(died).exists():
        Path(died).touch()
        os.kill(os.getpid(), signal.SIGKILL)


def always_die(item: str, output: Path) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def write_process_and_wait(item: str, output: Path) -> None:
    Path(item).write_text(str(os.getpid()))
    time.sleep(60)


def shards(tmp_path: Path, names: str = "abc") -> list[tuple[str, Path]]:
    return [(name, tmp_path / name) for name in names]


@pytest.mark.parametrize("function", [write_text, write_folder])
def test_every_shard_is_written_once_complete(tmp_path, function):
    map_shards(function, shards(tmp_path), label="test", workers=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "c"]
    file = tmp_path / "b" if function is write_text else tmp_path / "b" / "a"
    assert file.read_text() == "b"


def test_finished_shards_are_not_made_again(tmp_path):
    (tmp_path / "a").write_text("made before")
    map_shards(write_text, shards(tmp_path), label="test", workers=1)
    assert (tmp_path / "a").read_text() == "made before"
    assert (tmp_path / "c").read_text() == "c"


def test_an_exception_names_the_shard_and_leaves_no_half_output(tmp_path):
    with pytest.raises(StageError, match=r"test: shard b failed: ValueError: no b today"):
        map_shards(fail_on_b, shards(tmp_path), label="test", workers=1)
    assert not (tmp_path / "b").exists()


def test_a_process_that_is_killed_costs_a_retry(tmp_path, capsys):
    items = [((name, str(tmp_path / f"{name}.died")), tmp_path / name) for name in "ab"]
    map_shards(die_once, items, label="test", workers=2)
    assert (tmp_path / "a").read_text() == "a"
    assert (tmp_path / "b").read_text() == "b"
    assert capsys.readouterr().err.count("its process died with exit code -9") == 2


def test_what_dead_processes_left_is_removed(tmp_path):
    map_shards(half_write_and_die_once, [(str(tmp_path / "died"), tmp_path / "a")], label="test", workers=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "died"]


def test_of_two_makers_of_a_folder_the_first_stays(tmp_path):
    with atomic_write_shared(tmp_path / "a") as late:
        late.mkdir()
        with atomic_write_shared(tmp_path / "a") as early:
            early.mkdir()
            (early / "from").write_text("early")
        (late / "from").write_text("late")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a" / "from").read_text() == "early"


@pytest.mark.parametrize(
    ("nodes", "workers", "n_shards", "at_once", "each"),
    [
        ([8], 0, 100, 8, 1),
        ([8], 0, 3, 3, 2),
        ([8], 0, 1, 1, 8),
        ([8], 2, 1, 1, 2),
        ([4, 4], 0, 1, 1, 4),  # a shard can't be spread over two nodes
        ([3, 3], 0, 3, 3, 1),  # nor would three times two cores fit
        ([4, 4, 0], 6, 2, 2, 3),
    ],
)
def test_few_shards_get_several_cores_each(monkeypatch, nodes, workers, n_shards, at_once, each):
    monkeypatch.setattr("crawl2chat.parallel.map_shards.node_cores", lambda engine: nodes)
    assert split_cores("ray", workers, n_shards) == (at_once, each)


def test_a_shard_that_kills_every_process_is_given_up_by_name(tmp_path):
    with pytest.raises(StageError, match=r"shard a: its process died 3 times, last with exit code -9"):
        map_shards(always_die, shards(tmp_path, "a"), label="test", workers=1)


def test_workers_die_with_the_process_that_started_them(tmp_path):
    program = (
        "import sys; from pathlib import Path; from test_shards import write_process_and_wait; "
        "from crawl2chat.parallel.map_shards import map_shards; "
        "map_shards(write_process_and_wait, [(sys.argv[1], Path(sys.argv[1] + '.out'))], label='test', workers=1)"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([*filter(None, sys.path), str(Path(__file__).parent)])}
    parent = subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "pid")], env=environment)
    wait_until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
    worker = int((tmp_path / "pid").read_text())
    parent.kill()
    parent.wait()
    wait_until(lambda: not is_running(worker))


def wait_until(condition, seconds: float = 300) -> None:  # type: ignore[no-untyped-def]
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{process}/stat")  # a zombie that init has not collected yet has ended too
    return not (stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z")


def threads_of(item: object) -> tuple[str | None, int]:
    return os.environ.get("OPENBLAS_NUM_THREADS"), os.getpid()


def test_a_worker_computes_in_one_thread_and_leaves_this_process_alone(monkeypatch):
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    worker = Worker(threads_of)
    try:
        worker.send(None)
        assert worker.receive()[0] == "1"
    finally:
        worker.stop()
    assert "OPENBLAS_NUM_THREADS" not in os.environ
