"""Asking a model on a server with OpenAI's API: attempts with pauses, and errors that say what to do."""

import contextlib
import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from crawl2chat.stages.files import StageError

MAX_ANSWER = 16_000_000  # bytes of a server's reply; one of many answers with log-probabilities has a million
ATTEMPTS = 4  # per question
MAX_WAIT = 60.0  # seconds between attempts, whatever the server asks for
MAX_FAILURES = 20  # questions in a row without an answer: something is wrong with the server, not with the questions
REFUSED = {401, 403, 404, 405}  # no question will fare better
RETRIED = {408, 409, 429}  # and all from 500 on

T = TypeVar("T")


class NoAnswer(Exception):
    """The server did not answer this question; `final` if trying again would not help."""

    def __init__(self, message: str, final: bool) -> None:
        super().__init__(message)
        self.final = final


@dataclass(frozen=True)
class ChatServer:
    """A server and a model. url: up to and with /v1. key: sent as bearer token, if any. caller: named in errors."""

    url: str
    model: str
    key: str = field(default="", repr=False)
    timeout: float = 120.0  # seconds without a byte of the answer
    first_wait: float = 1.0  # seconds before the second attempt; doubled before each further one
    caller: str = "judge"

    def check(self) -> None:
        """Raise StageError for an address of another form."""
        if not self.url.startswith(("http://", "https://")):
            raise StageError(f"{self.caller}: --url {self.url}: expected http://… or https://…, up to and with /v1")

    def ask(self, messages: Sequence[Mapping[str, Any]], **sampling: Any) -> str:
        """Return the answer to a conversation. sampling: fields of the request, such as temperature=0.

        Raises NoAnswer after some attempts, StageError if the server refuses this model or key.
        """
        answer = self.post("chat/completions", {"model": self.model, "messages": messages, **sampling}, _content)
        return answer.encode("utf-8", "replace").decode()  # JSON may hold halves of surrogate pairs

    def post(self, address: str, body: Mapping[str, Any], read: Callable[[bytes], T]) -> T:
        """Send a request to an address below the server's; `read` takes its reply, and raises ValueError for a bad one.

        Raises NoAnswer after some attempts, StageError if the server refuses this model or key.
        """
        wait = self.first_wait
        for attempt in range(ATTEMPTS):
            if attempt:
                time.sleep(min(wait, MAX_WAIT))
                wait *= 2
            try:
                return read(self._send(address, body))
            except urllib.error.HTTPError as error:
                problem = f"HTTP {error.code} {error.reason}: {_read_error(error)}"
                if error.code in REFUSED:
                    raise StageError(
                        f"{self.caller}: {self.url} refuses to answer as {self.model}: {problem}"
                    ) from error
                if error.code < 500 and error.code not in RETRIED:
                    raise NoAnswer(problem, final=True) from error
                asked_for = error.headers.get("Retry-After", "")
                wait = max(wait, float(asked_for)) if asked_for.isdecimal() else wait
            except (OSError, http.client.HTTPException, ValueError) as error:
                problem = f"{type(error).__name__}: {error}"
        raise NoAnswer(problem, final=False)

    def _send(self, address: str, body: Mapping[str, Any]) -> bytes:
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {self.key}"} if self.key else {})
        request = urllib.request.Request(f"{self.url.rstrip('/')}/{address}", json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=self.timeout) as response:
            content: bytes = response.read(MAX_ANSWER)
        return content


def _content(reply: bytes) -> str:
    answer = json.loads(reply)
    try:
        return str(answer["choices"][0]["message"]["content"] or "")
    except (KeyError, IndexError, TypeError) as error:
        raise ValueError(f"not a chat completion: {json.dumps(answer)[:200]}") from error


def _read_error(error: urllib.error.HTTPError) -> str:
    with contextlib.suppress(OSError, http.client.HTTPException):
        return error.read(500).decode("utf-8", "replace")
    return ""
