"""A conversation that is being held: what was said, and how the next answer comes to the screen."""

import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from crawl2chat.chat.citing import citations
from crawl2chat.chat.talk import Reply, Talk, fit_context
from crawl2chat.chat.tools import MAX_ROUNDS, final_text
from crawl2chat.generate import Sampling
from crawl2chat.refine.text.extract import NOT_TEXT
from crawl2chat.tokenizer import Message, ToolCall

DIM, PLAIN = "\x1b[2m", "\x1b[0m"


class Dialogue:
    """Messages so far, and how they are shown.

    To a person at a terminal speakers have labels. Into a pipe only answers go, and remarks to stderr. Everything
    that was said is kept; what the model reads of it are the newest turns that fit its context. A question that got
    no answer stays, to be tried again or edited, until the next one takes its place.
    """

    def __init__(self, talk: Talk, *, system: str | None = None, interactive: bool = True) -> None:
        self.talk, self.system, self.interactive = talk, system, interactive
        self.messages: list[Message] = []
        self.shows_stats = False
        self.n_left_out = 0  # oldest messages that the model no longer reads
        self._n_answers = 0  # that the last question has had
        self._whole: tuple[Sampling, list[Message]] | None = None  # from what the last whole answer was made

    @property
    def opening(self) -> list[Message]:
        return self.talk.opening(self.system)

    @property
    def question(self) -> str | None:
        """The last one."""
        return next((m["content"] for m in reversed(self.messages) if m["role"] == "user"), None)

    @property
    def answered(self) -> list[Message]:
        """What was said, without a last question that has no answer."""
        unanswered = bool(self.messages) and self.messages[-1]["role"] == "user"
        return self.messages[:-1] if unanswered else self.messages

    def ask(self, question: str) -> None:
        self.begin(self.answered)
        self.messages.append(Message(role="user", content=question))
        self._answer()

    def retry(self) -> None:
        """Answer the last question again, with another seed; when that can change nothing, say so."""
        asked = self._up_to_question()
        if self.talk.sampling.greedy and self._whole == (self.talk.sampling, [*self.opening, *asked]):
            self.remark("at temperature 0 the answer would be the same; /set temperature 0.8 lets it vary")
            return
        with self._kept_unless_answered():
            self.messages = asked
            self._n_answers += 1
            self._answer()

    def edit(self, question: str) -> None:
        """Put another question in the place of the last one, and answer it."""
        with self._kept_unless_answered():
            self.messages = self._up_to_question()[:-1]
            self.ask(question)

    def begin(self, messages: list[Message]) -> None:
        """Go on from these messages."""
        self.messages = list(messages)
        self._n_answers, self._whole = 0, None

    def remark(self, text: str) -> None:
        """A word of the program's own."""
        if not self.interactive:
            print(f"({text})", file=sys.stderr)
        elif sys.stdout.isatty() and "NO_COLOR" not in os.environ:
            print(f"{DIM}({text}){PLAIN}")
        else:
            print(f"({text})")

    def _answer(self) -> None:
        asked = [*self.opening, *self.messages]
        with heard_interrupts() as interrupted:
            fitted = self._fit()
            if fitted is None:
                return
            self._label()
            try:
                reply = self.talk.answer(
                    fitted, self._write, show=self._show_call, seed=self._n_answers, interrupted=interrupted
                )
            except ValueError as error:  # such as a bias for a token that this model does not have
                if self.interactive:  # after the label
                    print()
                self.remark(str(error))
                return
            for page in re.findall(r"\bPage (\d+)\b", final_text(reply.messages)) if self.talk.tools else ():
                self._write(f" ({self.talk.address(int(page)) or 'there is no such page'})")
            self._write(" …\n" if reply.ended == "interrupted" else "\n")
            self._show_sources(reply)
            self._remark_on(reply)
        self.messages += reply.messages
        self._whole = None if reply.ended == "interrupted" else (self.talk.sampling, asked)

    def _show_sources(self, reply: Reply) -> None:
        """The passages that the answer cites; if it cites none, those that were put before the question."""
        results = [message["content"] for message in reply.messages if message["role"] == "tool"]
        sources = citations(final_text(reply.messages), [reply.passages, *results])
        cited = [source for source in sources if source.cited]
        for source in cited or (sources if reply.passages else ()):
            self.remark(f"[{source.number}] {source.title}, {source.address}" + ("" if cited else "; read, not cited"))

    @contextmanager
    def _kept_unless_answered(self) -> Iterator[None]:
        """What had an answer comes back after the block if the block brought none, not even the beginning of one."""
        before = self.messages, self._n_answers, self._whole
        had_answer = self.answered is self.messages
        yield
        if had_answer and self.messages[-1]["role"] != "assistant":
            self.messages, self._n_answers, self._whole = before
            self.remark("the answer before stays")

    def _fit(self) -> list[Message] | None:
        """What the model is to read; says what it can't, and when not even the last question fits, returns None."""
        fitted = fit_context(self.talk, self.opening, self.messages)
        if fitted is None:
            n_tokens = len(self.talk.prompt([*self.opening, self.messages[-1]]))
            self.remark(
                f"{n_tokens} tokens are too long for this model's context of {self.talk.engine.context} tokens "
                "and an answer; /edit shortens the question" + (", /system the system message" if self.system else "")
            )
            return None
        n_left_out = len(self.messages) - len(fitted)
        if n_left_out and n_left_out != self.n_left_out:
            self.remark(f"the oldest {n_left_out} messages no longer fit the context and are left out")
        self.n_left_out = n_left_out
        return [*self.opening, *fitted]

    def _remark_on(self, reply: Reply) -> None:
        endings = {
            "max_tokens": f"cut at max_tokens = {self.talk.sampling.max_tokens}; /set max_tokens N for longer answers",
            "context": f"cut where the model's context of {self.talk.engine.context} tokens is full",
            "rounds": f"ended after {1 + MAX_ROUNDS} messages with calls and no answer",
        }
        if reply.ended in endings:
            self.remark(endings[reply.ended])
        if self.shows_stats:
            self.remark(show_stats(reply))

    def _up_to_question(self) -> list[Message]:
        last = max(place for place, message in enumerate(self.messages) if message["role"] == "user")
        return self.messages[: last + 1]

    def _label(self) -> None:
        if self.interactive:
            self._write("bot> ")

    def _write(self, text: str) -> None:
        """As it comes; on a screen without control characters, which a model may have learned from pages."""
        sys.stdout.write(NOT_TEXT.sub("", text).replace("\r", "") if self.interactive else text)
        sys.stdout.flush()

    def _show_call(self, called: ToolCall, result: str) -> None:
        given = ", ".join(map(str, called["function"]["arguments"].values()))
        self._write(f"[{called['function']['name']}{given and ': ' + given}]\n     {result}\n")
        self._label()


@contextmanager
def heard_interrupts() -> Iterator[Callable[[], bool]]:
    """In the block the first Ctrl-C is only heard: the given function says so. The engine is never left in mid-step.

    Another one, should the first not help, is raised. Outside the main thread nothing changes.
    """
    heard: list[int] = []

    def hear(number: int, frame: FrameType | None) -> None:
        if heard:
            raise KeyboardInterrupt
        heard.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    before = signal.signal(signal.SIGINT, hear)
    try:
        yield lambda: bool(heard)
    finally:
        signal.signal(signal.SIGINT, before)


def show_stats(reply: Reply) -> str:
    """Tokens and times of an answer; tokens/s from the first token on, before which the prompt is read."""
    first = reply.seconds if reply.first_seconds is None else reply.first_seconds
    after = reply.seconds - first
    rate = f"{(reply.written - 1) / after:,.0f} tokens/s" if reply.written > 1 and after else "too few for a rate"
    known = f", {reply.reused} of them known from before" if reply.reused else ""
    return f"{reply.written} tokens, {rate}, first after {first:.2f} s; {reply.read} tokens read{known}"
