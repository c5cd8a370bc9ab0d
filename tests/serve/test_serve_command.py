"""`crawl2chat serve`, as it is started and stopped."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time

import httpx
import pytest

from crawl2chat.cli.main import main
from crawl2chat.model import load_model, save_model


@pytest.fixture(scope="module")
def folder(engine, tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("served") / "tiny"
    save_model(engine.model, folder, stop_ids=sorted(tokenizer.stop_ids), pad_id=tokenizer.end_of_text)
    tokenizer.save(folder)
    return folder


class Command:
    """The command in a process of its own."""

    def __init__(self, folder, *options):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "crawl2chat", "serve", folder, "--port", "0", *options],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.first, self.second = (self.process.stdout.readline() for _ in "ab")
        self.url = re.search(r"http://\S+/v1", self.first)[0]

    def stop(self, *signals):
        for one in signals:
            self.process.send_signal(one)
            time.sleep(0.2)
        _, told = self.process.communicate(timeout=300)
        return self.process.returncode, told


@pytest.fixture
def command(folder):
    running = Command(folder)
    yield running
    running.process.kill()
    running.process.communicate()


def test_it_says_where_it_listens_when_it_does_and_how_to_ask(command):
    assert httpx.get(f"{command.url}/models").json()["data"][0]["id"] == "tiny"
    example = json.loads(re.search(r"-d '(.*)'", command.second)[1])
    assert httpx.post(f"{command.url}/chat/completions", json=example).json()["choices"][0]["finish_reason"]
    assert f"curl {command.url}/chat/completions" in command.second


def test_the_app_answers_a_browser_that_is_waited_for(folder, tmp_path):
    """As of those that run in the terminal, such as w3m."""
    seen = tmp_path / "seen"
    looks = (
        "import pathlib, sys, urllib.request\n"
        "content = urllib.request.urlopen(sys.argv[2], timeout=20).read()\n"
        "pathlib.Path(sys.argv[1]).write_bytes(content)\n"
    )
    script = tmp_path / "browser.py"
    script.write_text(looks)
    process = subprocess.Popen(
        [sys.executable, "-m", "crawl2chat", "app", folder, "--port", "0"], stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, env={**os.environ, "BROWSER": f"{sys.executable} {script} {seen} %s"},
    )  # fmt: skip
    try:
        until = time.monotonic() + 60
        while not seen.exists() and time.monotonic() < until:
            time.sleep(0.1)
        assert seen.exists()
        time.sleep(0.1)
        assert b"<html" in seen.read_bytes()
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_one_signal_ends_it_in_order(command, sent):
    body = {"prompt": "x", "max_tokens": 2}
    assert httpx.post(f"{command.url}/completions", json=body).status_code == 200
    status, told = command.stop(sent)
    assert status == 0
    assert "POST /v1/completions 200 ok" in told
    assert "Traceback" not in told


def test_a_second_signal_ends_it_at_once(command):
    port = int(re.search(r":(\d+)/", command.url)[1])
    body = b'{"prompt": "x", "n": 60, "max_tokens": 150, "logit_bias": {"1": 100}}'
    with socket.create_connection(("127.0.0.1", port)) as connection:
        head = f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body)
        time.sleep(0.1)
        status, told = command.stop(signal.SIGINT, signal.SIGINT)
    assert status in (0, 128 + signal.SIGINT)  # 0 where the answers had ended before the second one came
    assert "Traceback" not in told


def test_a_taken_port_is_one_clear_line(folder, capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["serve", str(folder), "--port", str(port)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert f"--port {port}" in line
    assert "take another" in line


def test_other_machines_need_a_key_unless_it_is_said_that_they_do_not(folder, capsys, monkeypatch):
    assert main(["serve", str(folder), "--host", "0.0.0.0", "--port", "0"]) == 1
    assert "--key-variable NAME, or say --no-key" in capsys.readouterr().err
    monkeypatch.delenv("ABSENT_KEY", raising=False)
    assert main(["serve", str(folder), "--key-variable", "ABSENT_KEY"]) == 1
    assert "ABSENT_KEY: there is no such environment variable" in capsys.readouterr().err


def test_a_key_comes_from_the_environment_and_is_not_shown(folder, monkeypatch):
    monkeypatch.setenv("SERVE_KEY", "s3cret")
    running = Command(folder, "--key-variable", "SERVE_KEY", "--host", "0.0.0.0", "--allowed-host", "models.example")
    try:
        port = int(re.search(r":(\d+)/", running.url)[1])
        url = f"http://127.0.0.1:{port}/v1/models"
        assert httpx.get(url).status_code == 401
        headers = {"Authorization": "Bearer s3cret", "Host": "models.example"}
        assert httpx.get(url, headers=headers).status_code == 200
        assert "$SERVE_KEY" in running.second
        status, told = running.stop(signal.SIGTERM)
        assert status == 0
        assert "s3cret" not in told + running.first + running.second
    finally:
        running.process.kill()


def test_a_context_that_memory_has_shortened_is_what_the_list_of_models_says(folder):
    running = Command(folder, "--memory", "24KB")
    try:
        said = int(re.search(r"\((\d+) tokens of context", running.first)[1])
        (model,) = httpx.get(f"{running.url}/models").json()["data"]
        assert model["max_model_len"] == said < load_model(folder).config.max_position_embeddings
    finally:
        running.stop(signal.SIGTERM)


def test_limits_reach_the_engine(folder):
    running = Command(folder, "--context", "40", "--max-batch", "2", "--queue", "4", "--name", "other")
    try:
        (model,) = httpx.get(f"{running.url}/models").json()["data"]
        assert model["id"] == "other"
        assert model["max_model_len"] == 40
        refused = httpx.post(f"{running.url}/completions", json={"prompt": ["x"] * 4})
        assert "takes 3 at most" in refused.json()["error"]["message"]
        assert "(40 tokens of context, 2 answers at a time)" in running.first
    finally:
        _, told = running.stop(signal.SIGTERM)
    assert "has room for" not in told


def test_it_says_what_it_has_and_what_of_that_which_was_asked_for_it_has_not(folder):
    running = Command(folder, "--memory", "2MB", "--context", "150", "--max-batch", "100")
    try:
        has = int(re.search(r"\(150 tokens of context, (\d+) answers at a time\)", running.first)[1])
        assert 1 <= has < 100
    finally:
        _, told = running.stop(signal.SIGTERM)
    assert told.splitlines()[0] == f"serve --max-batch 100: memory has room for {has}; give it more with --memory"
    assert "--context" not in told


@pytest.mark.parametrize(
    ("flag", "value", "told"), [("--memory", "1KB", "memory = 1,000"), ("--context", 10**6, "context = ")]
)
def test_a_limit_that_is_none_for_the_model_is_a_message_not_a_traceback(folder, capsys, flag, value, told):
    assert main(["serve", str(folder), "--port", "0", flag, str(value)]) == 1
    assert capsys.readouterr().err.startswith(told)
