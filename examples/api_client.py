"""A client of `crawl2chat serve`, or of any server with OpenAI's API, with Python's standard library alone.

    crawl2chat serve runs/laptop &
    python examples/api_client.py "Who are you?" --temperature 0

The answer is printed while it is written. A server that is busy (status 429) is asked again; any other refusal is an
error with the server's own words, and so is an answer that breaks off.
"""

import argparse
import http.client
import json
import os
import sys
import time
from collections.abc import Iterator
from typing import Any, cast
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen


class ServerError(Exception):
    """The server can't be reached, refuses the request, or fails while it answers."""


class Client:
    """Ask one server: `"".join(Client("http://127.0.0.1:8000/v1").chat(messages))` is the answer.

    After an answer, `finish_reason` is "stop" if the model ended it and "length" if it ran into a limit.
    """

    def __init__(self, url: str, key: str = "", *, timeout: float = 300, retries: int = 3) -> None:
        self.url, self.key, self.timeout, self.retries = url.rstrip("/"), key, timeout, retries
        self.finish_reason: str | None = None

    def models(self) -> list[str]:
        """Return the names of the server's models; the first one is the default of `chat`."""
        with self._open("/models") as response:
            return [model["id"] for model in json.load(response)["data"]]

    def chat(self, messages: list[dict[str, str]], *, model: str = "", **controls: Any) -> Iterator[str]:
        """Yield the pieces of the answer to a conversation as they arrive.

        messages: such as [{"role": "user", "content": "Who are you?"}]. controls: temperature, max_tokens, seed and
        the other fields of OpenAI's API. Raises ServerError, possibly after some pieces.
        """
        self.finish_reason = None
        body = {"model": model or self.models()[0], "messages": messages, "stream": True, **controls}
        with self._open("/chat/completions", body) as response:
            for event in self._events(response):
                for choice in event["choices"]:
                    self.finish_reason = choice["finish_reason"] or self.finish_reason
                    if text := choice["delta"].get("content"):
                        yield text

    def _events(self, response: http.client.HTTPResponse) -> Iterator[dict[str, Any]]:
        """Yield the objects of a stream of server-sent events, which "[DONE]" must end."""
        try:
            for line in response:
                data = line.decode().removeprefix("data:").strip() if line.startswith(b"data:") else ""
                if data == "[DONE]":
                    return
                if data:
                    event = json.loads(data)
                    if "error" in event:
                        raise ServerError(f"{self.url} failed while it answered: {event['error']['message']}")
                    yield event
        except (OSError, http.client.HTTPException) as error:
            raise ServerError(f"{self.url}: the connection broke while it answered: {error}") from error
        raise ServerError(f"{self.url}: the answer broke off; the server may have been stopped")

    def _open(self, path: str, body: dict[str, Any] | None = None) -> http.client.HTTPResponse:
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {self.key}"} if self.key else {})
        data = None if body is None else json.dumps(body).encode()
        for attempt in range(self.retries + 1):
            try:
                return cast(
                    http.client.HTTPResponse, urlopen(Request(self.url + path, data, headers), timeout=self.timeout)
                )
            except HTTPError as error:
                if error.code == 429 and attempt < self.retries:
                    time.sleep(float(error.headers.get("Retry-After", 2**attempt)))
                    continue
                raise ServerError(f"{self.url}{path}: status {error.code}: {_reason(error)}") from error
            except URLError as error:
                raise ServerError(
                    f"no server at {self.url} ({error.reason}); is `crawl2chat serve` running?"
                ) from error
            except (OSError, http.client.HTTPException) as error:
                raise ServerError(f"{self.url}{path}: no answer: {error!r}") from error
        raise AssertionError("the last attempt returns or raises")


def _reason(error: HTTPError) -> str:
    """Return what the server says is wrong, and with which field, or the status's name if it says nothing."""
    try:
        problem = json.load(error)["error"]
        return f"{problem['message']} (field {problem['param']})" if problem.get("param") else problem["message"]
    except (ValueError, KeyError, TypeError):
        return error.reason


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("question", help="what to ask")
    parser.add_argument("--url", default="http://127.0.0.1:8000/v1", help="address of the API (default: %(default)s)")
    parser.add_argument("--model", default="", help="name of one of the server's models (default: its first)")
    parser.add_argument("--system", default="", help="system message")
    parser.add_argument("--temperature", type=float, default=0.7, help="0 always takes the most probable token (0.7)")
    parser.add_argument("--max-tokens", type=int, help="maximum length of the answer")
    parser.add_argument("--key-variable", default="", help="environment variable that holds the server's key")
    options = parser.parse_args()
    messages = [{"role": "system", "content": options.system}] if options.system else []
    messages.append({"role": "user", "content": options.question})
    controls = {"temperature": options.temperature}
    if options.max_tokens is not None:
        controls["max_tokens"] = options.max_tokens
    client = Client(options.url, os.environ.get(options.key_variable, "") if options.key_variable else "")
    try:
        for text in client.chat(messages, model=options.model, **controls):
            print(text, end="", flush=True)
    except ServerError as error:
        print(error, file=sys.stderr)
        return 1
    print()
    if client.finish_reason == "length":
        print("(cut at the maximum length)", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
