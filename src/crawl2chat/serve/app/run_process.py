"""Runs as processes of their own: how one is started, found again, followed by its files, and stopped.

A run outlives the app that started it. All that is known of it is in its folder: what was started and as which process
(RECORD), what it printed (LOG), and its exit status (STATUS).
"""

import contextlib
import fcntl
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, Field, FiniteFloat, ValidationError

from crawl2chat import STATUS_FILE
from crawl2chat.stages.files import StageError, write_json

RECORD, LOG, STATUS, LOCK = "process.json", "process.log", "process.status", ".process.lock"
TAIL_BYTES = 16_384  # of a log that are read
LINE_LENGTH = 500  # of a log's line that are shown
PROMPT = "$ "  # begins the line of a log that has the command
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")  # colours and the like

Text = Annotated[str, Field(max_length=4000, pattern=r"^[^\x00]*$")]  # arguments of a process have no NUL
SettingName = Annotated[str, Field(max_length=200, pattern=r"^[a-z][a-z0-9_]*(\.[a-z0-9_]+)*$")]
State = Literal["running", "stopping", "ended", "stopped", "failed", "interrupted"]


class Launch(BaseModel):
    """What was started in a run's folder, and as which process."""

    recipe: Text
    settings: dict[SettingName, Text]
    cwd: Text  # where the command was started; settings may name files from there
    command: str  # as it can be typed there
    began: FiniteFloat  # seconds since 1970
    pid: int = Field(0, ge=0)  # 0: not started yet
    started_at: str = ""  # by the system's clock, as `started_at` returns it
    signals: int = 0  # how often it was asked to stop


class RunProcesses:
    """Starts and stops runs; what became of them is read from their folders, so any app can go on with them."""

    def __init__(self) -> None:
        self._children: list[subprocess.Popen[bytes]] = []

    def start(self, run: Path, launch: Launch, arguments: Sequence[str]) -> None:
        """Start `crawl2chat ARGUMENTS` as the process of this run, whose folder exists.

        Raises StageError if a process of this run is still there.
        """
        self.reap()
        paths = os.pathsep.join(path for path in sys.path if path)  # it finds this package however we found it
        environment = {
            **os.environ, "PYTHONPATH": paths, "PYTHONUNBUFFERED": "1", STATUS_FILE: str(run.resolve() / STATUS),
        }  # fmt: skip
        with _locked(run):
            before = read_launch(run)
            if before and is_alive(before):
                raise StageError(f"{run.name}: is running already, as process {before.pid}")
            (run / STATUS).unlink(missing_ok=True)
            write_json(run / RECORD, launch.model_dump())
            with open(run / LOG, "ab") as log:
                log.write(f"{PROMPT}{launch.command}\n".encode())
                log.flush()
                process = subprocess.Popen(
                    [sys.executable, "-m", "crawl2chat", *arguments], cwd=launch.cwd, env=environment,
                    stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
                )  # fmt: skip
            self._children.append(process)
            try:
                known = launch.model_copy(update={"pid": process.pid, "started_at": started_at(process.pid) or ""})
                write_json(run / RECORD, known.model_dump())
            except BaseException:  # nobody could find it again
                process.terminate()
                raise

    def stop(self, run: Path) -> str:
        """Ask a run's process to end: with SIGINT, so that it writes a checkpoint; a second time with SIGTERM.

        Returns the name of the signal. Raises StageError for a run that has no process which an app started.
        """
        with _locked(run):
            launch = read_launch(run)
            number = signal.SIGTERM if launch and launch.signals else signal.SIGINT
            if not launch or not _send(launch, number):
                raise StageError(f"{run.name}: is not running, or was not started from this page")
            write_json(run / RECORD, launch.model_copy(update={"signals": launch.signals + 1}).model_dump())
        return number.name

    def reap(self) -> None:
        """Let go of processes that have ended; the system keeps each until its parent has asked for its status."""
        self._children = [process for process in self._children if process.poll() is None]


def read_launch(run: Path) -> Launch | None:
    """None for a run that no app has started, or whose record can't be read."""
    try:
        return Launch.model_validate_json((run / RECORD).read_bytes())
    except (OSError, ValidationError):
        return None


def state_of(run: Path, launch: Launch) -> State:
    """Interrupted is a run that neither ended nor was asked to stop: it was killed, or its machine was switched off."""
    if is_alive(launch):
        return "stopping" if launch.signals else "running"
    try:
        status = int((run / STATUS).read_text(encoding="ascii"))
    except (OSError, ValueError):  # it had no time to say so: a signal came while Python or a module was being loaded
        last = log_lines(run, 1)
        is_stopped = launch.signals or (last and last[0].startswith("interrupted"))
        return "stopped" if is_stopped else "interrupted"
    if status in (128 + signal.SIGINT, 128 + signal.SIGTERM, 128 + signal.SIGHUP):
        return "stopped"
    return "failed" if status else "ended"


def last_sign(run: Path, launch: Launch) -> float:
    """When something last came of a run, in seconds since 1970."""
    with contextlib.suppress(OSError):
        return max(launch.began, os.stat(run / LOG).st_mtime)
    return launch.began


def log_lines(run: Path, most: int) -> list[str]:
    """The last lines of what a run printed since it was last started, without the command.

    Of a line that was written over again and again, as progress bars do with carriage returns, its last state.
    """
    try:
        with open(run / LOG, "rb") as log:
            begin = max(0, os.fstat(log.fileno()).st_size - TAIL_BYTES)
            log.seek(begin)
            text = log.read(TAIL_BYTES).decode("utf-8", "replace")
    except OSError:
        return []
    lines = text.split("\n")[1 if begin else 0 :]  # the first one may have lost its beginning
    starts = [i for i, line in enumerate(lines) if line.startswith(PROMPT)]
    states = (ESCAPES.sub("", _last_state(line)).rstrip() for line in lines[starts[-1] + 1 if starts else 0 :])
    return [line[:LINE_LENGTH] for line in states if line][-most:]


def _last_state(line: str) -> str:
    return next((state for state in reversed(line.split("\r")) if state.strip()), "")


def is_alive(launch: Launch) -> bool:
    return bool(launch.pid and launch.started_at) and started_at(launch.pid) == launch.started_at


def started_at(pid: int) -> str | None:
    """When a process started, which no other process of this number ever shares; None if there is none or it ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()  # behind the name: state, parent …
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return None if Path("/proc/self/stat").exists() else _started_by_ps(pid)
    state, ticks_since_boot = fields[0].decode(), fields[19].decode()
    return None if state in "ZX" else f"{boot} {ticks_since_boot}"


def _started_by_ps(pid: int) -> str | None:
    """Where there is no /proc, as on macOS."""
    done = subprocess.run(
        ["ps", "-o", "stat=,lstart=", "-p", str(pid)], env={**os.environ, "LC_ALL": "C"}, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    state, _, start = done.stdout.strip().partition(" ")
    return start.strip() if state and not state.startswith("Z") else None


def _send(launch: Launch, number: signal.Signals) -> bool:
    """Send a signal to the process of a launch and to no other; returns whether it is there."""
    if not is_alive(launch):
        return False
    try:
        if not hasattr(os, "pidfd_open"):
            os.kill(launch.pid, number)
            return True
        handle = os.pidfd_open(launch.pid)
        try:
            if not is_alive(launch):  # it ended before, and the handle is another process's
                return False
            signal.pidfd_send_signal(handle, number)
        finally:
            os.close(handle)
    except ProcessLookupError:
        return False
    return True


@contextlib.contextmanager
def _locked(run: Path) -> Iterator[None]:
    """Let only one app at a time, and one of its threads, start or stop this run."""
    with open(run / LOCK, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
