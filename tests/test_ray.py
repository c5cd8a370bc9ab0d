import os
import signal
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from test_shards import always_die, die_once, fail_on_b, shards, wait_until, write_folder
from warcs import http, page_record, prose, record, write_warc

from crawl2chat.parallel.map_shards import engine_running, map_shards, node_cores, split_cores
from crawl2chat.refine.settings import RefineSettings
from crawl2chat.stages.files import StageError
from crawl2chat.stages.pipeline import find_stage
from crawl2chat.stages.stage import Manifest, run_stage

pytest.importorskip("ray", reason="Ray is missing: pip install 'crawl2chat[cluster]'")
pytestmark = pytest.mark.slow  # starting a cluster takes seconds

HANGING = b"<html><body>" + b"<div>" * 20_000 + b"text" + b"</div>" * 20_000  # 13 s in resiliparse
# an extractor that can hang, and deduplication in many parts
LOCALLY = RefineSettings(extractor="resiliparse", extract_seconds=1, partition_mb=0.05)
ON_RAY = LOCALLY.model_copy(update={"engine": "ray"})
QUIET_NODE = {"include_dashboard": False, "object_store_memory": 100_000_000}


def write_node(begun: str, output: Path) -> None:
    """Takes so long that every node is given a shard; says before where it is at work."""
    import ray

    node = ray.get_runtime_context().get_node_id()
    Path(begun).write_text(node)
    time.sleep(1)
    output.write_text(node)


@pytest.fixture(scope="module")
def environment():
    """What Ray's processes need to find these tests, and nothing of a cluster outside."""
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory(dir="/tmp") as short_name:
        patch.setenv("RAY_TMPDIR", short_name)
        patch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)]))
        patch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # all on the loopback device
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.delenv("RAY_ADDRESS", raising=False)
        yield patch


@pytest.fixture(scope="module")
def two_nodes(environment):
    """A real cluster: two nodes with a core and two, joined for the whole module."""
    from ray.cluster_utils import Cluster

    soon_missed = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 1000}
    cluster = Cluster(initialize_head=True, head_node_args=QUIET_NODE | {"num_cpus": 1, "_system_config": soon_missed})
    try:
        cluster.add_node(num_cpus=2, object_store_memory=100_000_000)
        environment.setenv("RAY_ADDRESS", cluster.address)
        with engine_running("ray"):
            yield cluster
    finally:
        environment.delenv("RAY_ADDRESS", raising=False)
        cluster.shutdown()


@pytest.fixture(scope="module")
def crawled(tmp_path_factory) -> Path:
    """Four WARCs of 60 pages; one page hangs."""
    folder = tmp_path_factory.mktemp("crawl")
    for i in range(4):
        pages = [page_record(n, prose(n, 24)) for n in range(60 * i, 60 * i + 60)]
        if i == 1:
            pages.insert(30, record(http(HANGING), "https://example.org/hangs"))
        write_warc(folder / f"{i}.warc.gz", pages)
    return folder


@pytest.fixture(scope="module")
def refined_locally(crawled, tmp_path_factory) -> Manifest:
    return refine(crawled, tmp_path_factory.mktemp("local") / "refine", LOCALLY)


def refine(crawl: Path, out: Path, settings: RefineSettings) -> Manifest:
    manifest, _ = run_stage(find_stage("refine"), {"crawl": crawl}, out, settings)
    return manifest


def test_a_cluster_of_its_own_gives_the_same_and_ends_with_the_stage(environment, crawled, refined_locally, tmp_path):
    import ray

    assert not ray.is_initialized()
    on_ray = refine(crawled, tmp_path / "refine", ON_RAY)
    assert on_ray.hash == refined_locally.hash
    assert not ray.is_initialized()
    hanging = [row for row in rows(tmp_path / "refine" / "rejects") if row["url"].endswith("/hangs")]
    assert [(row["step"], row["reason"]) for row in hanging] == [("extract", "timeout")]


def test_without_ray_an_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(StageError, match=r"pip install 'crawl2chat\[cluster\]'"), engine_running("ray"):
        pass


def test_an_address_that_does_not_answer_is_an_error_in_bounded_time(monkeypatch, environment):
    monkeypatch.setattr("crawl2chat.parallel.ray.ANSWER_SECONDS", 3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setenv("RAY_ADDRESS", address)
        with pytest.raises(StageError, match=f"RAY_ADDRESS={address}: no answer in 3 seconds"), engine_running("ray"):
            pass


def test_an_address_that_is_none_is_told(monkeypatch, environment):
    monkeypatch.setenv("RAY_ADDRESS", "nowhere")
    with pytest.raises(StageError, match=r"RAY_ADDRESS=nowhere: .*nowhere"), engine_running("ray"):
        pass


def test_shards_are_made_on_all_nodes(two_nodes, tmp_path):
    assert sorted(node_cores("ray")) == [1, 2]
    assert split_cores("ray", 0, 100) == (3, 1)
    assert split_cores("ray", 0, 1) == (1, 2)
    items = [(str(tmp_path / f"{name}.begun"), tmp_path / name) for name in "abcdef"]
    map_shards(write_node, items, label="test", engine="ray")
    assert len({path.read_text() for _, path in items}) == 2


def test_an_exception_names_the_shard_and_leaves_no_half_output(two_nodes, tmp_path):
    with pytest.raises(StageError, match=r"test: shard b failed: ValueError: no b today"):
        map_shards(fail_on_b, shards(tmp_path), label="test", engine="ray")
    assert not (tmp_path / "b").exists()


def test_a_worker_that_is_killed_costs_a_retry(two_nodes, tmp_path, capsys):
    items = [((name, str(tmp_path / f"{name}.died")), tmp_path / name) for name in "ab"]
    map_shards(die_once, items, label="test", engine="ray")
    assert (tmp_path / "a").read_text() == "a"
    assert (tmp_path / "b").read_text() == "b"
    assert capsys.readouterr().err.count("it is tried again") == 2


def test_a_shard_that_kills_every_worker_is_given_up_by_name(two_nodes, tmp_path):
    with pytest.raises(StageError, match=r"shard a: its process died 3 times, last with WorkerCrashedError"):
        map_shards(always_die, shards(tmp_path, "a"), label="test", engine="ray")
    map_shards(write_folder, shards(tmp_path, "b"), label="test", engine="ray")  # the cluster lives on


def test_a_worker_killed_in_the_middle_costs_no_page(two_nodes, crawled, refined_locally, tmp_path, capsys):
    killed: list[int] = []
    end = time.monotonic() + 300

    def kill_a_worker_at_work() -> None:
        while not killed and time.monotonic() < end:
            begun = list((tmp_path / "refine").glob("shards/.*.tmp/documents.parquet"))
            workers = ray_workers() if begun else []
            if workers:
                os.kill(workers[0], signal.SIGKILL)
                killed.append(workers[0])
            time.sleep(0.01)

    thread = threading.Thread(target=kill_a_worker_at_work)
    thread.start()
    on_ray = refine(crawled, tmp_path / "refine", ON_RAY)
    thread.join()
    assert killed
    assert "it is tried again" in capsys.readouterr().err
    assert on_ray.hash == refined_locally.hash


def test_a_node_that_is_lost_costs_a_retry(two_nodes, tmp_path, capsys):
    lost = two_nodes.add_node(num_cpus=2, object_store_memory=100_000_000)
    two_nodes.wait_for_nodes()
    items = [(str(tmp_path / f"{name}.begun"), tmp_path / name) for name in "abcdefgh"]

    def lose_the_node_at_work() -> None:
        wait_until(lambda: any(path.read_text() == lost.node_id for path in tmp_path.glob("*.begun")))
        two_nodes.remove_node(lost, allow_graceful=False)

    thread = threading.Thread(target=lose_the_node_at_work)
    thread.start()
    map_shards(write_node, items, label="test", engine="ray")
    thread.join()
    assert "NodeDiedError" in capsys.readouterr().err
    assert all(path.exists() for _, path in items)


def ray_workers() -> list[int]:
    """Processes below this one that are at work on a Ray task, which they say in their name."""
    children: dict[int, list[int]] = {}
    at_work = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            name = (folder / "cmdline").read_bytes()
        except OSError:  # ended meanwhile
            continue
        children.setdefault(parent, []).append(int(folder.name))
        if name.startswith(b"ray::_attempt"):
            at_work.add(int(folder.name))
    below, found = [os.getpid()], []
    while below:
        process = below.pop()
        below += children.get(process, [])
        if process in at_work:
            found.append(process)
    return found


def rows(folder: Path) -> list[dict]:  # type: ignore[type-arg]
    return [row for file in sorted(folder.iterdir()) for row in pq.read_table(file).to_pylist()]
