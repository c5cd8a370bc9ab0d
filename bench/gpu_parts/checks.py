"""The tests of what runs on a GPU, if pytest is installed."""

import importlib.util
import os
import re
import subprocess
import sys
import threading
from collections import Counter

from crawl2chat.stages.figures import Figure
from gpu_parts.job import Job, Row, Show, attempt
from gpu_parts.texts import REPOSITORY

OUTCOME = re.compile(r"(\S+::.+?) (PASSED|FAILED|ERROR|SKIPPED)\b")  # a line of pytest -v


def checks(job: Job, show: Show) -> None:
    if importlib.util.find_spec("pytest") is None:
        show(Row("tests", note="pytest is not installed"))
        return
    failed: list[str] = []
    show(attempt(job, "tests", lambda: run_tests(job, failed)))
    for name in failed:
        show(Row(name, error="failed"))


def run_tests(job: Job, failed: list[str]) -> list[Figure]:
    """Counts of the tests that ended in time. Those of tests/cuda need nothing that the other tests' fixtures do."""
    command = [
        sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--noconftest", "-o", "addopts=", "-v",
        "-m", "cuda" if job.device == "cuda" else "not cuda", "tests/cuda",
    ]  # fmt: skip
    path = os.pathsep.join([str(REPOSITORY / "src"), str(REPOSITORY / "tests"), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}
    counts: Counter[str] = Counter()
    with subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, text=True) as pytest:
        timer = threading.Timer(max(1.0, job.left()), pytest.kill)
        timer.start()
        assert pytest.stdout
        for line in pytest.stdout:
            print(line, end="", file=sys.stderr, flush=True)
            if found := OUTCOME.match(line):
                counts[found[2]] += 1
                if found[2] in ("FAILED", "ERROR"):
                    failed.append(found[1])
        timer.cancel()
    if not counts and pytest.returncode >= 0:
        raise RuntimeError(f"pytest ran no test and ended with exit code {pytest.returncode}")
    figures = [Figure(name, counts[name.upper()]) for name in ("passed", "failed", "error", "skipped")]
    return [*figures, Figure("cut_off", float(pytest.returncode < 0))]
