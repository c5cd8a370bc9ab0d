"""Ray as a stage's engine: one task per shard, on the nodes of a cluster or of one started on this machine.

The cluster is the one that the environment variable RAY_ADDRESS names ("host:port", or "auto" on one of its nodes).
Every node needs this package in the same version, and inputs and outputs under the same paths.
"""

import contextlib
import importlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

from crawl2chat.parallel.workers import Died, Failed, Outcome, Result, error_text
from crawl2chat.stages.files import StageError

ANSWER_SECONDS = 30  # in which a cluster must answer
OBJECT_STORE_BYTES = 100_000_000  # of a cluster of our own: shards are files, so nothing large passes through it


@contextlib.contextmanager
def ray_running(cores: int) -> Iterator[None]:
    """Join the cluster RAY_ADDRESS names, or start one of `cores` on this machine; leave or end it afterwards.

    Within another such block, or where the program runs Ray already, nothing happens.
    Raises StageError if Ray is not installed or the cluster does not answer.
    """
    address = os.environ.get("RAY_ADDRESS", "")
    ray = _import_ray(alone=not address)
    if ray.is_initialized():
        yield
        return
    quiet = {"log_to_driver": False, "logging_level": "ERROR", "include_dashboard": None if address else False}
    with contextlib.ExitStack() as stack:
        try:
            if address:
                _check_answers()
                ray.init(address=address, **quiet)
            else:
                folder = stack.enter_context(_short_folder())
                ray.init(
                    "local", num_cpus=cores, num_gpus=0, object_store_memory=OBJECT_STORE_BYTES,
                    _temp_dir=folder, **quiet,
                )  # fmt: skip
        except (OSError, RuntimeError, ValueError, TimeoutError) as error:
            where = f"the Ray cluster at RAY_ADDRESS={address}" if address else "a Ray cluster on this machine"
            raise StageError(f"{where}: {error}") from error
        stack.callback(ray.shutdown)
        stack.enter_context(contextlib.redirect_stdout(sys.stderr))  # where Ray's words on dead workers belong
        nodes = node_cores()
        print(f"Ray: {sum(nodes)} cores, {len(nodes)} node(s)" + (f" at {address}" if address else ""), file=sys.stderr)
        yield


def node_cores() -> list[int]:
    """Cores of each node of the running cluster that may be given to tasks."""
    ray = importlib.import_module("ray")  # which has no types
    return [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]


class RayTasks:
    """Calls a function on items, each in a Ray task that takes `cores` of a node; otherwise like `WorkerPool`."""

    def __init__(self, function: Callable[[Any], None], cores: int) -> None:
        import ray

        self.ray = ray
        # tried again by our caller, which can say which item it was
        self.task = ray.remote(num_cpus=cores, max_retries=0)(_attempt)
        self.function = ray.put(function)
        self.busy: dict[Any, Any] = {}

    def submit(self, item: Any) -> None:
        """Begin with an item."""
        self.busy[self.task.remote(self.function, item)] = item

    def wait(self) -> list[Outcome]:
        """Return the outcomes of tasks that are over, at least one; blocks until then."""
        ready, _ = self.ray.wait(list(self.busy))
        return [self._outcome(task) for task in ready]

    def stop(self) -> None:
        """End all tasks, at work or not."""
        for task in self.busy:
            self.ray.cancel(task, force=True)

    def _outcome(self, task: Any) -> Outcome:
        item = self.busy.pop(task)
        try:
            error = self.ray.get(task)
            return Failed(None, item, error) if error else Result(None, item)
        except self.ray.exceptions.RayTaskError as error:  # not of the function: of a node without this package
            return Failed(None, item, str(error))
        except self.ray.exceptions.RayError as error:
            return Died(None, item, f"{type(error).__name__}: {str(error).partition('. ')[0]}")


def _attempt(function: Callable[[Any], None], item: Any) -> str | None:
    """In a Ray worker: the function's error, or None."""
    main = sys.modules["__main__"]
    file = main.__dict__.pop("__file__", None)  # or each process the function spawns would import Ray's worker first
    try:
        function(item)
    except Exception as error:
        return error_text(error)
    finally:
        main.__dict__["__file__"] = file
    return None


def _import_ray(alone: bool) -> Any:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # nothing is reported to anybody
    if alone:  # Ray's name for: only the loopback device, as on a Mac; it is read when Ray is imported
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    try:
        import ray
    except ImportError as error:
        raise StageError(
            f"engine ray: Ray can't be imported ({error}); install it with pip install 'crawl2chat[cluster]'"
        ) from error
    return ray


def _short_folder() -> tempfile.TemporaryDirectory[str]:
    """For Ray's sockets and logs; not below TMPDIR, as a socket's name has at most 107 bytes."""
    return tempfile.TemporaryDirectory(prefix="crawl2chat-", dir="/tmp", ignore_cleanup_errors=True)


def _check_answers() -> None:
    """Ray asks an address that does not answer for many minutes, so a process that can be ended tries it first."""
    command = [sys.executable, "-c", "import ray; ray.init(logging_level='ERROR', log_to_driver=False)"]
    try:
        tried = subprocess.run(command, capture_output=True, text=True, timeout=ANSWER_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise TimeoutError(f"no answer in {ANSWER_SECONDS} seconds") from error
    if tried.returncode:
        raise RuntimeError(tried.stderr.strip().rpartition("\n")[2])
