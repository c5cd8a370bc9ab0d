"""The chat as a person at a terminal meets it, through a pseudo-terminal; and from a pipe."""

import codecs
import contextlib
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

PROGRAM = """
import sys
from pathlib import Path
sys.path.insert(0, {here!r})
from scripted_engine import ScriptedEngine
from crawl2chat.stages import interrupts
from crawl2chat.chat.talk import Talk
from crawl2chat.chat.terminal import chat
from crawl2chat.generate import Sampling
from crawl2chat.tokenizer import Tokenizer
engine = ScriptedEngine(Tokenizer.load(Path({folder!r})), *{replies!r}, context=100_000, seconds={seconds})
try:
    with interrupts.raised():
        chat(Talk(engine, Sampling(temperature=0, max_tokens=50_000)))
except KeyboardInterrupt as error:
    sys.exit(interrupts.exit_status(error))
for request in engine.requests:
    print("asked", repr(request.prompt))
"""
PATIENCE = 300  # seconds; only so that a fault does not hang the tests
SHORT = "one 2 3 4 5 6 7 8 end."
ENDLESS = "one" + " 2 3 4 5 6 7 8 9" * 2000  # 16,000 tokens of 0.05 seconds outlast PATIENCE
ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[=>]")


@pytest.fixture(scope="module")
def program(tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer.save(folder)

    def source(*replies, seconds=0.0):
        return PROGRAM.format(here=str(Path(__file__).parent), folder=str(folder), replies=replies, seconds=seconds)

    return source


class Terminal:
    """A program with a terminal of its own: what it shows, and keys for it."""

    def __init__(self, source, **environment):
        self.raw, self.shown, self.seen = "", "", 0
        self.decoder = codecs.getincrementaldecoder("utf-8")()  # a character may come in two pieces
        self.process, self.screen = pty.fork()
        if self.process == 0:
            os.environ.update({"TERM": "xterm", "NO_COLOR": "1"} | environment)
            os.execv(sys.executable, [sys.executable, "-c", source])

    def type(self, keys):
        os.write(self.screen, keys.encode())

    def wait_for(self, text):
        """Returns what was shown since the last wait, `text` at its end, without movements of the cursor."""
        ends = time.monotonic() + PATIENCE
        while text not in self.shown[self.seen :]:
            ready, _, _ = select.select([self.screen], [], [], max(0, ends - time.monotonic()))
            assert ready, f"{text!r} never came, only {self.shown!r}"
            self.raw += self.decoder.decode(os.read(self.screen, 65536))
            self.shown = ESCAPES.sub("", self.raw)
        begins, self.seen = self.seen, self.shown.index(text, self.seen) + len(text)
        return self.shown[begins : self.seen].replace("\r\n", "\n")

    def end(self):
        """Returns the exit status of a program that is about to end."""
        with contextlib.suppress(OSError):  # how a terminal ends whose program has
            while True:
                self.wait_for("\0")
        _, status = os.waitpid(self.process, 0)
        self.process = None
        return os.waitstatus_to_exitcode(status)

    def close(self):
        os.close(self.screen)
        if self.process:
            os.kill(self.process, signal.SIGKILL)
            os.waitpid(self.process, 0)


@pytest.fixture
def terminal(program, request):
    opened = Terminal(program(*getattr(request, "param", [SHORT]), seconds=0.05))
    yield opened
    opened.close()


@pytest.mark.slow
@pytest.mark.parametrize("terminal", [[ENDLESS, SHORT]], indirect=True)
def test_an_answer_streams_and_ctrl_c_ends_it_and_not_the_chat(terminal):
    terminal.wait_for("you>")
    terminal.type("Count.\r")
    terminal.wait_for("bot> one 2")
    terminal.type("\x03")
    assert " …\n" in terminal.wait_for("you>")
    terminal.type("On!\r")
    assert terminal.wait_for(" end.").endswith("bot> one 2 3 4 5 6 7 8 end.")
    terminal.wait_for("you>")
    terminal.type("\x04")
    terminal.wait_for("asked")
    terminal.wait_for("asked")
    second = terminal.wait_for("On!")
    assert "assistant\\none 2" in second  # what was said before Ctrl-C stays
    assert len(second) < len(ENDLESS)


@pytest.mark.slow
def test_the_last_question_comes_back_for_editing_and_arrow_keys_bring_back_lines(terminal):
    terminal.wait_for("you>")
    terminal.type("Count.\r")
    terminal.wait_for("end.")
    terminal.wait_for("you>")
    terminal.type("/edit\r")
    terminal.wait_for("edit> Count.")
    terminal.type("\x7f twice.\r")  # the full stop is rubbed out
    terminal.wait_for("end.")
    terminal.wait_for("you>")
    terminal.type("\x1b[A\x1b[A\x1b[A and again\r")  # over the edited line and /edit to the first
    terminal.wait_for("end.")
    terminal.wait_for("you>")
    terminal.type("/quit\r")
    terminal.wait_for("asked")
    terminal.wait_for("asked")
    assert "Count." not in terminal.wait_for("Count twice.")  # it was replaced
    terminal.wait_for("Count. and again")


@pytest.mark.slow
def test_ctrl_c_at_the_prompt_throws_away_the_line_and_a_second_one_leaves(terminal):
    terminal.wait_for("you>")
    terminal.type("nonsense")
    terminal.wait_for("nonsense")
    terminal.type("\x03")
    terminal.wait_for("Ctrl-C again or Ctrl-D leaves")
    terminal.wait_for("you>")
    terminal.type("\x03")
    assert terminal.end() == 0


@pytest.mark.slow
def test_text_of_several_lines_is_one_message_and_tab_completes_commands(terminal):
    terminal.wait_for("you>")
    terminal.type("one\\\rtwo\x1b\rthree\r")  # a backslash and Enter; Alt-Enter
    terminal.wait_for("end.")
    terminal.wait_for("you>")
    terminal.type('"""\r/four\r"""\r')
    terminal.wait_for("end.")
    terminal.wait_for("you>")
    terminal.type("/se\ttop_k\t3\r")  # /set top_k 3
    terminal.wait_for("top_k = 3")
    terminal.wait_for("you>")
    terminal.type("/quit\r")
    terminal.wait_for("one\\ntwo\\nthree")
    terminal.wait_for("user\\n/four<")
    assert terminal.end() == 0


@pytest.mark.slow
def test_sigterm_at_the_prompt_ends_the_chat(terminal):
    terminal.wait_for("you>")
    os.kill(terminal.process, signal.SIGTERM)
    assert terminal.end() == 143


@pytest.mark.slow
def test_on_a_terminal_that_can_not_move_its_cursor_lines_are_read_plainly(program):
    terminal = Terminal(program(SHORT), TERM="dumb")
    try:
        terminal.wait_for("you>")
        terminal.type("Count.\n")
        terminal.wait_for("end.")
        terminal.wait_for("you>")
        terminal.type("\x03")
        terminal.wait_for("Ctrl-C again or Ctrl-D leaves")
        assert "\x1b" not in terminal.raw
        terminal.type("\x04")
        assert terminal.end() == 0
    finally:
        terminal.close()


def test_from_a_pipe_only_answers_go_to_stdout(program):
    done = subprocess.run(
        [sys.executable, "-c", program(SHORT)], input=b"Count.\n/retry\n\xff?\n/quit\n", capture_output=True, check=True
    )
    said, *asked = done.stdout.decode().split("asked")
    assert said == "one 2 3 4 5 6 7 8 end.\n" * 2
    assert len(asked) == 2
    assert "\ufffd?" in asked[1]  # a byte that is no text
    assert b"the answer would be the same" in done.stderr
