"""The chat as a person at a terminal meets it, through a pseudo-terminal; and from a pipe."""

import codecs
import os
import pty
import select
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
from crawl2chat.chat.talk import Talk
from crawl2chat.chat.terminal import chat
from crawl2chat.generate import Sampling
from crawl2chat.tokens import Tokenizer
engine = ScriptedEngine(Tokenizer.load(Path({folder!r})), *{replies!r}, context=100_000, seconds={seconds})
chat(Talk(engine, Sampling(temperature=0, max_tokens=50_000)))
for request in engine.requests:
    print("asked", repr(request.prompt))
"""
PATIENCE = 60  # seconds for a machine that does other things as well
SHORT = "one 2 3 4 5 6 7 8 end."
ENDLESS = "one" + " 2 3 4 5 6 7 8 9" * 250  # 2000 tokens of 0.05 seconds outlast PATIENCE


@pytest.fixture(scope="module")
def program(tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer.save(folder)

    def source(*replies, seconds=0.0):
        return PROGRAM.format(here=str(Path(__file__).parent), folder=str(folder), replies=replies, seconds=seconds)

    return source


class Terminal:
    """A program with a terminal of its own: what it shows, and keys for it."""

    def __init__(self, source):
        self.shown, self.seen = "", 0
        self.decoder = codecs.getincrementaldecoder("utf-8")()  # a character may come in two pieces
        self.process, self.screen = pty.fork()
        if self.process == 0:
            os.environ.update(TERM="xterm", NO_COLOR="1")
            os.execv(sys.executable, [sys.executable, "-c", source])

    def type(self, keys):
        if keys == "\x03":  # CPython's input() overlooks a signal that comes while readline draws the last keys
            time.sleep(1.0)
        os.write(self.screen, keys.encode())

    def wait_for(self, text):
        """Returns what was shown since the last wait, `text` at its end."""
        ends = time.monotonic() + PATIENCE
        while text not in self.shown[self.seen :]:
            ready, _, _ = select.select([self.screen], [], [], max(0, ends - time.monotonic()))
            assert ready, f"{text!r} never came, only {self.shown!r}"
            self.shown += self.decoder.decode(os.read(self.screen, 65536))
        begins, self.seen = self.seen, self.shown.index(text, self.seen) + len(text)
        return self.shown[begins : self.seen].replace("\r\n", "\n")

    def close(self):
        os.close(self.screen)
        os.waitpid(self.process, 0)


@pytest.fixture
def terminal(program, request):
    opened = Terminal(program(*getattr(request, "param", [SHORT]), seconds=0.05))
    yield opened
    opened.close()


@pytest.mark.slow
@pytest.mark.parametrize("terminal", [[ENDLESS, SHORT]], indirect=True)
def test_an_answer_streams_and_ctrl_c_ends_it_and_not_the_chat(terminal):
    terminal.wait_for("you> ")
    terminal.type("Count.\n")
    terminal.wait_for("bot> one 2")
    terminal.type("\x03")
    assert " …\n" in terminal.wait_for("you> ")
    terminal.type("On!\n")
    assert "bot> one 2 3 4 5 6 7 8 end.\n" in terminal.wait_for("you> ")
    terminal.type("\x04")
    terminal.wait_for("asked")
    terminal.wait_for("asked")
    second = terminal.wait_for("On!")
    assert "assistant\\none 2" in second  # what was said before Ctrl-C stays
    assert len(second) < len(ENDLESS)


@pytest.mark.slow
def test_the_last_question_comes_back_for_editing_and_arrow_keys_bring_back_lines(terminal):
    pytest.importorskip("readline")
    terminal.wait_for("you> ")
    terminal.type("Count.\n")
    terminal.wait_for("end.")
    terminal.wait_for("you> ")
    terminal.type("/edit\n")
    terminal.wait_for("edit> Count.")
    terminal.type("\x7f twice.\n")  # the full stop is rubbed out
    terminal.wait_for("end.")
    terminal.wait_for("you> ")
    terminal.type("\x1b[A\x1b[A\x1b[A and again\n")  # over the edited line and /edit to the first
    terminal.wait_for("end.")
    terminal.wait_for("you> ")
    terminal.type("/quit\n")
    terminal.wait_for("asked")
    terminal.wait_for("asked")
    assert "Count." not in terminal.wait_for("Count twice.")  # it was replaced
    terminal.wait_for("Count. and again")


@pytest.mark.slow
def test_ctrl_c_at_the_prompt_throws_away_the_line_and_a_second_one_leaves(terminal):
    terminal.wait_for("you> ")
    terminal.type("nonsense")
    terminal.wait_for("nonsense")
    terminal.type("\x03")
    terminal.wait_for("Ctrl-C again or Ctrl-D leaves")
    terminal.wait_for("you> ")
    terminal.type("\x03")
    with pytest.raises(OSError):  # noqa: PT011  # how a terminal ends whose program has
        terminal.wait_for("asked")


def test_from_a_pipe_only_answers_go_to_stdout(program):
    done = subprocess.run(
        [sys.executable, "-c", program(SHORT)], input=b"Count.\n/retry\n\xff?\n/quit\n", capture_output=True, check=True
    )
    said, *asked = done.stdout.decode().split("asked")
    assert said == "one 2 3 4 5 6 7 8 end.\n" * 2
    assert len(asked) == 2
    assert "\ufffd?" in asked[1]  # a byte that is no text
    assert b"the answer would be the same" in done.stderr
