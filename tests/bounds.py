"""The refine stage in a process of its own whose memory is bounded by the kernel, and what it left."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

PROGRAM = """
import json, resource, sys
from pathlib import Path
from crawl2chat.refine.settings import RefineSettings
from crawl2chat.refine.stage import refine

if __name__ == "__main__":
    crawl, out, memory, settings = sys.argv[1:]
    resource.setrlimit(resource.RLIMIT_DATA, (int(memory), int(memory)))
    refine(Path(crawl), Path(out), RefineSettings(**json.loads(settings)))
"""


@dataclass
class Refined:
    documents: list[dict[str, Any]]
    rejects: list[dict[str, Any]]
    funnel: dict[str, Any]
    said: str  # on the screen


def refine_bounded(crawl: Path, out: Path, memory: int, seconds: float, **settings: Any) -> Refined:
    """Refine with at most `memory` bytes of data in each process; fails the test after `seconds` by the clock."""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "OMP_NUM_THREADS": "1",
        "ARROW_DEFAULT_MEMORY_POOL": "system",  # as the command line sets it
    }
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(crawl), str(out), str(memory), json.dumps(settings)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds,
    )
    assert done.returncode == 0, done.stderr
    funnel = json.loads((out / "funnel.json").read_text())
    return Refined(_rows(out, "documents"), _rows(out, "rejects"), funnel, done.stderr)


def _rows(out: Path, table: str) -> list[dict[str, Any]]:
    return [row for file in sorted((out / table).iterdir()) for row in pq.read_table(file).to_pylist()]
