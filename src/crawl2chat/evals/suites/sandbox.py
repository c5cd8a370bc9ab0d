"""The sandbox: Python programs that a model wrote run here, and can harm nothing.

A program has no network; it sees the system's and Python's own files, read-only, and nothing else of the machine: no
home, no other process, no environment, no open file. It writes only into an empty folder in memory, gone when it ends.
Time, processor time, memory, processes, and the size of files, of the folder and of what it prints are limited, and
whatever it started ends with it. `way` is how: namespaces of Linux (5.12 or later) that we make ourselves, or
bubblewrap where those are denied to others. Where there is neither, nothing is run, and `SandboxMissing` says why.

CRAWL2CHAT_SANDBOX=limits, for use in a container of your own, runs programs with the limits alone: they can
then read and write what their user can, and use the network.

What this is not: a wall against a fault in the kernel; and a program can find out how its end is reported, and report
it early. Put a virtual machine around models that you take for an enemy.
"""

import contextlib
import functools
import json
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
from typing import Literal

from crawl2chat.stages.files import StageError

Way = Literal["namespaces", "bubblewrap", "limits"]
VARIABLE = "CRAWL2CHAT_SANDBOX"
LAUNCHER = Path(__file__).with_name("sandbox_launcher.py")
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc/ld.so.cache", "/etc/localtime")
FOLDER = "/sandbox"  # the only place where a program can write
NOBODY = "65534"
SHOWN = 2000  # bytes of what it wrote last to stderr


class SandboxMissing(StageError):
    """No program can be contained here."""


@dataclass(frozen=True)
class Limits:
    """What a program may use."""

    seconds: float = 5.0  # by the clock; of processor time the same, rounded up
    memory: int = 1 << 30  # bytes of address space, of each process
    file_size: int = 1 << 20  # bytes of any file, stdout and stderr, too
    folder_size: int = 16 << 20  # bytes of all that it keeps; they are memory as well
    processes: int = 4  # and threads, itself and its keeper among them


@dataclass(frozen=True)
class Outcome:
    """Whether a program came to its end without an exception, and what it wrote: all to stdout, the last to stderr."""

    passed: bool
    timed_out: bool
    stderr: str
    stdout: str = ""


def run_program(program: str, limits: Limits | None = None, *, shows_value: bool = False) -> Outcome:
    """Run a program's source. It is killed at its time limit, whatever it does, and with it all that it started.

    shows_value: print the value of an expression in its last line, as an interpreter does.
    Raises SandboxMissing where there is no sandbox.
    """
    limits, chosen = limits or Limits(), way()
    mark = secrets.token_hex(16)
    with _temporary_folder() as folder, _temporary_folder() as outside:
        given = _given(program, limits, chosen, mark, shows_value)
        stdin, stdout, stderr = outside / "stdin", outside / "stdout", outside / "stderr"
        stdin.write_text(given, encoding="utf-8", errors="replace")
        with open(stdin, "rb") as into, open(stdout, "wb") as out, open(stderr, "wb") as err:
            process = subprocess.Popen(
                [*_prefix(chosen, limits), sys.executable, "-I", str(LAUNCHER)],
                cwd=folder, stdin=into, stdout=out, stderr=err, start_new_session=True,
                env=_environment(chosen, folder),
            )  # fmt: skip
            try:
                process.wait(limits.seconds)
                timed_out = False
            except subprocess.TimeoutExpired:
                timed_out = True
            finally:
                _kill_group(process)
        printed = _read(stdout, 0)
        passed = printed.endswith(mark) and not timed_out
        return Outcome(passed, timed_out, _read(stderr, -SHOWN), printed.removesuffix(mark))


def run_programs(programs: Sequence[str], limits: Limits | None = None) -> list[Outcome]:
    """Several at a time, one per core."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(lambda program: run_program(program, limits), programs))


def way() -> Way:
    """Return how programs are contained here. Raises SandboxMissing, with what was tried, where they can't be."""
    if os.environ.get(VARIABLE) == "limits":
        return "limits"
    found, reasons = _find_way()
    if found is None:
        raise SandboxMissing(
            f"no sandbox for programs that a model wrote: {reasons}. Allow namespaces for users, or install "
            f"bubblewrap; in a container of your own, {VARIABLE}=limits runs them with limits alone"
        )
    return found


def isolated() -> bool:
    """Whether programs run behind walls, not with limits alone."""
    with contextlib.suppress(SandboxMissing):
        return way() != "limits"
    return False


@functools.cache
def _find_way() -> tuple[Way | None, str]:
    """The first way in which a program runs, or why none does."""
    reasons = []
    ways: tuple[Way, ...] = ("namespaces", "bubblewrap")
    for tried in ways:
        if reason := _try(tried):
            reasons.append(f"{tried}: {reason}")
        else:
            return tried, ""
    return None, "; ".join(reasons)


def _try(tried: Way) -> str | None:
    """Why a program can't be run in this way; None if it can."""
    if sys.platform != "linux":
        return "only Linux has it"
    if tried == "bubblewrap" and not shutil.which("bwrap"):
        return "bwrap is not installed"
    if tried == "bubblewrap" and os.geteuid() == 0:  # outside its namespace, which lets it write settings of the kernel
        return "as root its programs would be root's; run this as another user"
    given = _given("", Limits(), tried, "mark", False)
    with _temporary_folder() as folder:
        try:
            outcome = subprocess.run(
                [*_prefix(tried, Limits()), sys.executable, "-I", str(LAUNCHER)],
                input=given.encode(), capture_output=True, cwd=folder, env=_environment(tried, folder), timeout=20,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error)
    if outcome.returncode or outcome.stdout != b"mark":
        return (outcome.stderr.decode(errors="replace").strip().split("\n")[-1] or "it does not run")[-200:]
    return None


def _given(program: str, limits: Limits, chosen: Way, mark: str, shows_value: bool) -> str:
    """What the launcher reads."""
    # where processes of all programs of a user count together, none may start another
    processes = limits.processes if chosen != "limits" else 0
    return json.dumps({
        "way": chosen, "program": program, "mark": mark, "shows_value": shows_value,
        "folder_size": limits.folder_size, "visible": _visible(),
        "limits": {
            "CPU": int(-(-limits.seconds // 1)), "AS": limits.memory, "FSIZE": limits.file_size, "NPROC": processes,
        },
    })  # fmt: skip


def _visible() -> list[str]:
    """The system's files and Python's, each place once."""
    python = [
        sys.prefix,
        sys.base_prefix,
        str(LAUNCHER),
        str(Path(sys.executable).parent),
        os.path.realpath(sys.executable),
    ]
    places: list[str] = list(SYSTEM)
    for path in python:
        if not any(Path(path).is_relative_to(place) for place in places):
            places.append(path)
    return places


def _prefix(chosen: Way, limits: Limits) -> Sequence[str]:
    if chosen != "bubblewrap":
        return ()
    command = [
        "bwrap",
        "--unshare-all",
        "--as-pid-1",
        "--die-with-parent",
        "--new-session",
        "--cap-drop",
        "ALL",
        "--clearenv",
    ]
    command += ["--unshare-user", "--disable-userns", "--uid", NOBODY, "--gid", NOBODY]
    for path in _visible():
        command += ["--symlink", os.readlink(path), path] if os.path.islink(path) else ["--ro-bind-try", path, path]
    command += ["--proc", "/proc", "--dev", "/dev", "--remount-ro", "/dev"]
    command += ["--perms", "0700", "--size", str(limits.folder_size), "--tmpfs", FOLDER]
    for name, value in _environment(chosen, Path(FOLDER)).items():
        command += ["--setenv", name, value]
    return [*command, "--remount-ro", "/", "--chdir", FOLDER, "--"]


def _environment(chosen: Way, folder: Path) -> dict[str, str]:
    home = str(folder) if chosen == "limits" else FOLDER
    return {"PATH": os.defpath, "HOME": home, "TMPDIR": home, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


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


def _kill_group(process: "subprocess.Popen[bytes]") -> None:
    """All of its group, which may be there after it has ended itself."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        process.kill()
    process.wait()


def _read(file: Path, begin: int) -> str:
    """The file's text; from -n on the last n bytes."""
    with open(file, "rb") as handle:
        handle.seek(max(0, file.stat().st_size + begin) if begin < 0 else begin)
        return handle.read().decode("utf-8", errors="replace")
