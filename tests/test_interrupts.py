"""SIGINT, SIGTERM and SIGHUP, whenever they come: one line, the status that shells expect, and no process left."""

import os
import signal
import subprocess
import sys
import textwrap

import pytest

from crawl2chat.cli.main import main
from crawl2chat.stages import interrupts
from crawl2chat.stages.interrupts import Stop, Terminated

STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}
# Run by every Python process that finds it on its path: sends itself the signal when a module is about to be imported.
AT_IMPORT = """
import os, signal, sys

def hook(event, arguments):
    if event == "import" and arguments[0] == os.environ["AT_IMPORT"]:
        signal.raise_signal(int(os.environ["SIGNAL"]))

sys.addaudithook(hook)
"""


def run_cli(*arguments, **environment):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))} | environment
    command = [sys.executable, "-m", "crawl2chat", *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)


@pytest.mark.parametrize("number", STATUS)
@pytest.mark.parametrize(
    "module", ["crawl2chat.cli.main", "argparse", "crawl2chat.stages.settings", "pydantic_core", "numpy"]
)
def test_a_signal_during_start_up_is_one_line(tmp_path, module, number):
    (tmp_path / "sitecustomize.py").write_text(AT_IMPORT)
    path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    done = run_cli("crawl", "--out", tmp_path / "crawl", PYTHONPATH=path, AT_IMPORT=module, SIGNAL=str(int(number)))
    assert done.returncode == STATUS[number], done.stderr
    assert done.stderr in ("interrupted\n", "interrupted; the same command goes on from here\n")
    assert not (tmp_path / "crawl" / "manifest.json").exists()


@pytest.mark.parametrize("number", STATUS)
def test_a_signal_in_a_command_without_stages_promises_nothing(monkeypatch, capsys, number):
    monkeypatch.setattr("crawl2chat.cli.data.tokens_command", lambda options: signal.raise_signal(number))
    before = signal.getsignal(number)
    assert main(["tokens", "run", "text"]) == STATUS[number]
    assert capsys.readouterr().err == "interrupted\n"
    assert signal.getsignal(number) is before


def test_under_nohup_a_closed_terminal_changes_nothing(monkeypatch):
    raised = lambda options: signal.raise_signal(signal.SIGHUP) or 0  # noqa: E731
    monkeypatch.setattr("crawl2chat.cli.data.tokens_command", raised)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert main(["tokens", "run", "text"]) == 0
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_stop_lets_the_step_finish_and_its_end_raises():
    finished = []

    def step():
        with Stop() as stop:
            signal.raise_signal(signal.SIGTERM)
            finished.append(stop.asked)

    with pytest.raises(Terminated):
        step()
    assert finished == [True]


def test_an_error_in_a_stopped_step_is_not_hidden_by_the_signal():
    def step():
        with Stop():
            signal.raise_signal(signal.SIGINT)
            raise ValueError("of its own")

    with pytest.raises(ValueError, match="of its own"):
        step()


def test_a_second_signal_some_time_later_raises_at_once(monkeypatch):
    came = []
    monkeypatch.setattr(interrupts.time, "monotonic", lambda: 100.0 + sum(came))

    def step():
        with Stop():
            for later in (0, 0, interrupts.SAME_REQUEST_SECONDS + 0.1):  # a terminal and torchrun may pass on one
                came.append(later)
                signal.raise_signal(signal.SIGINT)
            came.append("went on")

    with pytest.raises(KeyboardInterrupt):
        step()
    assert "went on" not in came


def test_ctrl_c_in_a_terminal_does_not_reach_workers_that_are_starting(tmp_path):
    """A terminal signals the whole group, workers included, which would print tracebacks over the one line."""
    program = """
    import os, signal, sys
    from pathlib import Path
    from crawl2chat.parallel.workers import Worker

    def greet(name):
        return f"hello {name}"

    if __name__ == "__main__":
        signal.signal(signal.SIGINT, lambda number, frame: None)
        worker = Worker(greet)
        os.killpg(0, signal.SIGINT)  # while the worker still imports
        worker.send("you")
        print(worker.receive())
        os.killpg(0, signal.SIGINT)
        worker.send("again")
        print(worker.receive())
        worker.stop()
    """
    file = tmp_path / "program.py"
    file.write_text(textwrap.dedent(program))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, file], env=environment, capture_output=True, text=True, timeout=300, check=False,
        start_new_session=True,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "hello you\nhello again\n", "")
