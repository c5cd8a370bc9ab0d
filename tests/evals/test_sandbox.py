import contextlib
import os
import socket
import sys
import time
from pathlib import Path

import pytest

from crawl2chat.evals.suites import sandbox
from crawl2chat.evals.suites.sandbox import Limits, SandboxMissing, isolated, run_program, run_programs

QUICK = Limits(seconds=4.0)
WALLS = ("namespaces", "bubblewrap")


@pytest.fixture(params=[*WALLS, "limits"])
def way(request, monkeypatch):
    """Every way of running that there is here."""
    return take(request.param, monkeypatch)


@pytest.fixture(params=WALLS)
def wall(request, monkeypatch):
    return take(request.param, monkeypatch)


def take(way, monkeypatch):
    if way == "limits":
        monkeypatch.setenv(sandbox.VARIABLE, "limits")
    elif reason := sandbox._try(way):
        pytest.skip(f"no {way} here: {reason}")
    else:
        monkeypatch.delenv(sandbox.VARIABLE, raising=False)
        monkeypatch.setattr(sandbox, "_find_way", lambda: (way, ""))
    return way


def named(name):
    """Processes of the machine with this name."""
    found = []
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended
            begin, rest = file.read_text().rsplit(")", 1)
            found += [file] if begin.endswith(f"({name}") and rest.split()[0] not in "ZX" else []
    return found


def test_a_program_that_ends_has_passed_and_what_it_printed_is_kept(way):
    outcome = run_program("print('fine')", QUICK)
    assert outcome.passed
    assert outcome.stdout == "fine\n"


def test_the_value_of_the_last_line_is_shown_on_request(way):
    assert run_program("x = 20\nx + 1", QUICK, shows_value=True).stdout == "21\n"
    assert run_program("x = 20\nx + 1", QUICK).stdout == ""


def test_a_program_that_keeps_stdout_for_itself_has_passed(way):
    assert run_program("import io, sys\nprint('x')\nsys.stdout = io.StringIO()\nprint('y')", QUICK).passed


def test_an_exception_fails_and_is_shown(way):
    outcome = run_program("assert 1 + 1 == 3, 'no sum'", QUICK)
    assert not outcome.passed
    assert not outcome.timed_out
    assert "AssertionError: no sum" in outcome.stderr


@pytest.mark.parametrize("program", ["exit(0)", "import os; os._exit(0)", "def f(:", "import sys; sys.stdout.close()"])
def test_what_does_not_come_to_its_end_has_not_passed(way, program):
    assert not run_program(program + "\nassert False", QUICK).passed


@pytest.mark.parametrize(
    "program",
    [
        "while True: pass",
        "import time; time.sleep(1e6)",
        "import signal, time\nfor n in (1, 2, 3, 15, 24): signal.signal(n, signal.SIG_IGN)\nwhile True: pass",
        "import os\nos.read(os.pipe()[0], 1)",
    ],
)
def test_nothing_hangs(way, program):
    assert not run_program(program, Limits(seconds=1.0)).passed  # or it would never come back


def test_memory_is_limited(way):
    outcome = run_program("x = bytearray(2 << 30)", QUICK)
    assert not outcome.passed
    assert "MemoryError" in outcome.stderr


def test_what_it_writes_is_limited(way):
    outcome = run_program("import sys\nwhile True: sys.stderr.write('x' * 100_000)", Limits(4.0, file_size=1 << 16))
    assert not outcome.passed
    assert len(outcome.stderr) <= sandbox.SHOWN


def test_it_works_in_a_folder_of_its_own_that_is_gone_afterwards(way):
    outcome = run_program("import os; open('x', 'w').write('y'); print(os.getcwd(), os.listdir('.'))", QUICK)
    folder, files = outcome.stdout.split(maxsplit=1)
    assert files.strip() == "['x']"
    assert not os.path.exists(folder)


def test_folders_nested_deeper_than_python_goes_down_are_removed(monkeypatch):
    take("limits", monkeypatch)
    program = "import os\nprint(os.getcwd())\nfor _ in range(400): os.mkdir('d'); os.chdir('d')"
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(350)
    try:
        outcome = run_program(program, Limits(seconds=20))
    finally:
        sys.setrecursionlimit(limit)
    assert outcome.passed
    assert not os.path.exists(outcome.stdout.strip())


def test_no_descendant_lives_on(way):
    name = f"child{os.getpid()}"
    program = (
        f"import ctypes, os, time\nif not os.fork():\n    ctypes.CDLL(None).prctl(15, b'{name}')\n    time.sleep(60)"
    )
    run_program(program, QUICK)
    time.sleep(0.2)
    assert not named(name)


def test_the_environment_of_the_caller_is_hidden(way, monkeypatch):
    monkeypatch.setenv("A_KEY", "secret")
    assert run_program("import os; assert 'A_KEY' not in os.environ", QUICK).passed


def test_many_run_at_once_and_keep_their_order():
    if not isolated():
        pytest.skip("no sandbox here")
    outcomes = run_programs([f"assert {n} % 2" for n in range(6)], Limits(seconds=10))
    assert [outcome.passed for outcome in outcomes] == [False, True] * 3


def test_without_a_sandbox_nothing_is_run_and_the_reason_is_given(monkeypatch):
    monkeypatch.setattr(sandbox, "_find_way", lambda: (None, "namespaces: Operation not permitted"))
    with pytest.raises(SandboxMissing, match="Operation not permitted.*install bubblewrap"):
        run_program("print(1)")
    assert not isolated()


# Escapes. Each program prints ESCAPED where it gets out; BLOCKED shows that it came as far as to try.


def tries(*programs):
    outcome = run_program(
        f"import ctypes, os, socket\nlibc = ctypes.CDLL(None, use_errno=True)\nfor program in {programs!r}:\n"
        "    try:\n        exec(program)\n        print('ESCAPED', program)\n"
        "    except Exception as error:\n        print('BLOCKED', error)",
        QUICK,
    )
    assert "ESCAPED" not in outcome.stdout, outcome
    assert outcome.stdout.count("BLOCKED") == len(programs), outcome


def test_there_is_no_network(wall):
    with socket.create_server(("127.0.0.1", 0)) as server:
        tries(f"socket.create_connection(('127.0.0.1', {server.getsockname()[1]}), timeout=1)")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"\0crawl2chat-{os.getpid()}")
        server.listen()
        tries(f"socket.socket(socket.AF_UNIX).connect('\\0crawl2chat-{os.getpid()}')")


def test_files_of_the_machine_can_not_be_read(wall, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("x")
    secret.chmod(0o644)
    profile = str(Path.home() / ".profile")
    tries(
        f"open({str(secret)!r})", f"os.symlink({str(secret)!r}, 'link'); open('link')",
        f"1 / os.path.exists({profile!r})", "open('/etc/shadow')", "open('/etc/passwd')",
    )  # fmt: skip


def test_only_its_own_folder_can_be_written_and_no_more_than_it_holds(wall):
    places = ("/usr/x", "/x", "/dev/x", "/proc/sys/kernel/core_pattern", os.path.join(sys.prefix, "x"))
    opens = [f"open({place!r}, 'w')" for place in places]
    tries(*opens, "os.chmod(os.__file__, 0o777)", "os.remove(os.__file__)")
    fills = Limits(seconds=4, file_size=1 << 20, folder_size=2 << 20)
    outcome = run_program("for i in range(100): open(str(i), 'wb').write(bytes(1 << 19))", fills)
    assert "No space left" in outcome.stderr


def test_other_processes_can_not_be_seen_signalled_or_traced(wall, monkeypatch):
    monkeypatch.setenv("A_KEY", "secret")
    program = "print(open('/proc/1/environ').read())"
    assert "secret" not in run_program(program, QUICK).stdout
    tries(f"os.kill({max(os.getpid(), 99)}, 0)", "1 / (libc.ptrace(16, os.getppid(), 0, 0) == 0)")
    assert not run_program("import os; os.kill(os.getppid(), 9); os.kill(-1, 9)", QUICK).timed_out


def test_there_is_no_way_to_more_rights(wall):
    tries(
        "os.setuid(0)", "os.setgid(0)", "os.chroot('/usr')",
        "1 / (libc.unshare(0x10000000) == 0)",  # a namespace of users, in which it would be root
        "1 / (libc.mount(b'tmpfs', b'/sandbox', b'tmpfs', 0, None) == 0)",
    )  # fmt: skip
    status = run_program("print(open('/proc/self/status').read())", QUICK).stdout
    rights = {line.split(":")[0]: line.split(":")[1].strip() for line in status.splitlines() if line.startswith("Cap")}
    assert int(rights["CapEff"], 16) == int(rights["CapPrm"], 16) == int(rights["CapBnd"], 16) == 0


def test_no_open_file_is_inherited(wall, tmp_path):
    with open(tmp_path / "open", "w") as file:
        os.set_inheritable(file.fileno(), True)
        outcome = run_program(
            "import os\nfor n in range(3, 60):\n    try: print(n, os.fstat(n))\n    except OSError: pass", QUICK
        )
    assert outcome.passed
    assert outcome.stdout == ""


def test_a_fork_bomb_is_as_small_as_its_limit_and_ends(wall):
    name = f"bomb{os.getpid()}"
    bomb = f"import ctypes, os, time\nctypes.CDLL(None).prctl(15, b'{name}')\nn = 0\n"
    fork = "    try:\n        if os.fork() == 0: time.sleep(60)\n    except OSError: break\n    n += 1\n"
    counted = f"while n < 100:\n{fork}print(n)"
    outcome = run_program(bomb + counted, QUICK)
    assert int(outcome.stdout) < QUICK.processes
    run_program(bomb + "while True:\n    try: os.fork()\n    except OSError: pass", Limits(seconds=1.0))
    time.sleep(0.2)
    assert not named(name)


def test_a_daemon_ends_with_its_program_and_no_zombie_is_left(wall):
    name = f"daemon{os.getpid()}"
    program = (
        "import ctypes, os, time\nif not os.fork():\n    os.setsid()\n    if not os.fork():\n"
        f"        ctypes.CDLL(None).prctl(15, b'{name}')\n        time.sleep(60)\n    os._exit(0)\ntime.sleep(0.3)"
    )
    assert run_program(program, QUICK).passed
    time.sleep(0.2)
    assert not named(name)
    states = [
        file.read_text().rsplit(")", 1)[1].split()[:2] for file in Path("/proc").glob("[0-9]*/stat") if file.exists()
    ]
    assert ["Z", str(os.getpid())] not in states
