"""examples/api_client.py against `crawl2chat serve` with a small model, and against servers that misbehave."""

import http.server
import importlib.util
import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from models import random_model

from crawl2chat.model import save_model

SCRIPT = Path(__file__).parents[2] / "examples" / "api_client.py"
ASKED = [{"role": "user", "content": "In 1842?"}]


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("examples_api_client", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def url(tokenizer, tmp_path_factory):
    """The address of a served model."""
    folder = tmp_path_factory.mktemp("served") / "tiny"
    save_model(
        random_model("tied", tokenizer.vocab_size), folder,
        stop_ids=sorted(tokenizer.stop_ids), pad_id=tokenizer.end_of_text,
    )  # fmt: skip
    tokenizer.save(folder)
    with subprocess.Popen(
        [sys.executable, "-m", "crawl2chat", "serve", folder, "--port", "0"], stdout=subprocess.PIPE, text=True
    ) as server:
        yield next(found[0] for line in server.stdout if (found := re.search(r"http://[\d.:]+/v1\b", line)))
        server.terminate()


@pytest.fixture
def misbehave():
    """Start a server that gives these answers, one per request: (status, headers, body)."""
    servers = []

    def start(*answers):
        left = list(answers)

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                self.rfile.read(int(self.headers["Content-Length"]))
                status, headers, body = left.pop(0)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}/v1"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def event(text, end=None):
    return b"data: " + json.dumps({"choices": [{"delta": {"content": text}, "finish_reason": end}]}).encode() + b"\n\n"


def run(*arguments):
    return subprocess.run(
        [sys.executable, SCRIPT, *arguments], capture_output=True, text=True, timeout=120,
        env={name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")},
    )  # fmt: skip


def test_the_answer_comes_in_pieces_and_the_same_as_in_one(example, url):
    client = example.Client(url)
    pieces = list(client.chat(ASKED, max_tokens=8, temperature=0))
    assert client.models() == ["tiny"]
    assert client.finish_reason in ("stop", "length")
    body = {"model": "tiny", "messages": ASKED, "max_tokens": 8, "temperature": 0}
    with client._open("/chat/completions", body) as response:
        choice = json.load(response)["choices"][0]
    assert "".join(pieces) == choice["message"]["content"]
    assert client.finish_reason == choice["finish_reason"]
    assert len(pieces) > 1


def test_the_command_prints_the_answer_and_says_when_it_was_cut(example, url):
    client = example.Client(url)
    answer = "".join(client.chat(ASKED, max_tokens=8, temperature=0))
    done = run(ASKED[0]["content"], "--url", url, "--max-tokens", "8", "--temperature", "0")
    assert done.returncode == 0, done.stderr
    assert done.stdout == answer + "\n"
    assert ("cut at the maximum length" in done.stderr) == (client.finish_reason == "length")


def test_a_refusal_is_in_the_servers_words_and_names_the_field(url):
    done = run("hello", "--url", url, "--temperature", "-1")
    assert done.returncode == 1
    assert "status 400" in done.stderr
    assert "field temperature" in done.stderr
    assert "Traceback" not in done.stderr


def test_no_server_is_one_line_that_says_how_to_start_one():
    done = run("hello", "--url", "http://127.0.0.1:9/v1")
    assert done.returncode == 1
    assert done.stderr.startswith("no server at http://127.0.0.1:9/v1")
    assert "crawl2chat serve" in done.stderr


def test_a_busy_server_is_asked_again(example, misbehave):
    busy = (429, {"Retry-After": "0"}, b'{"error": {"message": "full", "param": null}}')
    url = misbehave(busy, busy, (200, {}, event("yes", "stop") + b"data: [DONE]\n\n"))
    assert list(example.Client(url).chat(ASKED, model="m")) == ["yes"]
    url = misbehave(busy, busy)
    with pytest.raises(example.ServerError, match=r"status 429: full$"):
        list(example.Client(url, retries=1).chat(ASKED, model="m"))


def test_an_answer_that_breaks_off_is_an_error_after_its_pieces(example, misbehave):
    client = example.Client(misbehave((200, {}, event("half"))))
    pieces = client.chat(ASKED, model="m")
    assert next(pieces) == "half"
    with pytest.raises(example.ServerError, match="broke off"):
        next(pieces)


def test_a_failure_in_the_stream_is_an_error(example, misbehave):
    failure = b'data: {"error": {"message": "the engine stopped"}}\n\n'
    pieces = example.Client(misbehave((200, {}, event("half") + failure))).chat(ASKED, model="m")
    assert next(pieces) == "half"
    with pytest.raises(example.ServerError, match="the engine stopped"):
        next(pieces)


def test_a_page_that_is_not_the_api_is_an_error_with_its_status(example, misbehave):
    with pytest.raises(example.ServerError, match="status 502: Bad Gateway"):
        list(example.Client(misbehave((502, {}, b"<html>"))).chat(ASKED, model="m"))
