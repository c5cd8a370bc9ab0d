"""Measure this code on a GPU in one command: tests, training, memory, generating, reinforcement learning.

    python bench/gpu.py [--minutes 8] [--out gpu.json] [--text FILE]
    python bench/gpu.py --device cpu --tiny     # toy sizes, to try the command on a laptop

It needs PyTorch, safetensors and a few small packages (NEEDS), and names those that are missing; crawl2chat need not
be installed, and no network is used. The part `tests` needs pytest; generating is compared with transformers if that is
installed.

Each part is a process of its own with a share of the minutes (SHARES); time that one does not use is left to the next
ones. A part that fails or takes too long leaves its rows so far, and its error. Each row is printed as soon as it is
measured, and --out is written again after it, so a run that is cut off loses only the row in progress. The output of
libraries and all tracebacks go to a file next to it (.log). The figures of a run belong in docs/results.md, with the
name of the card.
"""

import argparse
import importlib.util
import multiprocessing
import os
import platform
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

# what the parts of crawl2chat that are used here import; a test runs them without all else that is installed
NEEDS = ("torch", "safetensors", "numpy", "jinja2", "pydantic", "rich", "tiktoken", "xxhash")
if missing := [name for name in NEEDS if importlib.util.find_spec(name) is None]:
    sys.exit(
        f"bench/gpu.py: missing: {', '.join(missing)}. pip install {' '.join(missing)}\n"
        f"For a machine without a network: `pip download -d wheels {' '.join(missing)}` on another one, "
        f"and `pip install --no-index --find-links wheels {' '.join(missing)}` there."
    )

if TYPE_CHECKING:
    from gpu_parts.job import Job, Row, Show

SHARES = {"tests": 0.15, "speed": 0.28, "learning": 0.2, "decoding": 0.27, "policy": 0.1}  # of the minutes, in order
GRACE = 10.0  # seconds that a part may take longer than its share; it begins nothing new then


def part_of(name: str) -> "Callable[[Job, Show], None]":
    """Imported in the part's own process, so that an error of an import is that part's."""
    from gpu_parts import checks, decoding, policy, training

    parts = {
        "tests": checks.checks, "speed": training.speed, "learning": training.learning,
        "decoding": decoding.decoding, "policy": policy.policy,
    }  # fmt: skip
    return parts[name]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=8.0, help="time for all parts together (8)")
    parser.add_argument("--out", type=Path, default=Path("gpu.json"), metavar="FILE", help="JSON to write (gpu.json)")
    parser.add_argument("--text", type=Path, metavar="FILE", help="text to train on (default: this repository)")
    parser.add_argument("--parts", nargs="+", choices=SHARES, default=list(SHARES), help="parts to run (all)")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="where to compute (cuda)")
    parser.add_argument("--tiny", action="store_true", help="toy sizes, whose figures mean nothing")
    options = parser.parse_args()
    if options.device == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise SystemExit("bench/gpu.py: no CUDA GPU is here; --device cpu --tiny tries the command without one")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the part that runs is ended, too
    with tempfile.TemporaryDirectory(prefix="crawl2chat-gpu-") as folder:
        measure_all(options, Path(folder))


def measure_all(options: argparse.Namespace, folder: Path) -> None:
    from gpu_parts.job import TINY, Job, Sizes

    from crawl2chat.stages.files import write_json

    options.out.parent.mkdir(parents=True, exist_ok=True)
    log = options.out.with_suffix(".log")
    log.unlink(missing_ok=True)
    end = time.monotonic() + options.minutes * 60
    report: dict[str, Any] = {"machine": machine(options.device), "tiny": options.tiny, "minutes": options.minutes}
    report["parts"] = {}
    print(", ".join(f"{name} {value}" for name, value in report["machine"].items()), flush=True)
    for number, name in enumerate(options.parts):
        began = time.monotonic()
        to_share = sum(SHARES[later] for later in options.parts[number:])
        until = began + (end - began) * SHARES[name] / to_share
        place = folder / name
        place.mkdir()
        job = Job(options.device, TINY if options.tiny else Sizes(), place, options.text, until)
        rows = report["parts"][name] = {"seconds": 0.0, "rows": []}
        for row in run_part(name, job, log):
            print(line_of(name, row), flush=True)
            figures = {figure.name: figure.to_json() for figure in row.figures}
            rows["rows"].append({"what": row.what, "figures": figures, "note": row.note, "error": row.error})
            rows["seconds"] = round(time.monotonic() - began, 1)
            write_json(options.out, report)
    print(f"figures: {options.out}; output of libraries: {log}")


def machine(device: str) -> dict[str, str]:
    import torch

    found = {"device": platform.processor() or platform.machine(), "python": platform.python_version()}
    if device == "cuda":
        card = torch.cuda.get_device_properties()
        found["device"] = card.name
        found["memory"] = f"{card.total_memory / 1e9:.0f} GB"
        found["capability"] = f"{card.major}.{card.minor}"
        found["cuda"] = str(torch.version.cuda)
    found["torch"] = torch.__version__
    return found


def work(name: str, job: "Job", log: Path, rows: Connection) -> None:
    """In the part's process: send its rows, and None at the end."""
    from gpu_parts.job import Row

    os.setpgid(0, 0)
    with open(log, "a") as words:
        os.dup2(words.fileno(), 1)
        os.dup2(words.fileno(), 2)
    try:
        part_of(name)(job, rows.send)
    except Exception as error:
        traceback.print_exc()
        rows.send(Row(name, error=f"{type(error).__name__}: {error}"))
    rows.send(None)


def run_part(name: str, job: "Job", log: Path, work: Callable[..., None] = work) -> "Iterator[Row]":
    """The rows of a part as they come; an error row where its process ended before its work, or was ended."""
    from gpu_parts.job import Row

    ours, its = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("spawn").Process(target=work, args=(name, job, log, its))
    process.start()
    its.close()
    try:
        while ours.poll(max(0.0, job.left() + GRACE)):
            try:
                row: Row | None = ours.recv()
            except EOFError:
                process.join()
                yield Row(name, error=f"its process ended with exit code {process.exitcode}; see {log}")
                return
            if row is None:
                return
            yield row
        yield Row(name, error="its time was up in the middle of a measurement")
    finally:
        end_group(process)


def end_group(process: Any) -> None:
    """End a part and the processes that it started, such as those that compile."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:  # it is gone, or not yet far enough to lead a group
        process.kill()
    process.join()


def line_of(part: str, row: "Row") -> str:
    """A line of the table."""
    figures = "  ".join(f"{figure.name.replace('_', ' ')} {figure}" for figure in row.figures)
    said = ": ".join(filter(None, ("FAILED" * bool(row.error), row.error, row.note)))
    return f"{part:9} {row.what:42} {figures or said}"


if __name__ == "__main__":
    main()
