import os
import socket
import subprocess
import sys
import time

import pytest

from crawl2chat.evals.suites import sandbox
from crawl2chat.evals.suites.sandbox import Limits, isolated, run_program, run_programs

QUICK = Limits(seconds=2.0)


@pytest.fixture(params=["namespaces", "group"])
def way(request, monkeypatch):
    """Both ways of running, where there are both."""
    if request.param == "group":
        monkeypatch.setattr(sandbox, "_prefix", lambda: ())
    elif not isolated():
        pytest.skip("no namespaces can be made here")
    return request.param


def test_a_program_that_ends_has_passed(way):
    assert run_program("print('fine')", QUICK).passed


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
    outcome = run_program("import sys\nwhile True: sys.stderr.write('x' * 100_000)", Limits(2.0, file_size=1 << 16))
    assert not outcome.passed
    assert len(outcome.stderr) <= sandbox.SHOWN


def test_it_works_in_a_folder_of_its_own_that_is_gone_afterwards(way, tmp_path):
    note = tmp_path / "note"
    assert run_program(f"import os; open('x', 'w').write('y'); open({str(note)!r}, 'w').write(os.getcwd())").passed
    assert not os.path.exists(note.read_text())


def test_folders_nested_deeper_than_python_goes_down_are_removed(tmp_path):
    note = tmp_path / "note"
    program = (
        f"import os\nopen({str(note)!r}, 'w').write(os.getcwd())\nfor _ in range(400): os.mkdir('d'); os.chdir('d')"
    )
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(350)
    try:
        outcome = run_program(program, Limits(seconds=20))
    finally:
        sys.setrecursionlimit(limit)
    assert outcome.passed
    assert not os.path.exists(note.read_text())


def test_no_descendant_lives_on(way, tmp_path):
    note = tmp_path / "note"
    program = f"import os, time\nif not os.fork():\n    time.sleep(1)\n    open({str(note)!r}, 'w')\n    os._exit(0)"
    run_program(program, QUICK)  # it passes as root, whose processes no limit counts
    time.sleep(1.5)
    assert not note.exists()


def test_in_namespaces_no_descendant_leaves_the_group_and_there_is_no_network(tmp_path):
    if not isolated():
        pytest.skip("no namespaces can be made here")
    note = tmp_path / "note"
    daemon = f"os.setsid(); time.sleep(1); open({str(note)!r}, 'w'); os._exit(0)"
    run_program(f"import os, time\nif not os.fork(): {daemon}", QUICK)
    time.sleep(1.5)
    assert not note.exists()
    connect = "import socket\nsocket.create_connection(('127.0.0.1', {}), timeout=1)"
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert not run_program(connect.format(server.getsockname()[1]), QUICK).passed


def test_the_environment_of_the_caller_is_hidden(monkeypatch):
    monkeypatch.setenv("A_KEY", "secret")
    assert run_program("import os; assert 'A_KEY' not in os.environ", QUICK).passed


def test_many_run_at_once_and_keep_their_order():
    outcomes = run_programs([f"assert {n} % 2" for n in range(6)], QUICK)
    assert [outcome.passed for outcome in outcomes] == [False, True] * 3


def test_where_no_namespaces_can_be_made_it_says_so(monkeypatch):
    isolated.cache_clear()
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: subprocess.CompletedProcess(a, 1))
    assert not isolated()
    isolated.cache_clear()
