"""A server with OpenAI's chat completions whose answers a test decides."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = tuple[int, str]  # status and body


class AskedServer(ThreadingHTTPServer):
    """On loopback. `asked`: the bodies of all requests; `headers_seen`: path, model and key of each."""

    def __init__(self, reply: Callable[[dict[str, Any]], Reply]) -> None:
        self.reply, self.asked, self.headers_seen = reply, [], []
        self.at_once = self.most_at_once = 0
        self.lock = threading.Lock()
        super().__init__(("127.0.0.1", 0), Handler)

    def handle_error(self, *_: object) -> None:
        """A client that has gone away is meant in some tests."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    server: AskedServer

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.asked.append(body)
            self.server.headers_seen.append((self.path, body.get("model"), self.headers.get("Authorization")))
            self.server.at_once += 1
            self.server.most_at_once = max(self.server.most_at_once, self.server.at_once)
        status, content = self.server.reply(body)
        with self.server.lock:
            self.server.at_once -= 1
        self.send_response(status)
        self.end_headers()
        self.wfile.write(content.encode())

    def log_message(self, *_: object) -> None:
        pass


def says(content: str) -> Reply:
    return 200, json.dumps({"choices": [{"message": {"role": "assistant", "content": content}}]})


@contextmanager
def serving(reply: Callable[[dict[str, Any]], Reply]) -> Iterator[AskedServer]:
    server = AskedServer(reply)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
