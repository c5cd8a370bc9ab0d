"""Clients in a browser: addresses that end with a slash, and pages of other origins (the Fetch standard's CORS)."""

import json

import httpx
import pytest
from waiting import wait_until

from crawl2chat.serve import middleware
from crawl2chat.serve.middleware import read_origin
from crawl2chat.serve.server import check_origins
from crawl2chat.stages.files import StageError

PAGE = "https://chat.example"
OTHER = "https://evil.example"
BODY = {"prompt": "x", "max_tokens": 2}
PREFLIGHT = {
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization,content-type,x-stainless-os",
}


def cors(response):
    return {name: value for name, value in response.headers.items() if name.startswith("access-control")}


def preflight(server, origin, path="/v1/chat/completions", **headers):
    return server.http.options(path, headers={"Origin": origin, **PREFLIGHT, **headers})


@pytest.fixture(scope="module")
def shut(server):
    """A server that no origin was allowed for."""
    return server


@pytest.fixture
def opened(start):
    return start(key="s3cret", origins=[PAGE, "http://localhost:3000"])


def test_every_route_may_end_with_a_slash(server):
    for path in ("/v1/models", "/v1/models/tiny", "/health", "/metrics", "/tokenizer_info"):
        plain, slash = server.http.get(path), server.http.get(path + "/")
        assert slash.status_code == plain.status_code == 200, path
        assert path == "/metrics" or slash.json() == plain.json()
    for path, body in (("/v1/completions", BODY), ("/tokenize", {"prompt": "x"}), ("/detokenize", {"tokens": [1]})):
        assert server.post(path + "/", body).status_code == 200
    assert server.http.get("/").status_code == 404
    assert server.http.get("/v1/nothing/").status_code == 404


def test_health_with_a_slash_needs_no_key_and_models_do(opened):
    assert opened.http.get("/health/").status_code == 200
    assert opened.http.get("/v1/models/").status_code == 401


def test_without_the_option_no_page_hears_anything(shut):
    for origin in (PAGE, "http://localhost:3000"):
        asked = preflight(shut, origin)
        assert asked.status_code in (403, 405)
        assert not cors(asked)
        assert not cors(shut.http.get("/v1/models", headers={"Origin": origin}))
    assert shut.http.post("/v1/completions", json=BODY, headers={"Origin": PAGE}).status_code == 403


def test_a_preflight_is_answered_before_any_key(opened):
    for origin in (PAGE, "http://localhost:3000"):
        answer = preflight(opened, origin, **{"Access-Control-Request-Private-Network": "true"})
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == origin
        assert answer.headers["access-control-allow-private-network"] == "true"
        assert "POST" in answer.headers["access-control-allow-methods"]
        assert answer.headers["access-control-allow-headers"] == PREFLIGHT["Access-Control-Request-Headers"]
        assert "access-control-allow-credentials" not in answer.headers
        assert "Origin" in answer.headers["vary"]


def test_answers_streams_and_errors_can_be_read_by_an_allowed_page(opened):
    headers = {"Origin": PAGE, "Authorization": "Bearer s3cret"}
    whole = opened.http.post("/v1/completions", json=BODY, headers=headers)
    assert whole.status_code == 200
    with opened.http.stream("POST", "/v1/completions", json=BODY | {"stream": True}, headers=headers) as streamed:
        assert streamed.read().endswith(b"data: [DONE]\n\n")
    refused = [
        opened.http.post("/v1/completions", json=BODY, headers={"Origin": PAGE}),
        opened.http.post("/v1/completions", content=b"{", headers=headers),
        opened.http.post("/v1/completions", content=b"x" * 5_000_000, headers=headers),
        opened.http.get("/v1/nothing", headers=headers),
        opened.http.get("/health", headers=headers | {"Host": "evil.example"}),
    ]
    assert [answer.status_code for answer in refused] == [401, 400, 413, 404, 403]
    for answer in (whole, streamed, *refused):
        assert answer.headers["access-control-allow-origin"] == PAGE
        assert "Retry-After" in answer.headers["access-control-expose-headers"]


def test_a_failure_can_be_read_too(opened, monkeypatch):
    async def fail(*_):
        raise RuntimeError("broken")

    monkeypatch.setattr(middleware, "read_body", fail)
    answer = opened.http.post("/v1/completions", json=BODY, headers={"Origin": PAGE})
    assert answer.status_code == 500
    assert answer.headers["access-control-allow-origin"] == PAGE


def test_other_pages_stay_out(opened):
    assert preflight(opened, OTHER).status_code == 400
    for origin in (
        OTHER,
        "http://chat.example",
        "https://chat.example:444",
        "https://chat.example.evil.example",
        "null",
    ):
        answer = opened.http.post(
            "/v1/completions", json=BODY, headers={"Origin": origin, "Authorization": "Bearer s3cret"}
        )
        assert answer.status_code == 403, origin
        assert "access-control-allow-origin" not in answer.headers
        assert "--allow-origin" in answer.json()["error"]["message"]


def test_a_star_lets_every_page_ask_but_not_without_the_key(start):
    server = start(key="s3cret", origins=["*"])
    for origin in (OTHER, "null"):
        assert preflight(server, origin).headers["access-control-allow-origin"] == "*"
        assert server.http.get("/v1/models", headers={"Origin": origin}).status_code == 401
        answer = server.http.get("/v1/models", headers={"Origin": origin, "Authorization": "Bearer s3cret"})
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == "*"


def test_preflights_are_counted_and_logged_like_other_requests(opened):
    preflight(opened, PAGE)
    labels = {"route": "/v1/chat/completions", "outcome": "ok"}
    counted = opened.admission.metrics.registry.get_sample_value
    wait_until(lambda: counted("crawl2chat_requests_total", labels) == 1)


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("http://localhost:3000", "http://localhost:3000"), ("HTTP://LocalHost:3000/", "http://localhost:3000"),
        ("https://chat.example:443", "https://chat.example"), ("http://chat.example:80/", "http://chat.example"),
        ("http://chat.example:443", "http://chat.example:443"), ("http://[::1]:8080", "http://[::1]:8080"),
        ("chrome-extension://abcdef", "chrome-extension://abcdef"), ("*", "*"),
    ],
)  # fmt: skip
def test_origins_are_what_browsers_send(given, sent):
    assert read_origin(given) == sent


@pytest.mark.parametrize("given", ["localhost:3000", "chat.example", "https://a.example/path", "null", "", "https://*.example",
                                   "http://a:b@c.example", "http://a.example:port", "http://["])  # fmt: skip
def test_what_is_not_an_origin_is_refused(given):
    with pytest.raises(StageError, match="serve --allow-origin .*: "):
        check_origins([given], None, False)


def test_all_origins_need_a_key_or_somebody_who_says_that_they_do_not():
    with pytest.raises(StageError, match="name the origins, give --key-variable NAME, or say --no-key"):
        check_origins(["*"], None, False)
    assert check_origins(["*"], "key", False) == check_origins(["*"], None, True) == ["*"]


def test_a_browsers_client_goes_through_all_of_it(opened):
    """What fetch does for the page: it asks first, then lists the models and streams an answer."""
    page = httpx.Client(base_url=opened.url, headers={"Origin": PAGE, "Authorization": "Bearer s3cret"})
    with page:
        for path in ("/v1/models", "/v1/chat/completions"):
            assert preflight(opened, PAGE, path).status_code == 200
        name = page.get("/v1/models/").json()["data"][0]["id"]
        asked = {"model": name, "messages": [{"role": "user", "content": "Hello"}], "stream": True, "max_tokens": 3,
                 "stream_options": {"include_usage": True}, "stop": None, "seed": 1}  # fmt: skip
        with page.stream("POST", "/v1/chat/completions/", json=asked) as answer:
            events = [line[6:] for line in answer.iter_lines() if line.startswith("data: ")]
    assert events[-1] == "[DONE]"
    assert json.loads(events[-2])["usage"]["completion_tokens"] > 0
