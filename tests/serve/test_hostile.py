"""Clients that send garbage, too much, too slowly, or that vanish, and what becomes of the others."""

import contextlib
import difflib
import json
import logging
import re
import socket
import threading
import time

import httpx
import openai
import pytest
from waiting import wait_until

from crawl2chat.generate import Sampling
from crawl2chat.serve import middleware

LONG = 4000
BODY = {"model": "tiny", "prompt": "The", "max_tokens": LONG, "temperature": 1, "seed": 1}


@pytest.fixture
def long(start, tokenizer):
    """A server whose answers last, and the body of a request for one that never ends by itself."""
    server = start(context=4096, max_batch=2, queue=2)
    server.body = BODY | {"logit_bias": {str(id): -100 for id in tokenizer.stop_ids}}
    return server


def raw(server, head, body=b"", *, host=None):
    sent = (
        f"{head}\r\nHost: {host or f'127.0.0.1:{server.port}'}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    )
    connection = server.connect()
    connection.sendall(sent)
    return connection


def post(server, body, **options):
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return raw(server, "POST /v1/completions HTTP/1.1", content, **options)


def status(connection):
    return int(connection.recv(4096).split()[1])


@pytest.mark.parametrize(
    "garbage", [b"\x00\xff" * 500, b"GET\r\n\r\n", b"POST /v1/completions FTP/1.1\r\n\r\n", b"\x16\x03\x01" * 30]
)
def test_what_is_not_http_is_answered_with_400_and_the_end(server, garbage):
    connection = server.connect()
    connection.sendall(garbage + b"\r\n\r\n")
    received = connection.recv(4096)
    assert received == b"" or received.startswith(b"HTTP/1.1 400")
    assert server.http.get("/health").status_code == 200


@pytest.mark.parametrize("body", [b"", b"{", b"null", b"[]", b'"text"', b"\xff\xfe", b"{" * 100, b"[" * 200_000,
                                  b'{"a":' * 50_000, b'{"prompt": "\\ud800"}', b'{"prompt": NaN}',
                                  b'{"prompt": "x", "seed": 1e999}'])  # fmt: skip
def test_what_is_not_the_json_of_a_request_is_a_400_in_openais_form(server, body):
    for route in ("/v1/completions", "/v1/chat/completions", "/tokenize", "/detokenize"):
        response = server.http.post(route, content=body)
        assert response.status_code == 400
        assert response.json()["error"]["type"] == "invalid_request_error"


UNKNOWN = {f"k{i}": 1 for i in range(60_000)}


@pytest.mark.parametrize(
    ("route", "body", "told"),
    [
        ("/detokenize", {"tokens": ["x"] * 500_000}, "tokens.0"),
        ("/detokenize", UNKNOWN, "60000 fields; at most 100"),
        ("/v1/completions", {"prompt": "x", **UNKNOWN}, "60001 fields"),
        ("/v1/completions", {"prompt": "x", "stop": [1] * 1_000_000}, "at most 16, not 1000000"),
        ("/v1/completions", {"prompt": "x", "logit_bias": dict.fromkeys(UNKNOWN, "x")}, "at most 1024, not 60000"),
        ("/v1/completions", {"prompt": [[1]] * 500_000}, "at most 4096, not 500000"),
        ("/v1/completions", {"prompt": ["x"] * 4000, "n": 128}, "asks for 512000 answers"),
        ("/v1/chat/completions", {"messages": [{}] * 1_000_000}, "at most 1024, not 1000000"),
        ("/v1/chat/completions", {"messages": [{"role": "user", "tool_calls": [1] * 1_000_000}]}, "at most 128"),
    ],
)
@pytest.mark.usefixtures("frozen_heap")
def test_a_body_with_very_many_mistakes_is_answered_without_going_through_them_all(server, route, body, told):
    content = json.dumps(body)
    began = time.process_time()
    response = server.http.post(route, content=content)
    assert response.status_code == 400
    assert told in response.json()["error"]["message"]
    assert time.process_time() - began < 2


def test_extreme_controls_are_refused_or_harmless_and_disturb_nobody(server, alone):
    expected = alone.generate([[5, 6]], Sampling(0, max_tokens=60))[0].text
    texts = []
    body = {"prompt": [5, 6], "temperature": 0, "max_tokens": 60}
    others = [
        threading.Thread(
            target=lambda: texts.append(
                httpx.post(f"{server.url}/v1/completions", json=body).json()["choices"][0]["text"]
            )
        )
        for _ in range(3)
    ]
    for other in others:
        other.start()
    for control, value in (
        ("top_k", 10**30), ("top_k", 2**63), ("temperature", 1e-40), ("temperature", 1e-300), ("top_p", 1e-50),
        ("repetition_penalty", 1e-45), ("repetition_penalty", 1e-300), ("min_p", 1e-300), ("seed", 10**30),
    ):  # fmt: skip
        response = server.post("/v1/completions", {"prompt": "a", "max_tokens": 3, control: value})
        assert response.status_code in (200, 400), (control, value, response.text)
        assert server.http.get("/health").status_code == 200
    for other in others:
        other.join(20)
    assert texts == [expected] * 3


def test_names_are_guessed_only_for_the_mistakes_that_are_told(server, monkeypatch):
    guesses = []
    monkeypatch.setattr(difflib, "get_close_matches", lambda *_: guesses.append(1))
    body = {f"k{i}": 1 for i in range(90)}
    assert "(and 85 more)" in server.post("/detokenize", body | {"tokens": []}).json()["error"]["message"]
    assert len(guesses) == 5


def test_a_body_too_long_is_refused_so_that_its_sender_hears_it(server):
    for content in (b"x" * 10_000_000, (b"x" * 100_000 for _ in range(100))):  # with a length, and in chunks
        response = server.http.post("/v1/completions", content=content)
        assert response.status_code == 413
    assert server.http.get("/health").status_code == 200


def test_bodies_that_have_not_arrived_yet_count_as_held(server, monkeypatch):
    monkeypatch.setattr(middleware, "BODIES_BYTES", 100_000)
    assert server.http.get("/health").status_code == 200  # the first request sets the layers up
    limit = server.server.config.app.middleware_stack
    while not isinstance(limit, middleware.BodyLimit):
        limit = limit.app
    slow = server.connect()
    slow.sendall(b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Length: 80000\r\n\r\n" + b" " * 70_000)
    wait_until(lambda: limit.bytes_held == 70_000)
    body = {"prompt": "x" * 40_000}
    refused = server.post("/tokenize", body)
    assert refused.status_code == 429
    assert refused.headers["retry-after"] == "1"
    assert limit.bytes_held == 70_000
    slow.close()
    wait_until(lambda: limit.bytes_held == 0)
    assert server.post("/tokenize", body).status_code == 200
    wait_until(lambda: limit.bytes_held == 0)


def test_millions_of_spaces_are_counted_and_are_too_long_for_a_prompt(server):
    spaces = " " * 3_000_000
    for parse_special in (False, True):
        counted = server.post("/tokenize", {"prompt": spaces, "parse_special": parse_special})
        assert counted.json()["count"] >= 3_000_000 / server.model.longest_token
    for body in ({"prompt": spaces}, {"prompt": "a" * 3_000_000}):
        error = server.post("/v1/completions", body).json()["error"]
        assert error["code"] == "context_length_exceeded"
        assert "at least" in error["message"]
    assert server.http.get("/health").status_code == 200


def test_an_endless_body_is_cut_off(server, monkeypatch):
    monkeypatch.setattr(middleware, "DRAINED_BYTES", 8 << 20)
    connection = server.connect()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nTransfer-Encoding: chunked\r\n\r\n"
    connection.sendall(head.encode())
    endless = (b"10000\r\n" + b"x" * 0x10000 + b"\r\n") * 1000
    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        connection.sendall(endless)


def test_a_byte_a_second_ends_after_a_while_and_blocks_nobody(server, monkeypatch):
    monkeypatch.setattr(middleware, "BODY_SECONDS", 3.0)
    monkeypatch.setattr(middleware, "HEAD_SECONDS", 3.0)
    in_body = server.connect()
    in_body.sendall(
        f"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nContent-Length: 999\r\n\r\n".encode()
    )
    in_head = server.connect()
    for _ in range(3):
        in_body.sendall(b"x")
        in_head.sendall(b"P")
        assert server.http.get("/health").status_code == 200
    assert status(in_body) == 408
    for connection in (in_body, in_head):
        assert is_over(connection)


def is_over(connection):
    try:
        while connection.recv(4096):
            pass
    except ConnectionResetError:
        pass
    return True


def test_a_client_that_vanishes_mid_stream_frees_its_place_at_once(long):
    connection = post(long, long.body | {"stream": True})
    assert b"data: " in connection.recv(65536) + connection.recv(65536)
    assert long.engine.running == 1
    connection.close()
    wait_until(long.is_idle)


def test_a_client_that_vanishes_before_its_answer_frees_its_place_at_once(long):
    connection = post(long, long.body)
    wait_until(lambda: long.engine.running == 1)
    connection.close()
    wait_until(long.is_idle)


def test_a_caller_whose_patience_ends_frees_its_place(long):
    with pytest.raises(openai.APITimeoutError):
        long.client().with_options(timeout=0.3).completions.create(**long.body)
    wait_until(long.is_idle)


def test_one_that_vanishes_while_it_waits_leaves_the_queue(long):
    connections = [post(long, long.body) for _ in range(4)]
    wait_until(lambda: len(long.admission.open) == 4)
    connections[3].close()
    wait_until(lambda: len(long.admission.open) == 3)
    for connection in connections:
        connection.close()
    wait_until(long.is_idle)


def test_a_full_queue_is_a_429_that_says_when_to_come_again(long):
    connections = [post(long, long.body) for _ in range(4)]
    wait_until(lambda: len(long.admission.open) == 4)
    with pytest.raises(openai.RateLimitError) as caught:
        long.openai.completions.create(model="tiny", prompt="x")
    assert caught.value.response.headers["retry-after"] == "1"
    assert caught.value.code == "queue_full"
    for connection in connections:
        connection.close()
    wait_until(long.is_idle)
    long.openai.completions.create(model="tiny", prompt="x", max_tokens=1)
    with pytest.raises(openai.BadRequestError):  # what can never fit is not to be tried again
        long.openai.completions.create(model="tiny", prompt=["x"] * 5)


def test_only_known_names_may_be_asked_for(start):
    server = start(hosts=["models.example"])
    for host in ("evil.example", "127.0.0.1.evil.example", "", f"localhost.evil.example:{server.port}"):
        assert status(post(server, BODY, host=host or " ")) == 403, host
    for host in ("localhost", f"LOCALHOST:{server.port}", "[::1]:8000", "models.example", "127.0.0.1", "10.0.0.7:80"):
        assert status(raw(server, "GET /health HTTP/1.1", host=host)) == 200, host


def test_pages_of_other_sites_may_not_ask(server):
    for origin in ("https://evil.example", "http://10.0.0.7", "null", "http://["):
        response = server.http.post("/v1/completions", json=BODY, headers={"Origin": origin})
        assert response.status_code == 403
    response = server.http.get("/health", headers={"Origin": "http://localhost:3000"})
    assert response.status_code == 200
    assert not [name for name in response.headers if name.startswith("access-control")]


def test_with_a_key_only_its_holders_are_answered(start):
    server = start(key="schlüssel".encode().hex())
    for key in ("wrong", "none"):
        with pytest.raises(openai.AuthenticationError) as caught:
            server.client(key=key).models.list()
        assert caught.value.code == "invalid_api_key"
    assert server.http.get("/v1/models").status_code == 401
    assert server.http.get("/metrics").status_code == 401
    assert server.http.get("/health").status_code == 200
    assert server.client(key="schlüssel".encode().hex()).models.list().data[0].id == "tiny"


def fail_once(engine, error):
    """The engine's next token is an error instead."""

    def fail(writing):
        del engine._write_tokens
        raise error

    engine._write_tokens = fail


def test_an_engine_that_fails_once_fails_its_requests_and_goes_on(start, caplog):
    server = start()
    fail_once(server.engine, RuntimeError("no memory"))
    with pytest.raises(openai.InternalServerError) as caught:
        server.openai.completions.create(model="tiny", prompt="the secret text")
    assert caught.value.body["code"] == "internal_error"
    assert "no memory" in caplog.text
    assert "in fail" in caplog.text
    assert "secret" not in caplog.text
    assert server.http.get("/health").status_code == 200
    assert server.openai.completions.create(model="tiny", prompt="x", max_tokens=1).usage.completion_tokens == 1
    fail_once(server.engine, RuntimeError("no memory"))
    stream = server.openai.completions.create(model="tiny", prompt="x", stream=True)
    with pytest.raises(openai.APIError):
        list(stream)
    assert server.is_idle()


def test_those_that_wait_outlive_a_failure_of_those_that_run(long):
    running = [post(long, long.body) for _ in range(2)]
    wait_until(lambda: long.engine.running == 2)
    waiting = post(long, long.body | {"max_tokens": 3})
    wait_until(lambda: len(long.admission.thread._waiting) == 1)
    fail_once(long.engine, RuntimeError("no memory"))
    assert [status(connection) for connection in running] == [500, 500]
    assert status(waiting) == 200


class Panic(BaseException):
    """As pyo3 raises them."""


def test_a_panic_in_the_engine_is_told_and_leaves_nobody_waiting(long):
    connections = [post(long, long.body) for _ in range(3)]
    wait_until(lambda: long.engine.running == 2 and len(long.admission.thread._waiting) == 1)
    fail_once(long.engine, Panic())
    assert [status(connection) for connection in connections] == [500, 500, 503]
    assert long.http.get("/health").status_code == 503


def test_a_broken_engine_is_told_by_health_and_to_all_who_ask(start):
    server = start()

    def fail():
        raise RuntimeError("broken for good")

    server.engine.step = fail
    for _ in range(3):
        with pytest.raises(openai.InternalServerError):
            server.openai.completions.create(model="tiny", prompt="x")
    assert server.http.get("/health").status_code == 503
    with pytest.raises(openai.InternalServerError) as caught:
        server.openai.completions.create(model="tiny", prompt="x")
    assert caught.value.status_code == 503


def test_a_fault_in_the_worker_itself_is_told_and_leaves_nobody_waiting(start, monkeypatch, caplog):
    server = start()
    monkeypatch.setattr("crawl2chat.serve.engine_thread.GenerationRequest.next_delta", lambda _: 1 / 0)
    with pytest.raises(openai.InternalServerError):
        server.openai.completions.create(model="tiny", prompt="x")
    assert server.http.get("/health").status_code == 503
    assert "ZeroDivisionError" in caplog.text


def test_nothing_of_a_conversation_is_logged(server, caplog):
    caplog.set_level(logging.DEBUG, "crawl2chat")
    caplog.set_level(logging.DEBUG, "uvicorn")
    secret = "aardvark"
    messages = [{"role": "user", "content": secret}]
    server.openai.chat.completions.create(model="tiny", messages=messages, max_tokens=3)
    server.http.post(f"/v1/completions?q={secret}", json={"prompt": [secret, 5]})
    server.http.get(f"/{secret}")
    server.http.post("/v1/completions", content=b'{"prompt": "' + secret.encode())
    assert "/v1/chat/completions" in caplog.text
    assert secret not in caplog.text


def test_long_silences_are_broken_by_comments(start, tokenizer):
    server = start(ping_seconds=0.1)
    step = server.engine.step

    def slow():
        time.sleep(0.35)
        return step()

    server.engine.step = slow
    body = {"model": "tiny", "prompt": "The", "max_tokens": 3, "temperature": 0, "stream": True}
    with server.http.stream("POST", "/v1/completions", json=body) as response:
        received = response.read()
    assert received.count(b": ping\n\n") >= 2
    server.engine.step = slow
    events = list(server.openai.completions.create(**body))
    assert events[-1].choices[0].finish_reason is not None


def test_an_event_is_one_line_of_json_whatever_the_text_holds(server, tokenizer):
    """Line ends of any kind within an event would end it."""
    for text in ("a\nb\r\nc\n\n", "data: x\n\ndata: [DONE]\n\n", "\u2028\u2029\x85\x0b\x0c", "東🙂"):
        body = {"model": "tiny", "prompt": text, "echo": True, "max_tokens": 8, "seed": 1, "stream": True}
        response = server.post("/v1/completions", body)
        assert response.headers["content-type"].startswith("text/event-stream")
        *events, done, rest = response.content.split(b"\n\n")
        assert (done, rest) == (b"data: [DONE]", b"")
        chunks = [json.loads(event.removeprefix(b"data: ")) for event in events]
        assert all(event.startswith(b"data: ") and b"\n" not in event and b"\r" not in event for event in events)
        streamed = "".join(choice["text"] for chunk in chunks for choice in chunk["choices"])
        assert streamed == server.post("/v1/completions", body | {"stream": False}).json()["choices"][0]["text"]
        assert streamed.startswith(text)


def test_closing_lets_running_answers_end_and_refuses_new_ones(start):
    server = start(grace=20, context=512)
    stream = server.openai.completions.create(model="tiny", prompt="The", max_tokens=300, seed=3, stream=True)
    first = next(stream)
    server.server._loop.call_soon_threadsafe(server.server.close)
    wait_until(lambda: server.admission.closed)
    if server.admission.open:
        with pytest.raises((openai.InternalServerError, openai.APIConnectionError)) as caught:
            server.client().completions.create(model="tiny", prompt="x")
        if isinstance(caught.value, openai.InternalServerError):
            assert caught.value.status_code == 503
    assert list(stream)[-1].choices[0].finish_reason is not None
    assert first.choices[0].finish_reason is None
    server.thread.join(10)
    assert not server.thread.is_alive()


def test_what_has_not_ended_in_time_is_told_so(long):
    long.server.grace = 0.2
    answers = []

    def ask():
        try:
            list(long.openai.completions.create(**long.body, stream=True))
        except openai.APIError as error:
            answers.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    wait_until(lambda: long.engine.running == 1)
    long.server._loop.call_soon_threadsafe(long.server.close)
    asking.join(10)
    assert answers[0].body["code"] == "shutting_down"
    long.thread.join(10)
    assert not long.thread.is_alive()


def test_who_never_reads_is_hung_up_on(long, monkeypatch):
    monkeypatch.setattr(middleware, "UNREAD_SECONDS", 0.2)
    hung_up, hang_up = [], middleware.Protocol._hang_up
    monkeypatch.setattr(middleware.Protocol, "_hang_up", lambda self: hung_up.append(hang_up(self)))
    reader = socket.socket()
    reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    reader.connect(("127.0.0.1", long.port))
    body = json.dumps({"prompt": "x " * 500_000, "return_token_strs": True}).encode()
    reader.sendall(f"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
    head = reader.recv(4096)
    wait_until(lambda: hung_up)
    received = len(head)
    with contextlib.suppress(ConnectionResetError):
        while part := reader.recv(1 << 20):
            received += len(part)
    assert received < int(re.search(rb"content-length: (\d+)", head)[1])


def test_metrics_count_requests_tokens_and_times(start):
    server = start()
    server.openai.completions.create(model="tiny", prompt=[5, 6, 7], max_tokens=4, temperature=0)
    with pytest.raises(openai.BadRequestError):
        server.openai.completions.create(model="tiny", prompt="x", n=0)
    lines = dict(line.rsplit(" ", 1) for line in server.http.get("/metrics").text.splitlines() if line[0] != "#")
    assert lines['crawl2chat_requests_total{outcome="ok",route="/v1/completions"}'] == "1.0"
    assert lines['crawl2chat_requests_total{outcome="refused",route="/v1/completions"}'] == "1.0"
    assert lines["crawl2chat_prompt_tokens_total"] == "3.0"
    generated = float(lines["crawl2chat_generated_tokens_total"])
    assert 1 <= generated <= 4
    assert lines["crawl2chat_first_token_seconds_count"] == "1.0"
    assert float(lines["crawl2chat_between_tokens_seconds_count"]) == generated - 1
    assert lines["crawl2chat_running"] == lines["crawl2chat_waiting"] == "0.0"


def test_a_hundred_connections_that_say_nothing_block_nobody(server):
    connections = [server.connect() for _ in range(100)]
    assert server.openai.completions.create(model="tiny", prompt="x", max_tokens=2).usage.completion_tokens >= 1
    for connection in connections:
        connection.close()


def test_a_slow_reader_delays_nobody(long):
    reader = socket.socket()
    reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    reader.connect(("127.0.0.1", long.port))
    body = json.dumps(long.body | {"stream": True, "logprobs": 20}).encode()
    reader.sendall(
        f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    )
    wait_until(lambda: long.engine.running == 1)
    answer = httpx.post(f"{long.url}/v1/completions", json=BODY | {"max_tokens": 20}, timeout=300)
    assert answer.status_code == 200
    reader.close()
    wait_until(long.is_idle)
