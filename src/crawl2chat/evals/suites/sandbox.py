"""Running Python programs that a model wrote, so that none of them hangs, takes all memory, or outlives its test.

A program runs in an interpreter of its own (`python -I`), in an empty temporary folder, with limits on processor time,
memory, file size, open files and, unless it is root, on new processes and threads. It and all that it started in its
process group are killed when it ends or its time is up. Where Linux lets us make namespaces (`unshare`), it has no
network, and no process can leave the group and live on; `isolated()` says whether that is so.

What this is not: a wall against a program that means harm. It can read and write every file that the user who runs it
can, fill the disk with many small ones, as root fork without end until its time is up, and without namespaces use the
network. Put a container or a virtual machine around models you don't trust.
"""

import contextlib
import functools
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

NAMESPACES = ("unshare", "--user", "--map-root-user", "--net", "--pid", "--fork", "--kill-child")
SHOWN = 2000  # bytes of what it wrote last to stderr
# Limits are set within, since code between fork and exec is not safe next to other threads. What is last on stdout
# says that the program came to its end: an exit status says nothing of one that calls exit(0).
LAUNCHER = """
import resource, sys
seconds, memory, file_size, mark = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
for limit, value in (
    (resource.RLIMIT_CPU, seconds), (resource.RLIMIT_AS, memory), (resource.RLIMIT_FSIZE, file_size),
    (resource.RLIMIT_NOFILE, 64), (resource.RLIMIT_CORE, 0), (resource.RLIMIT_NPROC, 0),
):
    hard = resource.getrlimit(limit)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    try:
        resource.setrlimit(limit, (value, value))
    except (ValueError, OSError):  # macOS has no limit of address space
        pass
with open("program.py", encoding="utf-8") as file:
    program = file.read()
del sys.argv[1:]
stdout = sys.stdout  # the program may put another in its place
exec(compile(program, "program.py", "exec"), {"__name__": "__main__"})
stdout.flush()
stdout.buffer.raw.write(mark.encode())
"""


@dataclass(frozen=True)
class Limits:
    """What a program may use."""

    seconds: float = 5.0  # by the clock; of processor time the same, rounded up
    memory: int = 1 << 30  # bytes of address space
    file_size: int = 1 << 20  # bytes of any file, stdout and stderr, too


@dataclass(frozen=True)
class Outcome:
    """Whether a program came to its end without an exception, and if not, what it wrote last to stderr."""

    passed: bool
    timed_out: bool
    stderr: str


def run_program(program: str, limits: Limits | None = None) -> Outcome:
    """Run a program's source. It is killed at its time limit, whatever it does; then what it left behind is removed."""
    limits = limits or Limits()
    mark = secrets.token_hex(16)
    numbers = (int(-(-limits.seconds // 1)), limits.memory, limits.file_size)
    with _temporary_folder() as folder, _temporary_folder() as outside:
        (folder / "program.py").write_text(program, encoding="utf-8", errors="replace")
        stdout, stderr = outside / "stdout", outside / "stderr"
        with open(stdout, "wb") as out, open(stderr, "wb") as err:
            process = subprocess.Popen(
                [*_prefix(), sys.executable, "-I", "-c", LAUNCHER, *map(str, numbers), mark],
                cwd=folder, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True,
                env={"PATH": os.defpath, "HOME": str(folder), "TMPDIR": str(folder), "OMP_NUM_THREADS": "1"},
            )  # fmt: skip
            try:
                process.wait(limits.seconds)
                timed_out = False
            except subprocess.TimeoutExpired:
                timed_out = True
            finally:
                _kill_group(process)
        return Outcome(_tail(stdout).endswith(mark) and not timed_out, timed_out, _tail(stderr))


def run_programs(programs: Sequence[str], limits: Limits | None = None) -> list[Outcome]:
    """Several at a time, one a core."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(lambda program: run_program(program, limits), programs))


@functools.cache
def isolated() -> bool:
    """Whether programs run in namespaces: without network, and with no way to outlive their test."""
    if not shutil.which(NAMESPACES[0]):
        return False
    try:
        tried = subprocess.run([*NAMESPACES, sys.executable, "-I", "-c", ""], capture_output=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return tried.returncode == 0


@contextlib.contextmanager
def _temporary_folder() -> Iterator[Path]:
    folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
    try:
        yield Path(folder.name)
    finally:
        try:
            folder.cleanup()
        except RecursionError:  # a program may nest folders deeper than Python before 3.13 goes down
            subprocess.run(["rm", "-rf", folder.name], stderr=subprocess.DEVNULL)


def _prefix() -> Sequence[str]:
    return NAMESPACES if isolated() else ()


def _kill_group(process: "subprocess.Popen[bytes]") -> None:
    """All of its group, which may be there after it has ended itself."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        process.kill()
    process.wait()


def _tail(file: Path) -> str:
    with open(file, "rb") as handle:
        handle.seek(max(0, file.stat().st_size - SHOWN))
        return handle.read().decode("utf-8", errors="replace")
