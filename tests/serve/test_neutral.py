"""Fields that other servers know: let through where they change nothing, refused by name where they would."""

import json

import openai
import pytest

from crawl2chat.serve.api.neutral import ANY, CHAT_NEUTRAL, NEUTRAL, OTHER_NAMES
from crawl2chat.serve.api.requests import ChatRequest, CompletionRequest, DetokenizeRequest, TokenizeRequest

QUESTION = [{"role": "user", "content": "Who counted the mills?"}]
CHAT = {"messages": QUESTION, "seed": 3, "max_tokens": 6}
COMPLETION = {"prompt": "The", "seed": 3, "max_tokens": 6}
REQUIRED = {"messages", "prompt", "tokens"}
ROUTES = [("/v1/chat/completions", CHAT, ChatRequest, CHAT_NEUTRAL),
          ("/v1/completions", COMPLETION, CompletionRequest, NEUTRAL)]  # fmt: skip


def text(response):
    assert response.status_code == 200, response.text
    choice = response.json()["choices"][0]
    return choice["text"] if "text" in choice else choice["message"]["content"]


@pytest.mark.parametrize(("route", "body", "kind", "neutral"), ROUTES)
def test_neutral_values_change_nothing(server, route, body, kind, neutral):
    alone = text(server.post(route, body))
    fields = [name for name in neutral if name not in kind.model_fields]
    values = {name: [[5] if value is ANY else value for value in neutral[name]] for name in fields}
    given = [(name, value) for name in fields for value in values[name]]
    assert len(given) > 100
    for start in range(0, len(given), 40):  # an object may have a hundred fields
        assert text(server.post(route, body | dict(given[start : start + 40]))) == alone


@pytest.mark.parametrize(("route", "body", "kind", "neutral"), ROUTES)
def test_null_is_a_field_that_was_not_sent(server, route, body, kind, neutral):
    alone = text(server.post(route, body))
    nulls = dict.fromkeys(["foo", *sorted(kind.model_fields.keys() - REQUIRED - body.keys())])
    assert text(server.post(route, nulls | body)) == alone
    for name in neutral.keys() - kind.model_fields.keys():
        kind.model_validate(body | {name: None})


def test_null_is_let_through_on_every_route_and_inside(server):
    for kind, body in ((TokenizeRequest, {"prompt": "a"}), (DetokenizeRequest, {"tokens": [1]})):
        assert kind.model_validate(body | {"foo": None}) == kind.model_validate(body)
    stream = {"stream": True, "stream_options": {"include_usage": None, "continuous_usage_stats": False, "foo": None}}
    assert server.post("/v1/completions", COMPLETION | stream).status_code == 200
    tool = {"type": "function", "function": {"name": "f", "description": None, "strict": None}}
    assert text(server.post("/v1/chat/completions", CHAT | {"tools": [tool], "tool_choice": "none"})) == text(
        server.post("/v1/chat/completions", CHAT)
    )


@pytest.mark.parametrize(
    "field",
    [
        {"best_of": 1}, {"n": 2, "best_of": 2}, {"stop": ""}, {"stop": []}, {"logit_bias": {}}, {"top_k": -1},
        {"top_k": 0}, {"min_p": 0}, {"repetition_penalty": 1}, {"presence_penalty": 0}, {"n": 1}, {"stream": False},
        {"tools": []}, {"tool_choice": "auto"}, {"tool_choice": "none"}, {"parallel_tool_calls": True},
        {"length_penalty": 1.0},
        {"chat_template_kwargs": {"enable_thinking": False}},
        {"response_format": {"type": "text", "json_schema": None}}, {"logprobs": False, "top_logprobs": 0},
        {"stream_options": {}}, {"store": True}, {"user": "me"}, {"n_predict": -1},
    ],
)  # fmt: skip
def test_a_chat_with_fields_at_their_usual_values_is_the_same_chat(server, field):
    assert text(server.post("/v1/chat/completions", CHAT | field)) == text(server.post("/v1/chat/completions", CHAT))


@pytest.mark.parametrize(
    ("field", "told"),
    [
        ({"min_tokens": 5}, "min_tokens = 5: not supported by this server"),
        ({"ignore_eos": True}, "ignore_eos = true: not supported"),
        ({"ignore_eos": 0}, "ignore_eos = 0: not supported"),
        ({"min_tokens": False}, "min_tokens = false: not supported"),
        ({"best_of": 3}, "best_of = 3: not supported beyond n = 1"),
        ({"guided_json": {"type": "object"}}, "guided_json = "),
        ({"chat_template_kwargs": {"enable_thinking": True}}, "chat_template_kwargs = "),
        ({"response_format": {"type": "json_schema", "json_schema": {}}}, "response_format = "),
        (
            {"repeat_penalty": 1.1},
            "repeat_penalty = 1.1: not supported by this server; did you mean repetition_penalty?",
        ),
        ({"n_predict": 20}, "did you mean max_tokens?"),
        ({"random_seed": 3}, "random_seed: no such field; did you mean seed?"),
        ({"max_token": 3}, "max_token: no such field; did you mean max_tokens?"),
        ({"stream_options": {"continuous_usage_stats": True}}, "continuous_usage_stats = true"),
        ({"functions": [{"name": "f"}]}, "functions = "),
        ({"mirostat": 2}, "mirostat = 2"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, 'tools.0.name = "a b": expected at most 64'),
        ({"tools": [{"type": "function", "function": {"name": "f", "parameters": 5}}]}, "tools.0.parameters = 5"),
        ({"tools": ["search"]}, 'tools.0 = "search": expected'),
        ({"messages": ["hello"]}, 'messages.0 = "hello": expected an object'),
    ],
)
def test_what_would_change_the_answer_is_refused_by_name(server, field, told):
    response = server.post("/v1/chat/completions", CHAT | field)
    assert response.status_code == 400
    error = response.json()["error"]
    assert told in error["message"]
    assert error["param"]


def test_a_byte_order_mark_before_the_body_is_passed_over(server):
    marked = b"\xef\xbb\xbf" + json.dumps(COMPLETION).encode()
    assert text(server.http.post("/v1/completions", content=marked)) == text(server.post("/v1/completions", COMPLETION))


def test_names_that_others_use_lead_to_fields_of_ours():
    for name, ours in OTHER_NAMES.items():
        assert ours in ChatRequest.model_fields
        assert name not in ChatRequest.model_fields


def test_minus_one_is_as_many_tokens_as_fit(server):
    whole = server.openai.chat.completions.create(model="tiny", messages=QUESTION, seed=3)
    for name in ("max_tokens", "max_completion_tokens"):
        same = server.openai.chat.completions.create(model="tiny", messages=QUESTION, seed=3, **{name: -1})
        assert same.choices[0].message.content == whole.choices[0].message.content
    long = server.openai.completions.create(model="tiny", prompt="The", seed=3, max_tokens=-1)
    assert long.usage.completion_tokens > 16
    with pytest.raises(openai.BadRequestError):
        server.openai.completions.create(model="tiny", prompt="The", max_tokens=-2)


def test_messages_are_read_as_those_of_files_are(server):
    parts = [{"type": "text", "text": "Who counted "}, {"type": "text", "text": "the mills?"}]
    for message in (
        {"role": "user", "content": parts, "name": "Bo"},
        {"role": "user", "content": parts, "weight": None},
    ):
        assert text(server.post("/v1/chat/completions", CHAT | {"messages": [message]})) == text(
            server.post("/v1/chat/completions", CHAT)
        )
    refused = {"role": "assistant", "content": None, "refusal": "No.", "audio": None, "reasoning_content": "Hm."}
    said = {"role": "assistant", "content": "No."}
    ids = [server.post("/tokenize", {"messages": [*QUESTION, m]}).json()["tokens"] for m in (refused, said)]
    assert ids[0] == ids[1]


@pytest.mark.parametrize("field", [{"prefix": True}, {"partial": True}, {"images": ["aGk="]}])
def test_a_message_that_would_mean_something_else_is_refused_by_the_field_that_says_so(server, field):
    (name,) = field
    message = {"role": "assistant", "content": "The mills were", **field}
    response = server.post("/v1/chat/completions", CHAT | {"messages": [*QUESTION, message]})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == f"messages.1.{name}"
    unset = {**message, name: type(field[name])()}
    assert server.post("/v1/chat/completions", CHAT | {"messages": [*QUESTION, unset]}).status_code == 200


@pytest.mark.parametrize("path", ["/v1/models/", "//v1/models", "/v1//models", "/v1/models//"])
def test_slashes_too_many_are_passed_over(server, path):
    assert server.http.get(f"http://127.0.0.1:{server.port}{path}").json()["data"][0]["id"] == "tiny"


def test_slashes_too_many_open_no_door(start):
    server = start(key="secret")
    for path in ("//v1/models", "/health//v1/models", "/v1/models/"):
        answer = server.http.get(f"http://127.0.0.1:{server.port}{path}", headers={"Authorization": "Bearer wrong"})
        assert answer.status_code in (401, 404)
